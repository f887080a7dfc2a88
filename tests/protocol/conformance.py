"""What every protocol behind the contract must do. Subclass `ProtocolConformance`, name the protocol and its sizes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from random import Random
from typing import ClassVar, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.cluster import WALL, Body, BodyCluster, proposal
from viewstamp.protocol import (
    NEVER,
    SECOND,
    Configuration,
    Core,
    Entry,
    Founded,
    Lost,
    Message,
    Promise,
    ReadFailed,
    ReadReady,
    RefusesLostDiskError,
    State,
    Statement,
    Time,
    make_entry,
)

unsigned = st.one_of(st.integers(0, 4), st.integers(0, 2**64 - 1))


@st.composite
def entry_runs(draw: st.DrawFn) -> tuple[Entry, ...]:
    """Consecutive entries, as the codec lets through."""
    first = draw(st.integers(1, 5))
    views = draw(st.lists(st.integers(0, 4), max_size=4))
    return tuple(make_entry(op, view, WALL, proposal("x")) for op, view in enumerate(views, first))


def values(hint: object, members: int) -> st.SearchStrategy[object]:
    """Anything that a field of this type may hold."""
    if hint is int:
        return unsigned
    if hint is bool:
        return st.booleans()
    if hint is bytes:
        return st.one_of(st.just(bytes(32)), st.binary(max_size=20))
    if hint is str:
        return st.text(max_size=20)
    assert get_origin(hint) is tuple, hint
    if get_args(hint) == (int, ...):
        return st.one_of(st.tuples(*[unsigned] * members), st.lists(unsigned, max_size=5).map(tuple))
    assert get_args(hint) == (Entry, ...), hint
    return entry_runs()


def any_message(protocol: type[Core], members: int) -> st.SearchStrategy[Message]:
    """Any message that the codec can decode, true or not."""
    kinds = [
        st.builds(kind, **{name: values(hint, members) for name, hint in get_type_hints(kind).items()})
        for kind in protocol.messages.values()
    ]
    return st.one_of(kinds)


class ProtocolConformance:
    """Each test drives whole clusters of `sizes` through nothing but the contract."""

    protocol: ClassVar[type[Core]]
    sizes: ClassVar[tuple[int, ...]] = (1, 3, 5)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "size" in metafunc.fixturenames:
            metafunc.parametrize("size", self.sizes)

    def cluster(self, size: int) -> BodyCluster:
        """A founded cluster that has settled on a primary."""
        cluster = BodyCluster(self.protocol, size)
        cluster.run(2 * SECOND)
        return cluster

    # What a protocol is made of.

    def test_messages_are_immutable_flat_and_tagged(self) -> None:
        assert self.protocol.name
        assert all(64 <= tag <= 127 for tag in self.protocol.messages)
        assert all(128 <= tag <= 191 for tag in self.protocol.states)
        assert len(set(self.protocol.messages.values())) == len(self.protocol.messages)
        for kind in self.protocol.messages.values():
            assert issubclass(kind, Statement) is not issubclass(kind, Promise)
        for whole in (*self.protocol.messages.values(), *self.protocol.states.values()):
            assert is_dataclass(whole)
            assert vars(whole)["__dataclass_params__"].frozen
            assert "__slots__" in vars(whole)
            hints = get_type_hints(whole)
            for field in fields(whole):
                hint = hints[field.name]
                assert hint in (int, bool, bytes, str, tuple[int, ...], tuple[Entry, ...])

    def test_the_durable_state_is_one_of_its_states(self, size: int) -> None:
        for body in self.cluster(size).bodies.values():
            assert isinstance(body.disk.state, tuple(self.protocol.states.values()))
            assert isinstance(body.disk.state, State)

    # Ordering.

    def test_a_founded_cluster_has_one_primary(self, size: int) -> None:
        cluster = self.cluster(size)
        assert {body.core.standing.primary for body in cluster.bodies.values()} == {cluster.leader}
        assert all(body.core.standing.waiting == "" for body in cluster.bodies.values())

    def test_what_is_proposed_commits_at_every_member_in_order(self, size: int) -> None:
        cluster = self.cluster(size)
        start = cluster.bodies[cluster.leader].core.standing.op
        assert cluster.propose("a", "b") == start + 1
        assert cluster.propose("c") == start + 3
        cluster.run(SECOND)
        for body in cluster.bodies.values():
            assert body.commit == start + 3
            assert [body.core.entry(start + n).body for n in (1, 2, 3)] == [b"a", b"b", b"c"]
            assert [entry.encoded for entry in body.disk.entries] == [
                body.core.entry(op).encoded for op in range(1, len(body.disk.entries) + 1)
            ]
        logs = {tuple(entry.encoded for entry in body.disk.entries) for body in cluster.bodies.values()}
        assert len(logs) == 1

    def test_entries_keep_what_the_client_gave_them(self, size: int) -> None:
        cluster = self.cluster(size)
        op = cluster.propose("a")
        entry = cluster.bodies[cluster.leader].core.entry(op)
        wanted = proposal("a")
        assert (entry.kind, entry.session, entry.request, entry.mark) == (
            wanted.kind,
            wanted.session,
            wanted.request,
            wanted.mark,
        )
        assert (entry.body, entry.seed, entry.op) == (wanted.body, wanted.seed, op)
        assert entry.stamp >= WALL

    def test_viewstamps_grow_with_op_numbers(self, size: int) -> None:
        cluster = self.cluster(size)
        cluster.propose("a", "b")
        core = cluster.bodies[cluster.leader].core
        stamps = [core.viewstamp_of(op) for op in range(core.standing.op + 1)]
        assert stamps[0] == (0, 0)
        assert stamps == sorted(stamps)
        assert [stamp.op for stamp in stamps] == list(range(len(stamps)))

    def test_a_member_that_does_not_lead_takes_no_proposals(self, size: int) -> None:
        cluster = self.cluster(size)
        for member, body in cluster.bodies.items():
            if member != cluster.leader:
                before = body.core.standing
                assert cluster.act(member, lambda core: core.propose([proposal("x")], cluster.now)) == 0
                assert body.core.standing == before

    def test_no_proposals_are_no_op(self, size: int) -> None:
        cluster = self.cluster(size)
        before = cluster.bodies[cluster.leader].core.standing.op
        assert cluster.propose() == 0
        assert cluster.bodies[cluster.leader].core.standing.op == before

    def test_nothing_commits_that_no_disk_holds(self, size: int) -> None:
        cluster = self.cluster(size)
        for body in cluster.bodies.values():
            body.disk_held = True
        op = cluster.propose("a")
        assert all(body.commit < op for body in cluster.bodies.values())
        for body in cluster.bodies.values():
            body.disk_held = False
            body.finish_writes(cluster.now)
        cluster.deliver()
        cluster.run(SECOND)
        assert all(body.commit >= op for body in cluster.bodies.values())

    def test_equal_events_have_equal_effects(self, size: int) -> None:
        def trace() -> list[str]:
            cluster = self.cluster(size)
            cluster.propose("a")
            cluster.cut = {cluster.leader} if size > 2 else set()
            cluster.run(2 * SECOND)
            return cluster.trace

        assert trace() == trace()

    # Reads.

    def test_every_member_serves_a_read_that_sees_what_was_committed(self, size: int) -> None:
        cluster = self.cluster(size)
        op = cluster.propose("a")
        for member, body in cluster.bodies.items():
            cluster.act(member, lambda core: core.read(1, cluster.now))
            cluster.run(SECOND)
            answer = body.answers[1]
            assert isinstance(answer, ReadReady)
            assert op <= answer.op <= body.commit

    def test_a_read_that_cannot_be_confirmed_fails(self, size: int) -> None:
        cluster = self.cluster(size)
        if size == 1:
            return
        leader = cluster.leader
        cluster.cut = {leader}
        cluster.act(leader, lambda core: core.read(1, cluster.now))
        cluster.run(2 * SECOND)
        assert isinstance(cluster.bodies[leader].answers[1], ReadFailed)

    # Time.

    def test_a_tick_is_harmless_at_any_time(self, size: int) -> None:
        cluster = self.cluster(size)
        op = cluster.propose("a")
        for _ in range(5):
            for member in cluster.bodies:
                cluster.act(member, lambda core: core.tick(cluster.now))
        cluster.run(SECOND)
        assert all(body.commit == op for body in cluster.bodies.values())

    def test_after_a_tick_the_deadline_lies_ahead(self, size: int) -> None:
        cluster = self.cluster(size)
        for member, body in cluster.bodies.items():
            for _ in range(20):
                if body.core.deadline == NEVER:
                    break
                monotonic = max(body.core.deadline, cluster.now.monotonic)
                cluster.now = Time(monotonic, WALL + monotonic)
                cluster.act(member, lambda core: core.tick(cluster.now))
                assert body.core.deadline > monotonic

    # Failures.

    def test_the_others_go_on_without_the_primary(self, size: int) -> None:
        cluster = self.cluster(size)
        if size < 3:
            return
        op = cluster.propose("a")
        old = cluster.leader
        cluster.cut = {old}
        cluster.run(3 * SECOND)
        assert not cluster.bodies[old].core.standing.leads
        assert cluster.leader != old
        cluster.propose("b")
        cluster.cut = set()
        cluster.run(2 * SECOND)
        commits = {body.commit for body in cluster.bodies.values()}
        assert len(commits) == 1
        for body in cluster.bodies.values():
            bodies = [body.core.entry(n).body for n in range(op, body.commit + 1)]
            assert [b for b in bodies if b] == [b"a", b"b"]

    def test_a_primary_that_resigns_gives_way(self, size: int) -> None:
        cluster = self.cluster(size)
        old = cluster.leader
        cluster.act(old, lambda core: core.resign(cluster.now))
        cluster.run(SECOND)
        assert size == 1 or cluster.leader != old

    def test_what_was_committed_is_there_after_all_restart(self, size: int) -> None:
        cluster = self.cluster(size)
        op = cluster.propose("a", "b")
        cluster.run(SECOND)
        views = {member: body.core.standing.view for member, body in cluster.bodies.items()}
        for member in cluster.bodies:
            cluster.restart(member)
        cluster.deliver()
        cluster.run(3 * SECOND)
        for member, body in cluster.bodies.items():
            assert body.commit >= op + 1
            assert [body.core.entry(op + n).body for n in (0, 1)] == [b"a", b"b"]
            assert body.core.standing.view >= views[member]
        again = cluster.propose("c")
        cluster.run(SECOND)
        assert again > op + 1
        assert all(body.core.entry(again).body == b"c" for body in cluster.bodies.values())

    def test_a_lost_disk_is_recovered_or_refused(self, size: int) -> None:
        configuration = Configuration(tuple(range(1, size + 1)))
        if not self.protocol.recovers_lost_disk:
            with pytest.raises(RefusesLostDiskError):
                self.protocol(configuration, 1, Lost(2), Random(1), Time(0, WALL))
            return
        if size < 3:
            return
        cluster = self.cluster(size)
        op = cluster.propose("a")
        lost = size
        body = Body(self.protocol, configuration, lost, Lost(2), cluster.now)
        body.incarnation = 2
        body.turn(cluster.now)
        cluster.bodies[lost] = body
        cluster.run(3 * SECOND)
        assert body.commit >= op
        assert body.core.entry(op).body == b"a"
        assert [entry.encoded for entry in body.disk.entries] == [
            entry.encoded for entry in cluster.bodies[1].disk.entries
        ]
        for member in cluster.bodies.values():
            assert member.core.incarnations[lost] == 2

    # Peers.

    def test_strangers_are_ignored(self, size: int) -> None:
        cluster = self.cluster(size)
        for kind in self.protocol.messages.values():
            hints = get_type_hints(kind)
            message = kind(*[0 if hints[field.name] is int else () for field in fields(kind)])
            cluster.act(1, lambda core, message=message: core.receive(99, 1, message, cluster.now))  # type: ignore[misc]  # bound now
        assert sum(cluster.bodies[1].core.ignored.values()) >= len(self.protocol.messages)

    def test_peers_cannot_make_it_raise(self) -> None:
        if not self.protocol.messages:
            return

        @settings(max_examples=60, deadline=None)
        @given(data=st.data())
        def attempt(data: st.DataObject) -> None:
            bombard(self.protocol, self.sizes[-1], data)

        attempt()


def bombard(protocol: type[Core], size: int, data: st.DataObject) -> None:
    """Send one member messages that no correct peer would; an InvariantError ends the test."""
    configuration = Configuration(tuple(range(1, size + 1)))
    me = data.draw(st.sampled_from(configuration.members))
    body = Body(protocol, configuration, me, Founded((1,) * size), Time(0, WALL))
    body.turn(Time(0, WALL))
    messages = any_message(protocol, size)
    for step in range(data.draw(st.integers(1, 12))):
        now = Time(step * SECOND // 10, WALL)
        sender = data.draw(st.sampled_from([*configuration.members, 99]))
        body.core.receive(sender, data.draw(st.integers(0, 3)), data.draw(messages), now)
        if data.draw(st.booleans()):
            body.core.propose([proposal("x")], now)
        body.core.tick(now)
        body.sent.clear()
        body.turn(now)
        if body.wanted is not None and data.draw(st.booleans()):
            body.files.add(body.wanted.snapshot)
            body.core.fetched(body.wanted.snapshot, now)
            body.turn(now)
        if body.applied > body.core.standing.base and data.draw(st.booleans()):
            body.compact(data.draw(st.integers(0, 2)), now)
