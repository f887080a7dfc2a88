"""Hypothesis drives the pure protocols by rules: any message next, any crash between, and it shrinks what fails.

Nothing here is random but what Hypothesis chooses. Time is what the rules say it is, messages wait in a bag and arrive
in any order, twice or never, and a disk finishes its writes when a rule says so. The checkers that watch the fuzzer's
runs watch these.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.simulation.mutants import MUTANTS
from tests.simulation.raft_mutants import RAFT_MUTANTS
from tests.simulation.snapshot_mutants import SNAPSHOT_MUTANTS
from viewstamp.protocol import MILLISECOND, Configuration, Kind, Limits, Message, Proposal, Time, Timeouts
from viewstamp.simulation.checkers import Checkers, PropertyError
from viewstamp.simulation.member import SimulatedMember, Taken
from viewstamp.simulation.rules import RULES, ProtocolRules

TIMEOUTS = Timeouts(25 * MILLISECOND, 100 * MILLISECOND, 20 * MILLISECOND, 25 * MILLISECOND)
SMALL_PAGES = Limits(page_bytes=4096, page_entries=3, pipeline_entries=16)
IN_THE_BAG = 200
BOUNDED = settings(
    max_examples=40,
    stateful_step_count=60,
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

which = st.integers(0, 1 << 16)
few = st.frozensets(st.integers(1, 5), max_size=2)


class Protocol(RuleBasedStateMachine):
    """Members of one protocol; `seen_as` says which."""

    seen_as: ProtocolRules

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[SimulatedMember] = []
        self.bag: list[tuple[int, int, int, Message]] = []
        self.now = Time(0, 1_700_000_000_000_000_000)
        self.requests = 0
        self.reads = 0

    @initialize(size=st.sampled_from((3, 3, 4, 5)), seed=st.integers(0, 1 << 16), healthy=st.integers(0, 6))
    def found(self, size: int, seed: int, healthy: int) -> None:
        """They start blank; in most runs they have had some time to find a primary, and to serve."""
        configuration = Configuration(tuple(range(1, size + 1)), TIMEOUTS, SMALL_PAGES)
        founding = tuple(range(101, 101 + size))
        self.checkers = Checkers(configuration, self.seen_as)
        self.nodes = [
            SimulatedMember(self.seen_as.core, configuration, member, founding, Random(seed + member), self.checkers)
            for member in configuration.members
        ]
        self.checkers.members = {node.member: node for node in self.nodes}
        for node in self.nodes:
            node.start(self.now)
            self.collect(node)
        for _ in range(healthy):
            self.serve(seed, 1, frozenset())

    def any_node(self, choice: int) -> SimulatedMember:
        return self.nodes[choice % len(self.nodes)]

    def collect(self, node: SimulatedMember) -> None:
        """What left goes into the bag; what has been there for longest is lost when it is full."""
        self.bag.extend((out.to, node.member, out.incarnation, out.message) for out in node.outbox)
        node.outbox.clear()
        del self.bag[:-IN_THE_BAG]

    def hand_over(self, to: int, sender: int, incarnation: int, message: Message) -> None:
        node = self.nodes[to - 1]
        node.receive(sender, incarnation, message, self.now)
        self.collect(node)

    # The network.

    @precondition(lambda self: self.bag)
    @rule(choice=which)
    def deliver(self, choice: int) -> None:
        self.hand_over(*self.bag.pop(choice % len(self.bag)))

    @precondition(lambda self: self.bag)
    @rule(choice=which)
    def deliver_a_copy(self, choice: int) -> None:
        self.hand_over(*self.bag[choice % len(self.bag)])

    @precondition(lambda self: self.bag)
    @rule(choice=which)
    def drop(self, choice: int) -> None:
        del self.bag[choice % len(self.bag)]

    @precondition(lambda self: self.bag)
    @rule(choice=which)
    def drop_all_for(self, choice: int) -> None:
        to = self.any_node(choice).member
        self.bag = [each for each in self.bag if each[0] != to]

    @rule(rounds=st.integers(1, 4), stalled=few)
    def calm(self, rounds: int, stalled: frozenset[int]) -> None:
        """All that is under way arrives and all disks finish, but those of a few members, as often as that."""
        for _ in range(rounds):
            bag, self.bag = self.bag, []
            for each in bag:
                self.hand_over(*each)
            for node in self.nodes:
                if node.member not in stalled:
                    self.finish_writes(node, 3)
                    self.fetch(node)

    @rule(choice=which, rounds=st.integers(1, 3), stalled=few)
    def serve(self, choice: int, rounds: int, stalled: frozenset[int]) -> None:
        """What a healthy cluster does: members wake when they want to, hear each other, and order what clients ask."""
        for _ in range(rounds):
            self.wake_when_due(choice)
            self.calm(3, stalled)
            self.propose(choice, 1, True)
            self.calm(2, stalled)
            choice += 1

    # The members.

    def finish_writes(self, node: SimulatedMember, at_most: int) -> None:
        for _ in range(min(at_most, len(node.queue))):
            node.complete_write(self.now)
        self.collect(node)

    @rule(choice=which, at_most=st.integers(1, 3))
    def write(self, choice: int, at_most: int) -> None:
        self.finish_writes(self.any_node(choice), at_most)

    @rule(elapsed=st.integers(1, 8))
    def pass_time(self, elapsed: int) -> None:
        """Members whose deadline has come are woken, in their order."""
        wait = elapsed * 20 * MILLISECOND
        self.now = Time(self.now.monotonic + wait, self.now.wall + wait)
        for node in self.nodes:
            if node.core is not None and node.core.deadline <= self.now.monotonic:
                node.tick(self.now)
                self.collect(node)

    @rule(choice=which)
    def wake_when_due(self, choice: int) -> None:
        """Time goes on until this member wants to be woken; nobody else is as quick."""
        node = self.any_node(choice)
        if node.core is not None:
            wait = max(0, min(node.core.deadline - self.now.monotonic, 400 * MILLISECOND))
            self.now = Time(self.now.monotonic + wait, self.now.wall + wait)
            node.tick(self.now)
            self.collect(node)

    @rule(choice=which, surviving=st.integers(0, 3), back_at_once=st.booleans())
    def crash(self, choice: int, surviving: int, back_at_once: bool) -> None:
        """The process dies; some of the writes under way are lost."""
        self.any_node(choice).crash(surviving)
        if back_at_once:
            self.restart(choice)

    @rule(choice=which)
    def restart(self, choice: int) -> None:
        node = self.any_node(choice)
        if node.core is None:
            node.start(self.now)
            self.collect(node)

    # Snapshots.

    @rule(choice=which, margin=st.integers(0, 3), all_at_once=st.booleans())
    def take_snapshot(self, choice: int, margin: int, all_at_once: bool) -> None:
        """Of what is applied; its record goes to the disk behind all that is under way."""
        for node in self.nodes if all_at_once else [self.any_node(choice)]:
            op = len(node.applied)
            newest = max((file.op for file in node.files), default=0)
            if node.core is not None and op > newest and not any(isinstance(each, Taken) for each in node.queue):
                node.margin = margin
                node.take_snapshot(self.checkers.history.snapshot(op))

    @precondition(lambda self: any(node.wanted for node in self.nodes))
    @rule(choice=which, comes=st.booleans())
    def end_a_fetch(self, choice: int, comes: bool) -> None:
        """What a member wants comes, or does not."""
        wanting = [node for node in self.nodes if node.wanted]
        self.fetch(wanting[choice % len(wanting)], comes=comes)

    def fetch(self, node: SimulatedMember, *, comes: bool = True) -> None:
        wanted = node.wanted
        if wanted is None:
            return
        source = self.nodes[wanted.source - 1]
        if comes and source.core is not None and wanted.snapshot in source.files:
            node.fetched = wanted.snapshot
            node.tell(lambda core: core.fetching(wanted.snapshot, self.now), self.now)
            node.tell(lambda core: core.fetched(wanted.snapshot, self.now), self.now)
        else:
            node.tell(lambda core: core.fetch_failed(wanted.snapshot, self.now), self.now)
        self.collect(node)

    # Clients.

    @rule(choice=which, count=st.integers(1, 3), only_primaries=st.booleans())
    def propose(self, choice: int, count: int, only_primaries: bool) -> None:
        ready = [node for node in self.nodes if node.core is not None and node.core.standing.leads]
        node = ready[choice % len(ready)] if ready and only_primaries else self.any_node(choice)
        first = self.requests + 1
        proposals = [Proposal(Kind.COMMAND, 1, n, 0, b"%d" % n, n) for n in range(first, first + count)]
        if node.propose(proposals, self.now):
            self.requests += count
        self.collect(node)

    @rule(choice=which)
    def hear_answers(self, choice: int) -> None:
        """A client asks a member about what it has ordered: all that is applied there counts as told."""
        told = self.checkers.history.told
        for entry in self.any_node(choice).applied:
            if entry.kind is Kind.COMMAND and (entry.session, entry.request) not in told:
                self.checkers.history.tell(entry.session, entry.request, entry.op)

    @rule(choice=which)
    def read(self, choice: int) -> None:
        node = self.any_node(choice)
        self.reads += 1
        self.checkers.read_asked(node.member, node.life, self.reads)
        node.read(self.reads, self.now)
        self.collect(node)

    @rule(choice=which)
    def resign(self, choice: int) -> None:
        node = self.any_node(choice)
        if node.core is not None:
            node.core.resign(self.now)
            node.finish(self.now)
            self.collect(node)

    def teardown(self) -> None:
        """Nothing that was told may be missing, whatever happened."""
        if self.nodes:
            for session, request in self.checkers.history.told:
                self.checkers.history.verify(session, request)


class Vsr(Protocol):
    seen_as = RULES["vsr"]


class Raft(Protocol):
    seen_as = RULES["raft"]


def test_vsr_by_rules() -> None:
    run(Vsr)


def test_raft_by_rules() -> None:
    run(Raft)


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (Vsr, "the primary counts itself before its write is durable"),
        (Vsr, "a primary resumes its view after a restart"),
        (Raft, "the leader counts itself before its write is durable"),
        (Raft, "commit with one acknowledgement too few"),
        (Vsr, "the log is compacted to its end, committed or not"),
        (Raft, "a follower that is fetching a snapshot acknowledges it"),
    ],
)
def test_the_rules_find_a_hand_made_bug(machine: type[Protocol], name: str) -> None:
    mutants = {(mutant.protocol, mutant.name): mutant for mutant in (*MUTANTS, *RAFT_MUTANTS, *SNAPSHOT_MUTANTS)}
    with mutants[machine.seen_as.core.name, name].applied(), pytest.raises(PropertyError):
        run(machine, settings(BOUNDED, phases=[Phase.generate], max_examples=600))


def run(machine: type[Protocol], bounds: settings = BOUNDED) -> None:
    case: Any = machine.TestCase
    case.settings = bounds
    case().runTest()
