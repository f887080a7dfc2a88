"""The checkers of whole clusters, on made-up good and bad runs: what members apply, say, store and send."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raft import Appended, Raft, TermAndVote, Vote
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from viewstamp.cluster import Cluster, Member
from viewstamp.journal import EntriesRecord, Recovered, SnapshotRecord, StateRecord, TruncateRecord
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.journal.snapshot_files import snapshot_name
from viewstamp.protocol import Core, Entry, Kind, Message, Proposal, Transition, check, make_entry
from viewstamp.simulation.disk_image import DiskImage
from viewstamp.simulation.inhabitants import Node
from viewstamp.simulation.promises import PromiseWatch
from viewstamp.simulation.timeline import MOST_EVENTS, MOST_PLANNED, Timeline
from viewstamp.simulation.verdict import ViolationError
from viewstamp.simulation.watch import Watch
from viewstamp.wire import make_codec
from vsr import DoViewChange, DurableState, PrepareOk, StartView, ViewstampedReplication

PROTOCOLS: dict[str, type[Core]] = {"vsr": ViewstampedReplication, "raft": Raft}
VECTOR = (11, 12, 13)


def entry(op: int, view: int = 0, body: bytes = b"body", stamp: int = 0) -> Entry:
    return make_entry(op, view, stamp or op, Proposal(Kind.COMMAND, 1, op, 0, body, 0))


@dataclass
class Executor:
    applied: int = 0
    digest: bytes = b"digest 0"
    state: bytes = b"state 0"
    sessions: list[int] = field(default_factory=list)

    def state_digest(self) -> bytes:
        return self.state


class Posed:
    """What a replica says of itself, as a test wants it."""

    def __init__(self) -> None:
        self.executor = Executor()
        self.log: dict[int, Entry] = {}
        self.leads = False
        self.view = 0
        self.held_bytes = 0
        self.clients = 0

    @property
    def endpoint(self) -> Any:
        told = SimpleNamespace(held_bytes=self.held_bytes, learnt_peers=self.clients)
        return SimpleNamespace(statistics=lambda: told)

    def entry(self, op: int) -> Entry:
        check(op in self.log, "entry {} is outside the log", op)
        return self.log[op]

    def status(self) -> Any:
        return SimpleNamespace(view=self.view, status="normal", op=max(self.log, default=0))


class Cast:
    """Three members that do what a test says, and who watches them."""

    def __init__(self, protocol: str = "vsr") -> None:
        members = tuple(Member(id=number, host="127.0.0.1", port=7000 + number) for number in (1, 2, 3))
        cluster = Cluster(name="made up", cluster_id=bytes(8), protocol=protocol, members=members)
        self.codec = make_codec(PROTOCOLS[protocol])
        self.watch = Watch(cluster, self.codec)
        self.nodes = {number: Node(number, SimulatedDisk(Random(number)), Random(number)) for number in (1, 2, 3)}
        self.replicas = {number: Posed() for number in (1, 2, 3)}

    def store(self, member: int, *entries: Entry) -> None:
        data = b"".join(each.encoded for each in entries)
        self.watch.durable(self.nodes[member], [EntriesRecord(entries[0].op, len(entries), data)])

    def save(self, member: int, state: DurableState | TermAndVote) -> None:
        self.watch.durable(self.nodes[member], [StateRecord(self.codec.encode(state))])

    def name_snapshot(self, member: int, snapshot: SnapshotRecord, *, synced: bool = True) -> None:
        files = self.nodes[member].disk.files()
        files.append(handle := files.create(snapshot_name(snapshot)), bytes(snapshot.size))
        if synced:
            files.sync(handle)
        files.sync_directory()
        self.watch.durable(self.nodes[member], [snapshot])

    def apply(self, member: int, *entries: Entry, digest: bytes = b"", state: bytes = b"") -> None:
        replica = self.replicas[member]
        replica.log |= {each.op: each for each in entries}
        op = entries[-1].op
        replica.executor = Executor(op, digest or b"digest %d" % op, state or b"state %d" % op)
        self.turn(member)

    def turn(self, member: int, *, changed: bool = False) -> None:
        replica = self.replicas[member]
        transitions = [Transition("normal", "backup", replica.view, None, "made up")] if changed else []
        self.watch.turned(0, self.nodes[member], cast("Any", replica), transitions)

    def stand(self, member: int, view: int, *, leads: bool = False) -> None:
        self.replicas[member].view, self.replicas[member].leads = view, leads
        self.turn(member, changed=True)

    def restart(self, member: int) -> None:
        self.nodes[member].life += 1
        self.replicas[member] = Posed()
        self.watch.opened(self.nodes[member], self.held(member))

    def held(self, member: int) -> Recovered:
        disk = self.watch.disks[member]
        first = min(disk.entries, default=disk.last_op + 1)
        entries = b"".join(disk.entries[op] for op in range(first, disk.last_op + 1))
        return Recovered(None, disk.state, entries, disk.last_op, 0, disk.snapshot, first)


def violates(name: str, what: str = "") -> Any:
    return pytest.raises(ViolationError, match=f"^{name}: .*{what}")


def test_a_good_run_passes() -> None:
    made_up = Cast()
    log = [entry(1), entry(2)]
    for member in (1, 2, 3):
        made_up.store(member, *log)
        made_up.save(member, DurableState(0, 0, VECTOR))
    made_up.stand(1, 0, leads=True)
    for member in (1, 2):
        made_up.apply(member, *log)
    for member in (1, 2, 3):
        made_up.save(member, DurableState(1, 1, VECTOR))
        made_up.restart(member)
        made_up.stand(member, 1)
        made_up.apply(member, *log)
    made_up.stand(2, 1, leads=True)
    made_up.watch.compare_states([cast("Any", replica) for replica in made_up.replicas.values()])
    assert made_up.watch.committed == 2
    assert made_up.watch.leaders == {0: (1, 0), 1: (2, 1)}


def test_two_entries_at_one_op() -> None:
    made_up = Cast()
    for member in (1, 2):
        made_up.store(member, entry(1))
    made_up.apply(1, entry(1))
    with violates("agreement"):
        made_up.apply(2, entry(1, body=b"another"))


def test_another_entry_after_a_restart() -> None:
    made_up = Cast()
    for member in (1, 2):
        made_up.store(member, entry(1))
    made_up.apply(1, entry(1))
    made_up.restart(1)
    with violates("agreement"):
        made_up.apply(1, entry(1, view=1))


@pytest.mark.parametrize("holders", [(), (1,), (3,)])
def test_committed_on_a_minority_of_disks(holders: tuple[int, ...]) -> None:
    made_up = Cast()
    for member in holders:
        made_up.store(member, entry(1))
    for member in {1, 2} - set(holders):
        made_up.store(member, entry(1, body=b"another"))
    with violates("majority"):
        made_up.apply(1, entry(1))


def test_what_was_truncated_does_not_count() -> None:
    made_up = Cast()
    for member in (1, 2):
        made_up.store(member, entry(1))
    made_up.watch.durable(made_up.nodes[2], [TruncateRecord(0)])
    with violates("majority"):
        made_up.apply(1, entry(1))


def test_what_a_snapshot_holds_and_what_a_lost_disk_held_counts() -> None:
    made_up = Cast()
    made_up.store(1, entry(1))
    made_up.watch.disks[1].wipe()
    made_up.name_snapshot(2, SnapshotRecord(0, 1, 100, bytes(32)))
    made_up.apply(3, entry(1))


def test_whoever_lost_its_disk_takes_part_with_all_that_was_committed() -> None:
    made_up = Cast()
    for member in (1, 2):
        made_up.store(member, entry(1))
    made_up.apply(2, entry(1))
    made_up.watch.disks[1].wipe(made_up.watch.committed)
    with violates("durability"):
        made_up.stand(1, 1)


def test_a_disk_that_was_lost_counts_no_more_when_its_member_takes_part() -> None:
    made_up = Cast()
    for member in (1, 2):
        made_up.store(member, entry(1))
    made_up.watch.disks[1].wipe()
    made_up.stand(1, 1)
    with violates("majority"):
        made_up.apply(2, entry(1))


def test_other_replies_and_other_states_at_one_op() -> None:
    for digest, state, what in ((b"other", b"", "replies"), (b"", b"other", "state")):
        made_up = Cast()
        log = [entry(op) for op in range(1, 65)]
        for member in (1, 2):
            made_up.store(member, *log)
        made_up.apply(1, *log)
        with violates("equal states", what):
            made_up.apply(2, *log, digest=digest, state=state)


def test_a_snapshot_of_another_state() -> None:
    made_up = Cast()
    made_up.name_snapshot(1, SnapshotRecord(0, 7, 100, b"1" * 32))
    made_up.name_snapshot(2, SnapshotRecord(0, 7, 100, b"1" * 32))
    with violates("equal states"):
        made_up.name_snapshot(3, SnapshotRecord(0, 7, 100, b"2" * 32))


def test_members_that_differ_in_the_end() -> None:
    made_up = Cast()
    made_up.replicas[2].executor = Executor(state=b"other")
    with violates("equal states"):
        made_up.watch.compare_states([cast("Any", replica) for replica in made_up.replicas.values()])


def test_a_snapshot_that_nobody_committed_is_loaded() -> None:
    made_up = Cast()
    with violates("agreement"):
        made_up.watch.jumped(made_up.nodes[1], cast("Any", Executor(applied=1)))


def test_a_snapshot_older_than_what_was_applied_is_loaded() -> None:
    made_up = Cast()
    log = [entry(1), entry(2)]
    for member in (1, 2):
        made_up.store(member, *log)
    made_up.apply(1, *log)
    with violates("monotone"):
        made_up.watch.jumped(made_up.nodes[1], cast("Any", Executor(applied=1)))
    made_up.watch.jumped(made_up.nodes[2], cast("Any", Executor(applied=1)))


def test_what_was_applied_goes_back_within_a_life_but_may_with_a_restart() -> None:
    made_up = Cast()
    log = [entry(1), entry(2)]
    for member in (1, 2):
        made_up.store(member, *log)
    made_up.apply(1, *log)
    made_up.restart(1)
    made_up.apply(1, log[0])
    made_up.apply(1, log[1])
    with violates("monotone"):
        made_up.apply(1, log[0])


def test_the_agreed_time_goes_back() -> None:
    made_up = Cast()
    log = [entry(1, stamp=5), entry(2, stamp=4)]
    for member in (1, 2):
        made_up.store(member, *log)
    with violates("agreed time"):
        made_up.apply(1, *log)


@pytest.mark.parametrize("same", [True, False], ids=["another life", "another member"])
def test_one_view_led_twice(same: bool) -> None:
    made_up = Cast()
    for member in (1, 2, 3):
        made_up.save(member, DurableState(3, 0, VECTOR))
    made_up.stand(1, 3, leads=True)
    if same:
        made_up.restart(1)
    with violates("one primary"):
        made_up.stand(1 if same else 2, 3, leads=True)


def test_a_view_that_goes_back() -> None:
    made_up = Cast()
    made_up.stand(1, 3)
    with violates("monotone"):
        made_up.stand(1, 2)


def test_a_view_that_goes_back_with_a_restart() -> None:
    made_up = Cast()
    made_up.save(1, DurableState(3, 3, VECTOR))
    made_up.restart(1)
    with violates("monotone"):
        made_up.stand(1, 2)


def test_a_view_that_goes_back_on_disk() -> None:
    made_up = Cast()
    made_up.save(1, DurableState(3, 3, VECTOR))
    with violates("monotone"):
        made_up.save(1, DurableState(2, 2, VECTOR))


@pytest.mark.parametrize("restarted", [True, False])
def test_a_vote_that_is_taken_back(restarted: bool) -> None:
    made_up = Cast("raft")
    made_up.save(1, TermAndVote(3, 0, VECTOR))
    made_up.save(1, TermAndVote(3, 2, VECTOR))
    made_up.save(1, TermAndVote(4, 1, VECTOR))
    if restarted:
        made_up.restart(1)
    with violates("monotone", "its vote for member 1 in term 4"):
        made_up.save(1, TermAndVote(4, 3, VECTOR))


def test_a_journal_that_gives_back_less_or_something_else() -> None:
    for lost in ("entries", "state", "snapshot"):
        made_up = Cast()
        made_up.store(1, entry(1))
        made_up.save(1, DurableState(1, 1, VECTOR))
        made_up.name_snapshot(1, SnapshotRecord(0, 1, 100, bytes(32)))
        made_up.store(1, entry(2))
        whole = made_up.held(1)
        made_up.watch.opened(made_up.nodes[1], whole)
        less = {
            "entries": Recovered(None, whole.state, b"", 1, 0, whole.snapshot, 2),
            "state": Recovered(None, None, whole.entries, 2, 0, whole.snapshot, whole.first_op),
            "snapshot": Recovered(None, whole.state, whole.entries, 2, 0, None, whole.first_op),
        }[lost]
        with violates("durability"):
            made_up.watch.opened(made_up.nodes[1], less)


def test_of_what_was_being_written_as_the_process_ended_all_is_there_or_nothing() -> None:
    for kept in (0, 2):
        image = DiskImage()
        log = [entry(1), entry(2)]
        data = b"".join(each.encoded for each in log)
        image.tear([EntriesRecord(1, 2, data)])
        image.opened(1, Recovered(None, None, data if kept else b"", kept, 0))
        assert image.last_op == kept
    image = DiskImage()
    image.tear([EntriesRecord(1, 2, data)])
    with violates("durability"):
        image.opened(1, Recovered(None, None, log[0].encoded, 1, 0))


def test_too_many_sessions_and_too_many_writes() -> None:
    for what in ("sessions", "writes"):
        made_up = Cast()
        made_up.watch.most_sessions = 2
        made_up.replicas[1].executor.sessions = [1, 2] if what == "writes" else [1, 2, 3]
        made_up.nodes[1].waiting = [(number, ()) for number in range(20_001 if what == "writes" else 20_000)]
        with violates("bounds", what):
            for _ in range(64):
                made_up.turn(1)


@pytest.mark.parametrize(
    ("held_bytes", "clients", "good"), [(1 << 26, 1000, True), (1 + (1 << 26), 0, False), (0, 1001, False)]
)
def test_what_an_endpoint_holds_is_bounded(held_bytes: int, clients: int, good: bool) -> None:
    made_up = Cast()
    made_up.replicas[1].held_bytes, made_up.replicas[1].clients = held_bytes, clients
    with nullcontext() if good else violates("bounds"):
        for _ in range(64):
            made_up.turn(1)


def test_events_that_pile_up_and_a_run_without_end() -> None:
    quiet = Timeline()
    for _ in range(1000):
        quiet.at(quiet.now + 1, lambda: None)
    quiet.run_for(10)
    crowded = Timeline()
    for _ in range(MOST_PLANNED + 2):
        crowded.at(crowded.now + 1, lambda: None)
    with pytest.raises(ViolationError, match=r"^bounds: 1 events, and 300001 more under way"):
        crowded.run_for(10)
    endless = Timeline()
    endless.events = MOST_EVENTS
    endless.at(0, lambda: None)
    with pytest.raises(ViolationError, match=r"^bounds"):
        endless.run_for(10)


# Promises in datagrams.


def say(
    protocol: str,
    disk: DiskImage,
    message: Message,
    source: str = "member-1",
    to: str = "member-2",
    made_up: Cast | None = None,
) -> None:
    """A member whose disk is this sends another a datagram with this message, after one that promises nothing."""
    core = PROTOCOLS[protocol]
    endpoint = Endpoint(FrameIdentity(bytes(8), bytes(8), 0, 0, 1, 1), datagram_bytes=1200)
    endpoint.set_peer(2, to)
    endpoint.send(2, b"\xff something else")
    endpoint.send(2, make_codec(core).encode(message))
    disk.incarnation = 1
    made_up = made_up or Cast(protocol)
    made_up.watch.disks[1] = disk
    watch = PromiseWatch(core, made_up.watch, made_up.nodes)
    for datagram, address in endpoint.flush(0):
        watch.sent(source, str(address), datagram)


def disk_with(state: DurableState | TermAndVote, last_op: int) -> DiskImage:
    image = DiskImage()
    core = PROTOCOLS["vsr" if isinstance(state, DurableState) else "raft"]
    image.state, image.last_op = make_codec(core).encode(state), last_op
    return image


VSR_DISK = disk_with(DurableState(4, 4, VECTOR), 2)
RAFT_DISK = disk_with(TermAndVote(4, 2, VECTOR), 2)


def test_promises_that_the_disk_holds() -> None:
    for message in (PrepareOk(4, 2, 0, 0, VECTOR), DoViewChange(4, 4, 2, 1, VECTOR), StartView(4, 2, 1)):
        say("vsr", VSR_DISK, message)
    say("raft", RAFT_DISK, Vote(4, granted=True))


def test_promises_that_the_disk_does_not_hold() -> None:
    for message in (PrepareOk(4, 3, 0, 0, VECTOR), PrepareOk(5, 2, 0, 0, VECTOR), StartView(5, 2, 1)):
        with violates("promises"):
            say("vsr", VSR_DISK, message)
    with violates("promises"):
        say("raft", disk_with(TermAndVote(4, 3, VECTOR), 2), Vote(4, granted=True))
    with violates("promises"):
        say("vsr", DiskImage(), PrepareOk(0, 0, 0, 0, VECTOR))


@pytest.mark.parametrize(
    ("protocol", "state", "message"),
    [
        ("vsr", DurableState(4, 4, VECTOR), PrepareOk(4, 2, 0, 0, VECTOR)),
        ("raft", TermAndVote(4, 2, VECTOR), Appended(4, 2, 0)),
    ],
)
def test_an_acknowledgement_of_another_log_than_the_primarys(
    protocol: str, state: DurableState | TermAndVote, message: Message
) -> None:
    made_up = Cast(protocol)
    primary = made_up.replicas[2]
    made_up.nodes[2].replica = cast("Any", primary)
    primary.log = {1: entry(1, 1), 2: entry(2, 3)}
    for number in (1, 2, 3):
        made_up.save(number, state)
    made_up.stand(2, 4, leads=True)
    disk = disk_with(state, 2)
    disk.entries = {1: entry(1, 1).encoded, 2: entry(2, 3).encoded}
    say(protocol, disk, message, made_up=made_up)
    disk.entries[2] = entry(2, 1).encoded
    with violates("promises", "acknowledges the log of member 2 up to op 2; its disk holds another entry there"):
        say(protocol, disk, message, made_up=made_up)
    disk.snapshot = SnapshotRecord(3, 2, 100, bytes(32), 0)
    say(protocol, disk, message, made_up=made_up)  # What it stands for is committed.
    disk.snapshot = None
    primary.log = {}  # Gone from there: a snapshot holds it.
    say(protocol, disk, message, made_up=made_up)
    primary.log = {2: entry(2, 3)}
    made_up.stand(2, 5)  # It leads no more: that log can have come to differ.
    say(protocol, disk, message, made_up=made_up)


def test_what_was_promised_in_an_earlier_view_may_come_late() -> None:
    """It waited for a write that became durable together with that of the next view."""
    say("vsr", VSR_DISK, PrepareOk(3, 7, 0, 0, VECTOR))


def test_what_clients_and_the_network_say_is_no_promise() -> None:
    broken = PrepareOk(4, 3, 0, 0, VECTOR)
    say("vsr", VSR_DISK, broken, source="client-1")
    say("vsr", VSR_DISK, broken, to="client-1")
