"""Checkers that watch a cluster from outside: entries applied, disks, promises, what clients were told.

They read no protocol's private state, and each says what was violated in one sentence. The properties:

- agreement: every member, in every life, applies the same entry at an op; equal viewstamps are equal entries;
- durability: what a client was told is in every later history, where it was told;
- exactly once: a request has one effect, however often it was ordered;
- one primary: no view is led by two members, or by one member in two lives;
- complete log: a new primary holds all that was committed in earlier views;
- monotone: a member's view never goes back, nor a vote, across restarts too; its commit-number not within a life;
- promises: no message leaves that promises what the sender's disk does not hold, nor one that acknowledges another log
  than that of the primary whom it tells, and no log gets shorter than what its member has acknowledged in the view that
  it is still the log of;
- majority: an entry is on a majority of disks when it is first committed;
- reads: a read sees every op that any client was told of before it asked;
- agreed time: the stamps of committed entries never go back;
- snapshot: whatever is named, wanted or loaded holds what is committed up to its op, and no log begins beyond what is;
  what is installed is on the disk, and takes nothing back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from viewstamp.protocol import (
    SNAPSHOT_DIGEST_BYTES,
    Configuration,
    Core,
    Effects,
    Entry,
    Install,
    Kind,
    Message,
    Promise,
    ReadReady,
    SaveState,
    Snapshot,
    Standing,
    State,
    Statement,
    Truncate,
    Viewstamp,
    Write,
)
from viewstamp.protocol import Append as AppendRecord
from viewstamp.simulation.member import SimulatedMember, Watcher
from viewstamp.simulation.rules import ProtocolRules


class PropertyError(Exception):
    """A property was violated: `name` is the property's, the text says how."""

    def __init__(self, name: str, explanation: str) -> None:
        super().__init__(f"{name}: {explanation}")
        self.name = name


class History:
    """The one agreed history, as far as any member has applied it, and what clients were told of it."""

    def __init__(self) -> None:
        self.committed: list[Entry] = []
        self.effects: dict[tuple[int, int], int] = {}
        self.told: dict[tuple[int, int], int] = {}
        self.told_op = 0
        self._by_viewstamp: dict[Viewstamp, bytes] = {}
        self._digests = [bytes(SNAPSHOT_DIGEST_BYTES)]

    def commit(self, entry: Entry) -> bool:
        """A member applied this; True if it is the first to."""
        op = entry.op
        if op <= len(self.committed):
            agreed = self.committed[op - 1]
            if agreed.encoded != entry.encoded:
                raise PropertyError("agreement", f"op {op} is {describe(agreed)} here and {describe(entry)} there")
            return False
        if op != len(self.committed) + 1:
            raise PropertyError("agreement", f"op {op} was applied where {len(self.committed) + 1} comes next")
        if self.committed and entry.stamp < self.committed[-1].stamp:
            raise PropertyError("agreed time", f"{describe(entry)} carries an earlier time than the one before it")
        self.committed.append(entry)
        if entry.kind is Kind.COMMAND:
            # The session table: the first place of a request is where it has its effect; later ones are duplicates.
            self.effects.setdefault((entry.session, entry.request), op)
        return True

    def snapshot(self, op: int) -> Snapshot:
        """The name of a snapshot of all that is committed up to `op`; its digest depends on every entry up to there."""
        digests = self._digests
        while len(digests) <= op:
            entry = self.committed[len(digests) - 1]
            digests.append(blake2b(digests[-1] + entry.encoded, digest_size=SNAPSHOT_DIGEST_BYTES).digest())
        last = self.committed[op - 1]
        return Snapshot(last.view, op, last.stamp, 100 + op, digests[op])

    def seen(self, entry: Entry) -> None:
        """This entry is in some log, committed or not."""
        known = self._by_viewstamp.setdefault(entry.viewstamp, entry.encoded)
        if known != entry.encoded:
            raise PropertyError("agreement", f"two different entries have viewstamp {tuple(entry.viewstamp)}")

    def tell(self, session: int, request: int, op: int) -> None:
        """A client is told that its request had its effect at this op."""
        key = (session, request)
        if key in self.told:
            raise PropertyError("exactly once", f"request {key} was answered at op {self.told[key]} and at op {op}")
        self.told[key] = op
        self.told_op = max(self.told_op, op)
        self.verify(session, request)

    def verify(self, session: int, request: int) -> None:
        """What this client was told is what history says."""
        op = self.told[session, request]
        effect = self.effects.get((session, request))
        if effect is None:
            raise PropertyError("durability", f"request {(session, request)}, answered at op {op}, is nowhere")
        if effect != op:
            raise PropertyError(
                "exactly once", f"request {(session, request)} was answered at op {op}, its effect is at {effect}"
            )


