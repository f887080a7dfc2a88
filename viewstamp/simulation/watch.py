"""Checkers that watch a simulated cluster from outside: what members apply and say of themselves, and their disks.

They know nothing of a protocol's private state. What clients were told is the load's to check (`load.py`).

- agreement: every member, in every life, applies the same entry at an op, and holds the same state there; a stored
  snapshot holds what the committed entries up to its op lead to;
- durability: a journal gives back what it reported durable, across every crash, and cuts off nothing committed; what
  it reports durable, or gives back, would survive if the power went at that moment; whoever has lost its disk takes
  part again with all that was committed by then;
- majority: an entry is on a majority of disks when it is first committed, and whoever leads a view is whom the disks of
  a majority have said to follow in it;
- one primary: no view (or term) is led by two members, or by one member in two lives;
- monotone: a member's view never goes back, nor a vote, across restarts too; what it applied not within a life;
- agreed time: the stamps of committed entries never go back;
- bounds: queues, pipelines, sessions and the number of events under way stay small.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from re import sub

from statemachine import Executor
from transport.codec import MessageCodec
from viewstamp.cluster import Cluster
from viewstamp.journal import JournalRecord, Recovered, SnapshotRecord, StateRecord, TruncateRecord
from viewstamp.protocol import Entry, Kind, State, Transition, split_entries
from viewstamp.replica import Replica
from viewstamp.simulation.disk_image import DiskImage
from viewstamp.simulation.executed import executed_between
from viewstamp.simulation.inhabitants import Node
from viewstamp.simulation.power import unsafe_segment, unsafe_snapshot
from viewstamp.simulation.reference import Reference
from viewstamp.simulation.rules import RULES
from viewstamp.simulation.verdict import ViolationError, require

REMEMBERED_EVENTS = 80
_LOOK_EVERY = 64
_STATE_EVERY = 64
_MOST_WAITING = 20_000
_MOST_HELD = 64 * 1024 * 1024
_MOST_PEERS = 1000
"""Far more than there are clients, and far less than an endpoint allows."""
_TOO_EARLY = "member {} lost its disk, and takes part again with op {}, though op {} was committed by then"


@dataclass(slots=True)
class _Seen:
    """What was last seen of a member; `state` is what its disk holds beside the log, `floor` the view in that. Up to op
    `agreed` its replies have been compared with another's.
    """

    applied: int = 0
    agreed: int = 0
    led: bool = False
    view: int = 0
    floor: int = 0
    state: bytes | None = None


class Watch:
    """Raises ViolationError at the moment at which something is wrong."""

    def __init__(self, cluster: Cluster, codec: MessageCodec, protocol: str | None = None) -> None:
        self.disks = {member.id: DiskImage() for member in cluster.members}
        self.counts: Counter[str] = Counter()
        self.events: deque[tuple[int, str]] = deque(maxlen=REMEMBERED_EVENTS)
        self.leaders: dict[int, tuple[int, int]] = {}
        self.committed = 0
        self.sessions_opened = 0
        self.most_sessions = cluster.max_sessions
        self._codec = codec
        self._rules = RULES.get(protocol or cluster.protocol)  # of a protocol of one's own none are known
        self._quorum = cluster.configuration.quorum
        self._entries: dict[int, bytes] = {}
        self._digests: dict[int, bytes] = {}
        self._states: dict[int, bytes] = {}
        self.reference: Reference | None = None
        self._stamp = 0
        self._supported: dict[int, set[tuple[int, int]]] = {member.id: set() for member in cluster.members}
        self._seen = {member.id: _Seen() for member in cluster.members}
        self._turns = 0

    def view_of(self, member: int) -> int:
        """The view that a member was in when it last said so; after a restart the one that its disk held."""
        seen = self._seen[member]
        return max(seen.view, seen.floor)

    def view_at(self, op: int) -> int:
        """The view in which the committed entry at `op` was made; -1 if none is, 0 for op 0."""
        if not 0 < op <= self.committed:
            return 0 if op == 0 else -1
        [entry] = split_entries(self._entries[op])
        return entry.view

    def note(self, now: int, text: str) -> None:
        """Something that whoever reads a failure will want to know."""
        self.events.append((now, text))

    # Disks and lives.

    def opened(self, node: Node, recovered: Recovered) -> None:
        """A member's process begins on what its journal gave back."""
        self.disks[node.member].opened(node.member, recovered)
        self._seen[node.member] = _Seen(floor=self._view_of(recovered.state), state=recovered.state)
        self._support(node.member, recovered.state)
        unsafe = unsafe_segment(node.disk) or unsafe_snapshot(node.disk, recovered.snapshot)
        require(not unsafe, "durability", "member {} believes {}, which was never synced", node.member, unsafe)

    def jumped(self, node: Node, executor: Executor) -> None:
        """A member holds the state of a snapshot, and applies nothing of what lies before."""
        seen, op = self._seen[node.member], executor.applied
        require(op >= seen.applied, "monotone", "member {} loaded op {} after op {}", node.member, op, seen.applied)
        require(op <= self.committed, "agreement", "member {} loaded op {}, which nobody committed", node.member, op)
        self.counts["snapshots loaded"] += 1
        self._compare(node.member, executor, look_at_state=True)
        seen.applied = op

    def _compare(self, member: int, executor: Executor, *, look_at_state: bool) -> None:
        applied, agreed = executor.applied, self._seen[member].agreed
        known = self._digests.get(applied)
        if known is None:
            self._digests[applied] = executor.digest
        elif known == executor.digest:
            self._seen[member].agreed = applied
        else:
            executed = executed_between(self._entries, agreed, applied)
            told = f"member {member} gave other replies than others up to op {applied}; {executed}"
            raise ViolationError("equal states", told)
        if look_at_state:
            digest = executor.state_digest()
            if self._states.setdefault(applied, digest) != digest:
                executed = executed_between(self._entries, agreed, applied)
                told = f"member {member} holds another state at op {applied}; {executed}"
                raise ViolationError("equal states", told)

    def durable(self, node: Node, records: Sequence[JournalRecord]) -> None:
        """A member's journal reports these durable."""
        disk = self.disks[node.member]
        kept = [record.after for record in records if isinstance(record, TruncateRecord)]
        ops = range(min(kept) + 1, min(disk.last_op, self.committed) + 1) if kept else ()
        held = [op for op in ops if disk.entries.get(op) == self._entries[op]]
        disk.add(records)
        for op in held:
            require(
                disk.holds(op, self._entries[op]), "durability", "member {} cut off committed op {}", node.member, op
            )
        unsafe = unsafe_segment(node.disk, newest=2)
        require(not unsafe, "durability", "member {} reports {} durable, which is not", node.member, unsafe)
        for record in records:
            if isinstance(record, SnapshotRecord):
                self._stored(node, record)
            elif isinstance(record, StateRecord):
                self._saved(node.member, record.data)

    def _stored(self, node: Node, snapshot: SnapshotRecord) -> None:
        self.counts["snapshots stored"] += 1
        unsafe = unsafe_snapshot(node.disk, snapshot)
        require(not unsafe, "durability", "member {} names {}, which is not durable", node.member, unsafe)
        op = snapshot.op
        if op not in self._states and self.reference is not None:
            expected = self.reference.digest_at(op, self._entries)
            if expected is not None:
                self._states[op] = expected
        if self._states.setdefault(op, snapshot.digest) != snapshot.digest:
            told = f"member {node.member}'s snapshot up to op {op} holds another state"
            raise ViolationError("equal states", f"{told} (perhaps snapshot() or a query changes the machine)")

    def _support(self, member: int, state: bytes | None) -> None:
        if self._rules is not None and state is not None:
            self._supported[member].add(self._rules.support(self._codec.decode(state)))

    def _saved(self, member: int, state: bytes) -> None:
        seen, view = self._seen[member], self._view_of(state)
        require(view >= seen.floor, "monotone", "member {}'s view on disk went back to {}", member, view)
        if self._rules is not None and seen.state is not None:
            taken_back = self._rules.taken_back(self._codec.decode(seen.state), self._codec.decode(state))
            require(not taken_back, "monotone", "member {} takes back on disk {}", member, taken_back)
        seen.floor, seen.state = view, state
        self._support(member, state)

    def ended(self, now: int, node: Node, why: str) -> None:
        """A process ended."""
        self.counts[f"ended: {why}"] += 1
        self.note(now, f"member {node.member} ended: {why}")
        if node.replica is not None:
            self.collect(node.replica)

    def collect(self, replica: Replica) -> None:
        """Count what a life that is over came across."""
        for reason, times in replica.statistics().ignored.items():
            self.counts[f"ignored: {reason}"] += times

    def _view_of(self, state: bytes | None) -> int:
        if state is None:
            return 0
        decoded: State = self._codec.decode(state)
        # The first field of a durable state is VSR's view or Raft's term.
        return int(getattr(decoded, fields(decoded)[0].name))

    # Turns.

    def turned(self, now: int, node: Node, replica: Replica, transitions: Sequence[Transition]) -> None:
        """A member's turn ended."""
        seen = self._seen[node.member]
        if replica.executor.applied != seen.applied:
            self._applied(node.member, replica, seen)
        leads = replica.leads
        if transitions or leads is not seen.led:
            self._stood(now, node, replica, seen, transitions)
            seen.led = leads
        self._turns += 1
        if self._turns % _LOOK_EVERY == 0:
            self._look_at_bounds(node, replica)

    def _applied(self, member: int, replica: Replica, seen: _Seen) -> None:
        executor = replica.executor
        applied = executor.applied
        require(applied > seen.applied, "monotone", "member {} went back to op {}", member, applied)
        for op in range(seen.applied + 1, applied + 1):
            entry = replica.entry(op)
            if self._entries.setdefault(op, entry.encoded) != entry.encoded:
                raise ViolationError("agreement", f"member {member} applied another entry at op {op}")
            if op > self.committed:
                self._first_commit(member, op, entry)
        self._compare(member, executor, look_at_state=applied % _STATE_EVERY == 0)
        seen.applied = applied

    def _first_commit(self, member: int, op: int, entry: Entry) -> None:
        self.committed, stamp = op, entry.stamp
        self.sessions_opened += entry.kind is Kind.REGISTER
        holders = [holder for holder, disk in self.disks.items() if disk.holds(op, entry.encoded)]
        if len(holders) < self._quorum:
            raise ViolationError("majority", f"member {member} committed op {op}, which only disks {holders} hold")
        require(stamp >= self._stamp, "agreed time", "the time of op {} is before that of the op before it", op)
        self._stamp = stamp

    def _stood(self, now: int, node: Node, replica: Replica, seen: _Seen, transitions: Sequence[Transition]) -> None:
        status, member = replica.status(), node.member
        for transition in transitions:
            self.counts[f"{transition.status}: {sub(r'[0-9]+', 'N', transition.reason)}"] += 1
            self.note(
                now,
                f"member {member} is {transition.role}, {transition.status}, in view {transition.view}: "
                f"{transition.reason}",
            )
        least = max(seen.view, seen.floor)
        require(
            status.view >= least, "monotone", "member {}'s view went back from {} to {}", member, least, status.view
        )
        seen.view = status.view
        if status.status == "normal" or replica.leads:
            disk = self.disks[member]
            disk.ghost = {}
            if disk.owed:
                require(status.op >= disk.owed, "durability", _TOO_EARLY, member, status.op, disk.owed)
                disk.owed = 0
        if replica.leads:
            if status.view not in self.leaders:
                self._first_to_lead(member, status.view)
            leader = self.leaders.setdefault(status.view, (member, node.life))
            if leader != (member, node.life):
                raise ViolationError(
                    "one primary",
                    f"view {status.view} is led by member {leader[0]} (life {leader[1]}) and by member {member} "
                    f"(life {node.life})",
                )

    def _first_to_lead(self, member: int, view: int) -> None:
        """A disk that was lost counts: whoever was supported from there cannot know."""
        if self._rules is None or view == 0:
            return
        supporters = [other for other, said in self._supported.items() if {(view, member), (view, 0)} & said]
        if len(supporters) < self._quorum:
            raise ViolationError(
                "majority", f"member {member} leads view {view}, and only disks {supporters} have ever supported it"
            )

    def _look_at_bounds(self, node: Node, replica: Replica) -> None:
        require(len(node.waiting) <= _MOST_WAITING, "bounds", "member {} asked for too many writes", node.member)
        endpoint = replica.endpoint.statistics()
        require(endpoint.held_bytes <= _MOST_HELD, "bounds", "member {} holds too much of large messages", node.member)
        require(endpoint.learnt_peers <= _MOST_PEERS, "bounds", "member {} remembers too many clients", node.member)
        sessions = len(replica.executor.sessions)
        require(sessions <= self.most_sessions, "bounds", "member {} keeps {} sessions", node.member, sessions)

    def compare_states(self, replicas: Sequence[Replica]) -> None:
        """Members that have applied as much hold equal states: looked at when all is still."""
        states = {(replica.executor.applied, replica.executor.state_digest()) for replica in replicas}
        applied = {op for op, _ in states}
        require(len(states) == len(applied), "equal states", "members that applied the same hold different states")
