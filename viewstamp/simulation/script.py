"""What is done in one run, act by act: all of it is data, so that a run can be played again with acts left out.

Each act draws what it needs from a generator of its own. Leaving one out changes nothing in what the others draw,
though it may change what they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from viewstamp.protocol import MILLISECOND
from viewstamp.simulation.plan import WEIGHTS, Fault, Plan, draw_plan

DRAW_BITS = 32
ONLY_DRAWN_FROM: dict[str, Any] = {
    "faults": (),
    "rounds": 0,
    "longest_burst": 0,
    "warm_up": 0,
    "rough_founding": False,
}
"""What a plan has only so that acts can be drawn: with acts it has these values, which mean nothing."""


@dataclass(frozen=True, slots=True)
class Befall:
    """A fault befalls the cluster; whom and how is drawn from `draw`."""

    fault: Fault
    draw: int


@dataclass(frozen=True, slots=True)
class Burst:
    """The client at this place, counted round, calls several times at once."""

    client: int
    calls: int


@dataclass(frozen=True, slots=True)
class Pass:
    """So many nanoseconds pass."""

    ns: int


@dataclass(frozen=True, slots=True)
class Answered:
    """Time passes until clients have been given so many answers, 5 seconds at most."""

    answers: int


@dataclass(frozen=True, slots=True)
class Start:
    """Those of these members that are down are started."""

    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heal:
    """Partitions, clogged links, hanging disks and pauses end."""


@dataclass(frozen=True, slots=True)
class Weather:
    """The network begins to lose, double and delay what the plan says."""


Act = Befall | Burst | Pass | Answered | Start | Heal | Weather


@dataclass(frozen=True, slots=True)
class Script:
    """All that one run is made of, beside the code.

    What no act draws for itself (what each link does to each datagram, how long each disk takes, what clients do) is
    drawn from `seed`, and so is the majority that is healed after the acts, unless `heal_all`. Members and clients run
    in the `shell` of this name, "heap" or "trio".
    """

    protocol: str
    seed: int
    plan: Plan
    acts: tuple[Act, ...]
    heal_all: bool = False
    shell: str = "heap"

    def __str__(self) -> str:
        plan = self.plan
        kinds = sorted({act.fault for act in self.acts if isinstance(act, Befall)}, key=list(Fault).index)
        machine = f" of a {'bulky ' if plan.bulky else ''}key-value store" if plan.store else ""
        return (
            f"{plan.members} members, {plan.clients} clients{machine}, "
            f"suspect {plan.timeouts.suspect // MILLISECOND} ms, {len(self.acts)} acts, of which "
            f"{sum(isinstance(act, Befall) for act in self.acts)} are faults: {', '.join(kinds) or 'none'}"
        )


def draw_script(seed: int, protocol: str, shell: str = "heap") -> Script:
    """What this seed draws; but for their names the same for every protocol and shell."""
    plan = draw_plan(seed)
    draw = Random(f"acts {seed}")
    acts = (*_founding(plan, draw), Answered(plan.warm_up), Weather(), *_trouble(plan, draw))
    return Script(protocol, seed, replace(plan, **ONLY_DRAWN_FROM), acts, shell=shell)


def _befall(draw: Random, faults: Sequence[Fault]) -> Befall:
    return Befall(draw.choice(faults), draw.getrandbits(DRAW_BITS))


_FOUNDING = (Fault.KILL, Fault.POWER, Fault.PLANNED, Fault.MIDWAY, Fault.PARTITION, Fault.NEW_MACHINE)


def _founding(plan: Plan, draw: Random) -> list[Act]:
    """Members fail as they are founded: their disks may not know of it."""
    if not plan.rough_founding:
        return []
    # At once, or all have been founded before.
    acts: list[Act] = [_befall(draw, (Fault.NEW_MACHINE,)) for _ in range(draw.randrange(3))]
    members = range(1, plan.members + 1)
    for _ in range(1 + draw.randrange(6)):
        acts.append(Pass(draw.randrange(20 * MILLISECOND)))
        acts.append(_befall(draw, _FOUNDING))
        acts.append(Start(tuple(member for member in members if draw.randrange(2))))
    return [*acts, Heal(), Start(tuple(members))]


def _trouble(plan: Plan, draw: Random) -> list[Act]:
    weighted = [fault for fault in plan.faults for _ in range(WEIGHTS.get(fault, 1))]
    acts: list[Act] = []
    for _ in range(plan.rounds):
        if weighted:
            acts.append(_befall(draw, weighted))
        if draw.randrange(2):
            acts.append(Burst(draw.randrange(plan.clients), 1 + draw.randrange(plan.longest_burst)))
        acts.append(Pass(draw.randrange(2 * plan.timeouts.suspect)))
        if draw.randrange(5) < 2:
            acts.append(Heal())
        acts.append(Start(tuple(member for member in range(1, plan.members + 1) if draw.randrange(3))))
    return acts
