"""One run: what a seed draws, played to its end, and what became of it."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import assert_never

from statemachine import KeyValueStore, StateMachine
from viewstamp.protocol import SECOND, InvariantError
from viewstamp.simulation.bulky import BulkyStore
from viewstamp.simulation.kv_load import KeyValueLoad
from viewstamp.simulation.ledger import Ledger
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.load import Load, Operation
from viewstamp.simulation.machine_load import MachineLoad
from viewstamp.simulation.network import FuzzNetwork
from viewstamp.simulation.plan import Fault
from viewstamp.simulation.script import Act, Answered, Befall, Burst, Heal, Pass, Script, Start, Weather, draw_script
from viewstamp.simulation.stories import Stories
from viewstamp.simulation.timeline import MOST_EVENTS
from viewstamp.simulation.trio_world import TrioWorld
from viewstamp.simulation.verdict import Kind, Violation, ViolationError
from viewstamp.simulation.world import World

WORLDS: Mapping[str, type[World]] = {"heap": World, "trio": TrioWorld}
"""What carries out a run, by the name that scripts give it: events on a heap, or the Trio shell."""

_CLIENT_PAUSE = SECOND
"""A client that has found nobody for long pauses for up to this between two retries; no cluster can answer sooner."""

_LOADS: dict[type[StateMachine], type[Load]] = {
    Ledger: LedgerLoad,
    KeyValueStore: KeyValueLoad,
    BulkyStore: KeyValueLoad,
}


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a seed. `violation` None: nothing was wrong.

    `digest` is over all datagrams and when they were sent: equal for equal seeds, in any process. `views` is how many
    views (or terms) had a primary, `restarts` how often a member was started again. The healed core had answered
    everything after `served_after_ns`. `begun_ns` tells when each act began, as far as the run came. `counts`
    tells by name how often each fault befell the cluster and each rule or rare branch was reached. `story` are the last
    events that matter.
    """

    seed: int
    protocol: str
    shell: str
    plan: str
    violation: Violation | None
    digest: str
    events: int
    simulated_ns: int
    commits: int
    views: int
    restarts: int
    served_after_ns: int
    begun_ns: tuple[int, ...]
    counts: Mapping[str, int]
    story: tuple[str, ...]
    traceback: str
    history: tuple[Operation, ...]


class Run:
    """The world that a script describes, and its three phases: faults, a healed core that must serve, a final scan."""

    def __init__(self, script: Script, machine: type[StateMachine] | None = None) -> None:
        self.script = script
        self.plan = plan = script.plan
        machine = machine or ((BulkyStore if plan.bulky else KeyValueStore) if plan.store else Ledger)
        self._network = network = FuzzNetwork(Random(f"network {script.seed}"))
        self.world = world = WORLDS[script.shell](
            script.seed,
            members=plan.members,
            protocol=script.protocol,
            machine=machine,
            network=network,
            disk=plan.disk,
            segment_bytes=plan.segment_bytes,
            room_bytes=plan.room_bytes,
            collect_bytes=plan.collect_bytes,
        )
        world.cluster = replace(
            world.cluster,
            timeouts=plan.timeouts,
            limits=plan.limits,
            datagram_bytes=plan.datagram_bytes,
            snapshot_entries=plan.snapshot_entries,
            max_sessions=plan.max_sessions,
            window=plan.window,
            max_command_bytes=min(plan.limits.page_bytes, 64 * 1024),
        )
        world.watch.most_sessions = plan.max_sessions
        world.gathered = plan.gathered
        if script.shell == "heap":  # The Trio shell's replicas have no such option.
            world.max_reply_bytes = plan.reply_bytes
        for node, rate in zip(world.nodes.values(), plan.clock_rates, strict=False):
            node.clock.set_rate(rate, world.now)
        for node, ahead in zip(world.nodes.values(), plan.clocks_ahead, strict=False):
            node.clock.ahead = ahead
        self.load: Load | None = None
        self.served_after = 0
        self.begun: list[int] = []  # when each act began, so far
        self._machine = machine

    def play(self) -> None:
        """Play it. Raises ViolationError, and whatever the code under test raises."""
        world, plan = self.world, self.plan
        load_class = _LOADS.get(self._machine, MachineLoad)
        world.start_all()
        self.load = load = load_class(world, plan.clients, plan.habits)
        faults = Stories(world, self._network, load, Random(f"faults {self.script.seed}"))
        for act in self.script.acts:
            self.begun.append(world.now)
            self._do(act, faults)
        self._serve_with_core(faults)
        faults.heal()
        faults.start_again(faults.members)
        load.agree([member for member in faults.members if member not in faults.gone], plan.patience)

    def _do(self, act: Act, faults: Stories) -> None:
        world, load = self.world, faults.load
        match act:
            case Befall(fault, draw):
                faults.remember_data()
                faults.draw = Random(draw)
                faults.befall(fault)
            case Burst(client, calls):
                load.burst(load.clients[client % len(load.clients)], calls)
            case Pass(ns):
                world.run_for(ns)
            case Answered(answers):
                world.run_until(lambda: load.answered >= answers, 5 * SECOND)
            case Start(members):
                faults.start_again(members)
            case Heal():
                faults.heal()
            case Weather():
                self._network.faults, self._network.tail = self.plan.weather, self.plan.tail
            case _:
                assert_never(act)

    def _serve_with_core(self, faults: Stories) -> None:
        """A majority that has its data, or more, is healed; the others hear nothing of it any more. It must serve.

        At times it hears them, its primary of just before if possible, which would keep it waiting for ever if it went
        on with its heartbeats. And at times only a bare majority has quick disks.
        """
        world, load, script = self.world, faults.load, self.script
        draw = Random(f"core {script.seed}")
        faults.end()
        faults.remember_data()
        members, quorum = faults.members, world.cluster.configuration.quorum
        able = [member for member in members if member not in faults.without_data]
        heard = draw.randrange(3) == 0
        if heard and len(able) > quorum and world.primary in able:
            able.remove(world.primary)
        core = set(draw.sample(able, quorum))
        everyone = script.heal_all or not faults.founded
        if not heard or everyone:
            core |= {member for member in members if (draw.randrange(2) or everyone) and member not in faults.gone}
        world.note(f"faults are over; the core is {sorted(core)}")
        outside = [member for member in members if member not in core]
        faults.separate(sorted(core), outside, both_ways=not heard)
        if not heard and draw.randrange(2):  # Else clients go on hearing those who cannot serve.
            for member in outside:
                world.network.isolate(faults.names[member])
        slow = draw.sample(sorted(core), len(core) - quorum) if draw.randrange(3) == 0 else []
        for member in slow:
            world.nodes[member].hang = world.cluster.timeouts.suspect * draw.randrange(3, 10) // 10
        faults.start_again(sorted(core))
        if faults.replaced:
            faults.await_founding()
        load.stopped = True
        load.forget_reads_at({*outside, *faults.gone})  # One that only now notices damage is gone, too.
        load.fresh()
        healed_at = world.now
        load.probe(self.plan.patience)
        load.serve(healed_at + self.plan.patience + _CLIENT_PAUSE - world.now)
        self.served_after = world.now - healed_at
        world.watch.counts["served by a core"] += len(core) < len(members)
        world.watch.counts["served by a core with slow disks"] += bool(slow)
        world.watch.counts["served by a core that hears the others"] += heard and len(core) < len(members)