class Checkers(Watcher):
    """All properties, watched at every step of all members. Each method raises PropertyError at once."""

    def __init__(self, configuration: Configuration, rules: ProtocolRules) -> None:
        self.history = History()
        self._rounds: dict[int, int] = {}  # the newest that was begun in each view
        self.members: Mapping[int, SimulatedMember] = {}
        self.promises = 0
        self.promise_kinds: Counter[type[Promise]] = Counter()
        self._configuration = configuration
        self._rules = rules
        self._leaders: dict[int, tuple[int, int]] = {}
        self.standings: dict[int, Standing] = {}
        self._committed_in: list[int] = []
        self._states: dict[int, State] = {}
        self._views: dict[int, int] = {}
        self._commits: dict[int, int] = {}
        self._writes: dict[int, int] = {}
        self._read_floors: dict[tuple[int, int, int], int] = {}
        self._acknowledged: dict[int, tuple[int, int]] = {}
        self._truthful: set[Snapshot] = set()

    @property
    def views(self) -> int:
        """How many views have had a primary."""
        return len(self._leaders)

    def deposed(self, since: int) -> list[int]:
        """Who led but the last of all views from `since` on, and the one before these, in the order of views."""
        leaders = [(view, member) for view, (member, _) in sorted(self._leaders.items())]
        before = [member for view, member in leaders if view < since][-1:]
        return (before + [member for view, member in leaders if view >= since])[:-1]

    @property
    def newest_view(self) -> int:
        """The highest view that has had a primary."""
        return max(self._leaders, default=0)

    # What members do.

    def started(self, member: SimulatedMember) -> None:
        """Commit and writes begin anew: the view at least where the disk left it, the commit with its snapshot."""
        number, disk = member.member, member.disk
        if disk.state is None:
            self._states.pop(number, None)
            self._acknowledged.pop(number, None)
        state = self._states.get(number)
        self._views[number] = 0 if state is None else self._rules.view_of(state)
        self._commits[number] = disk.snapshot.op if disk.snapshot is not None else 0
        self._writes[number] = 0

    def turned(self, member: SimulatedMember, effects: Effects) -> None:
        """Monotone view and commit, one primary, promises bound to writes, reads."""
        for send in effects.sends:
            view, begun = self._rules.round_begun(send.message)
            self._rounds[view] = max(self._rounds.get(view, 0), begun)
            self._heard_only_what_was_begun(member, send.message)
        core = member.core
        if core is None:
            return
        number, standing = member.member, core.standing
        if standing.view < self._views[number]:
            raise PropertyError(
                "monotone", f"member {number}'s view went back from {self._views[number]} to {standing.view}"
            )
        self._views[number] = standing.view
        self.standings[number] = standing
        if effects.commit < self._commits[number]:
            raise PropertyError("monotone", f"member {number}'s commit-number went back to {effects.commit}")
        self._commits[number] = effects.commit
        if standing.base > effects.commit:
            raise PropertyError(
                "snapshot", f"member {number}'s log begins after op {standing.base}, committed is {effects.commit}"
            )
        if effects.wanted is not None:
            self._verify_snapshot(number, effects.wanted.snapshot, "wants")
        if standing.leads:
            self._led(member, core, standing)
        for send in effects.sends:
            if not isinstance(send.message, Statement):
                raise PropertyError("promises", f"member {number} sent {send.message} without waiting for its disk")
        if effects.write is not None:
            self._writes[number] = effects.write.number
        for promise in effects.promises:
            if promise.write > self._writes[number]:
                raise PropertyError("promises", f"member {number} waits for write {promise.write}, never asked for")
        for read in effects.reads:
            if isinstance(read, ReadReady):
                self.read_ready(number, member.life, read.read, read.op)

    def _led(self, member: SimulatedMember, core: Core, standing: Standing) -> None:
        me, view = (member.member, member.life), standing.view
        leader = self._leaders.get(view)
        if leader is None:
            self._leaders[view] = me
            self._verify_log(member.member, core, standing)
        elif leader != me:
            raise PropertyError("one primary", f"view {view} is led by (member, life) {leader} and by {me}")

    def _verify_log(self, member: int, core: Core, standing: Standing) -> None:
        """A primary that begins a view: what a primary of an earlier one committed is in its log, or before it."""
        committed, base = self.history.committed, standing.base
        if 0 < base <= len(committed) and core.viewstamp_of(base) != committed[base - 1].viewstamp:
            raise PropertyError(
                "complete log", f"member {member} leads view {standing.view} behind {core.viewstamp_of(base)}"
            )
        held = core.entries(base + 1, min(standing.op, len(committed)))
        for place, entry in enumerate(committed[base:]):
            missing = place >= len(held) or held[place].encoded != entry.encoded
            if missing and self._committed_in[base + place] < standing.view:
                raise PropertyError(
                    "complete log",
                    f"member {member} leads view {standing.view} without {describe(entry)}, "
                    f"committed in view {self._committed_in[base + place]}",
                )

    def stored(self, member: SimulatedMember, write: Write) -> None:
        """Durable views never go back; equal viewstamps on disks are equal entries; nothing acknowledged is dropped."""
        shorter = False
        for record in write.records:
            match record:
                case AppendRecord(entries):
                    for entry in entries:
                        self.history.seen(entry)
                case SaveState(state):
                    self._saved(member.member, state)
                case Install(snapshot):
                    shorter = True
                    self._verify_snapshot(member.member, snapshot, "has installed")
                case Truncate():
                    shorter = True
        if shorter:
            self._verify_acknowledged(member)
        if self._rules.log_of_view_grows and member.disk.state is not None:
            self._acknowledged[member.member] = self._rules.log_view_of(member.disk.state), member.disk.last_op

    def _verify_acknowledged(self, member: SimulatedMember) -> None:
        view, op = self._acknowledged.get(member.member, (0, 0))
        disk = member.disk
        if disk.last_op < op and disk.state is not None and self._rules.log_view_of(disk.state) == view:
            raise PropertyError(
                "promises",
                f"member {member.member} held op {op} in view {view}, for others to count; its disk ends at "
                f"{disk.last_op}",
            )

    def _saved(self, member: int, state: State) -> None:
        before = self._states.get(member)
        self._states[member] = state
        if before is None:
            return
        view = self._rules.view_of(state)
        if view < self._rules.view_of(before):
            raise PropertyError("monotone", f"member {member}'s view on disk went back to {view}")
        denied = self._rules.taken_back(before, state)
        if denied:
            raise PropertyError("monotone", f"member {member}'s disk no longer says {denied}")

    def _heard_only_what_was_begun(self, member: SimulatedMember, message: Message) -> None:
        """A round of another view, taken for one of this view, would confirm a read that began after it was heard."""
        view, heard = self._rules.round_heard(message)
        if heard > self._rounds.get(view, 0):
            raise PropertyError(
                "promises", f"member {member.member} has heard round {heard} of view {view}: none began"
            )

    def promised(self, member: SimulatedMember, to: int, message: Promise) -> None:
        """The sender's disk holds what its message promises."""
        self.promises += 1
        self.promise_kinds[type(message)] += 1
        self._heard_only_what_was_begun(member, message)
        acknowledged = self._rules.acknowledged(message)
        if acknowledged > self._acknowledged.get(member.member, (0, 0)):
            self._acknowledged[member.member] = acknowledged
        broken = self._rules.broken_promise(member.member, to, message, member.disk)
        if broken:
            name = type(message).__name__
            raise PropertyError("promises", f"member {member.member} promises member {to} {broken} ({name})")
        self._verify_log_is_that_of(self.members.get(to), member, *acknowledged)

    def _verify_log_is_that_of(
        self, primary: SimulatedMember | None, member: SimulatedMember, view: int, op: int
    ) -> None:
        """Who acknowledges a log for its length alone lets its primary count entries that nobody but that has."""
        core, state = primary.core if primary is not None else None, member.disk.state
        if core is None or core.leading != view or state is None or self._rules.view_of(state) > view:
            return
        standing = core.standing
        if standing.base < op <= standing.op and not member.disk.holds(op, core.entry(op)):
            raise PropertyError(
                "promises",
                f"member {member.member} acknowledges the log of view {view} up to op {op}; its disk holds another "
                f"entry there than {describe(core.entry(op))}",
            )

    def applied(self, member: SimulatedMember, entry: Entry) -> None:
        """Agreement, and a majority of disks."""
        if self.history.commit(entry):
            self._committed_in.append(0 if member.core is None else member.core.standing.view)
            holders = [m.member for m in self.members.values() if m.disk.holds(entry.op, entry)]
            if len(holders) < self._configuration.quorum:
                raise PropertyError(
                    "majority",
                    f"member {member.member} committed {describe(entry)}, which only the disks of {holders} hold",
                )

    # Snapshots.

    def named(self, member: SimulatedMember, snapshot: Snapshot) -> None:
        """A snapshot of a member's own stands for what is committed."""
        self._verify_snapshot(member.member, snapshot, "has taken")

    def loaded(self, member: SimulatedMember, snapshot: Snapshot) -> Sequence[Entry]:
        """It is on this disk, holds what is committed, and takes nothing back; the entries that it stands for."""
        number = member.member
        if snapshot not in (member.disk.snapshot, member.fetched):
            raise PropertyError("snapshot", f"member {number} loads one up to op {snapshot.op} that it does not have")
        if snapshot.op <= len(member.applied):
            raise PropertyError(
                "snapshot", f"member {number} has applied {len(member.applied)} and loads one up to op {snapshot.op}"
            )
        self._verify_snapshot(number, snapshot, "loads")
        return self.history.committed[: snapshot.op]

    def _verify_snapshot(self, member: int, snapshot: Snapshot, does: str) -> None:
        if snapshot in self._truthful:
            return
        committed = len(self.history.committed)
        if snapshot.op > committed:
            raise PropertyError(
                "snapshot", f"member {member} {does} one up to op {snapshot.op}; committed are {committed}"
            )
        if snapshot != self.history.snapshot(snapshot.op):
            raise PropertyError("snapshot", f"member {member} {does} one of another history up to op {snapshot.op}")
        self._truthful.add(snapshot)

    # What clients do.

    def read_asked(self, member: int, life: int, read: int) -> None:
        """A client asks for a read at this member."""
        self._read_floors[member, life, read] = self.history.told_op

    def read_ready(self, member: int, life: int, read: int, op: int) -> None:
        """The read may be served from op on."""
        floor = self._read_floors.pop((member, life, read), None)
        if floor is None:
            raise PropertyError("reads", f"member {member} answers read {read}, which is not under way")
        if op < floor:
            raise PropertyError("reads", f"member {member} reads at op {op}; op {floor} was answered before it asked")

    def finish(self) -> None:
        """The final scan: everything that any client was told, where it was told, and every member alike."""
        for session, request in self.history.told:
            self.history.verify(session, request)
        for member in self.members.values():
            if len(member.applied) != len(self.history.committed):
                raise PropertyError(
                    "durability",
                    f"member {member.member} has applied {len(member.applied)} of {len(self.history.committed)}",
                )


def describe(entry: Entry) -> str:
    """An entry for people."""
    return f"{entry.kind.name} {entry.session}.{entry.request} made in view {entry.view} at op {entry.op}"
