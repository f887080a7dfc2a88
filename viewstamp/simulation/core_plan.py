"""What one fuzzer run is made of, drawn swarm style: most runs have only some kinds of faults, some have none.

(Groce et al., "Swarm Testing", ISSTA 2012: a run in which everything fails all the time never gets deep.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from viewstamp.protocol import MILLISECOND, Configuration, Limits, Timeouts


class Fault(StrEnum):
    """What can befall a cluster."""

    CRASH = "crash"
    CRASH_PRIMARY = "crash primary"
    CRASH_ALL = "crash all"
    LOSE_DISK = "lose disk"
    CUT = "one-way cut"
    PARTITION = "partition"
    ISOLATE = "isolate a member"
    ISOLATE_PRIMARY = "isolate the primary"
    PAUSE = "pause"
    STALL_DISK = "stall a disk"
    REPLAY = "replay old messages"
    RESIGN = "resign"
    DEPOSE = "cut the primary off until it is deposed"
    STRAND_LOST_DISK = "lose a disk; only a few are in reach afterwards"
    CAROUSEL = "cut off each primary soon after it begins, and let the one before come back"
    FORGET_PROMISE = "lose a disk just after a promise, which then takes long to arrive"


class Ailment(StrEnum):
    """What still ails a member when all others are healed already."""

    DOWN = "down"
    DEAF = "hears nobody"
    MUTE = "heard by nobody"
    ISOLATED = "cut off"
    TORN = "cut off from some, either way"
    BRIDGED = "cut off from the primary"
    FLAPPING = "hears nobody, now and again"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run's cluster, load and faults. Times in nanoseconds, chances in per mille.

    `ailments`: when the faults end, so many members, a minority, are not healed at first; the others must serve without
    them, and undisturbed by them. `late_ailments`: only once all are healed and at rest. `parting_resign`: the primary
    resigns just then.
    """

    configuration: Configuration
    faults: tuple[Fault, ...]
    fault_phase: int
    fault_gap: int
    fault_length: int
    restart_after: int
    delay: int
    tail_chance: int
    tail: int
    loss_chance: int
    duplicate_chance: int
    write_delay: int
    gather: int
    reveal_crash_chance: int
    begin_crash_chance: int
    echo_chance: int
    clients: int
    outstanding: int
    think: int
    retry: int
    read_chance: int
    ailments: tuple[Ailment, ...]
    late_ailments: bool
    parting_resign: bool

    @property
    def patience(self) -> int:
        """How long after the faults have ended everything must be served and alike: 20 suspect time-outs."""
        return 20 * self.configuration.timeouts.suspect


_STORIES = (Fault.PAUSE, Fault.DEPOSE, Fault.CAROUSEL, Fault.STRAND_LOST_DISK, Fault.FORGET_PROMISE)
"""Each can be all that befalls a run: what it builds up takes long, and other faults undo it."""
_SIZES = (1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5, 6, 7)


def draw_plan(random: Random) -> Plan:
    """Draw a run."""
    members = random.choice(_SIZES)
    suspect = random.choice((100, 200, 300)) * MILLISECOND
    timeouts = Timeouts(
        heartbeat=suspect // random.choice((3, 4, 6)),
        suspect=suspect,
        jitter=suspect // random.choice((3, 5)),
        retry=suspect // random.choice((4, 6)),
    )
    limits = Limits(
        page_bytes=random.choice((1024, 65536)),
        page_entries=random.choice((6, 24, 64)),
        pipeline_entries=random.choice((8, 64, 1024)),
        pipeline_bytes=1 << 20,
    )
    offsets = random.randrange(3)
    configuration = Configuration(tuple(1 + offsets + number for number in range(members)), timeouts, limits)
    kinds = list(Fault)
    calm = random.randrange(20) == 0
    share = random.choice((2, 4, 6))
    mixed = tuple(kind for kind in kinds if random.randrange(10) < share)
    story = random.choice(_STORIES)
    faults = () if calm else (story,) if random.randrange(4) == 0 else mixed
    return Plan(
        configuration=configuration,
        faults=faults,
        fault_phase=random.choice((8, 12, 16)) * suspect,
        fault_gap=suspect * random.choice((1, 2, 4)) // 4,
        fault_length=suspect * random.choice((1, 3, 6)) // 2,
        restart_after=suspect * random.choice((1, 2, 8)) // 4,
        # A member that lost all fetches page by page: with small pages over a slow network, for too long.
        delay=suspect // max(random.choice((1000, 200, 50, 20)), 100 if limits.page_entries < 10 else 0),
        tail_chance=0 if calm else random.choice((0, 0, 20, 100, 300)),
        tail=suspect * random.choice((1, 2, 6)),
        loss_chance=0 if calm else random.choice((0, 0, 10, 50, 200)),
        duplicate_chance=0 if calm else random.choice((0, 0, 0, 50, 900)),
        write_delay=suspect // random.choice((1000, 300, 60, 20)),
        gather=random.choice((0, 0, suspect // 300, suspect // 60)),
        reveal_crash_chance=0 if calm else random.choice((0, 0, 2, 8, 20)),
        begin_crash_chance=0 if calm else random.choice((0, 20, 200)),
        echo_chance=0 if calm else random.choice((0, 200, 800)),
        clients=random.randint(1, 6),
        outstanding=random.choice((1, 3, 8)),
        think=suspect // random.choice((4, 10, 30)),
        retry=suspect * random.choice((1, 2, 4)) // 2,
        read_chance=random.choice((0, 100, 400)),
        ailments=() if calm else _draw_ailments(random, members - configuration.quorum),
        late_ailments=random.randrange(2) == 0,
        parting_resign=random.randrange(4) == 0,
    )


def _draw_ailments(random: Random, at_most: int) -> tuple[Ailment, ...]:
    kinds = (*Ailment, Ailment.DEAF, Ailment.FLAPPING)
    return tuple(random.choice(kinds) for _ in range(min(at_most, random.choice((0, 1, 1, 1, 2, 3)))))