def run_seed(
    seed: int,
    protocol: str,
    machine: type[StateMachine] | None = None,
    prepare: Callable[[World], None] | None = None,
    shell: str = "heap",
) -> Report:
    """Play what this seed draws: see `run_script`."""
    return run_script(draw_script(seed, protocol, shell), machine, prepare)


def run_script(
    script: Script,
    machine: type[StateMachine] | None = None,
    prepare: Callable[[World], None] | None = None,
    most_events: int = MOST_EVENTS,
) -> Report:
    """Play one run. Nothing that the code under test does is raised: it is in the report.

    Without a `machine` the script says whether that is the ledger or the key-value store. `prepare` may set an
    observer, before anything happens. More than `most_events` are a violation of liveness.
    """
    run = Run(script, machine)
    world = run.world
    world.most_events = most_events
    if prepare is not None:
        prepare(world)
    violation, trace = None, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run.play()
    except ViolationError as wrong:
        violation = wrong.violation
    except InvariantError as wrong:
        violation, trace = Violation(Kind.CRASH, "invariants inside", str(wrong)), traceback.format_exc()
    except Exception as wrong:  # noqa: BLE001  # any exception is a finding, and belongs into the report
        violation = Violation(Kind.CRASH, "no unhandled exception", f"{type(wrong).__name__}: {wrong}")
        trace = traceback.format_exc()
    report = _report(run, violation, trace)
    world.close()
    return report


def _report(run: Run, violation: Violation | None, trace: str) -> Report:
    world, load = run.world, run.load
    watch = world.watch
    for replica in world.running:
        watch.collect(replica)
    for name, times in world.network.statistics().items():
        watch.counts[f"network: {name}"] += times
    watch.counts["unknown outcomes"] += load.unknown if load is not None else 0
    return Report(
        seed=run.script.seed,
        protocol=run.script.protocol,
        shell=run.script.shell,
        plan=str(run.script),
        violation=violation,
        digest=world.digest,
        events=world.events,
        simulated_ns=world.now,
        commits=watch.committed,
        views=len(watch.leaders),
        restarts=watch.counts["restarts"],
        served_after_ns=run.served_after,
        begun_ns=tuple(run.begun),
        counts=MappingProxyType(dict(sorted((+watch.counts).items()))),
        story=tuple(f"{now / SECOND:10.6f} s  {text}" for now, text in watch.events),
        traceback=trace,
        history=tuple(load.history) if load is not None else (),
    )


def known_faults() -> tuple[str, ...]:
    """Everything that can befall a cluster, as `Report.counts` names it."""
    return tuple(f"fault: {fault}" for fault in Fault)
