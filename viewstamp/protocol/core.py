"""The contract between a protocol and the body that drives it: events go in, effects come out.

A protocol is a synchronous object. It never awaits, reads a clock, draws a random number that was not handed to
it, or touches a socket or a file. A run is a list of (time, member, event); replaying the list replays the run.

The words of this contract are neutral. *View* and *op* stand for VSR's view and op-number and for Raft's term
and index; the *primary* is the member that orders commands (Raft's leader).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from viewstamp.protocol.configuration import Configuration, Time
from viewstamp.protocol.entry import Entry, Proposal, Viewstamp
from viewstamp.protocol.snapshot import Snapshot

NEVER = (1 << 63) - 1
"""A deadline that never comes, in monotonic nanoseconds."""


@dataclass(frozen=True, slots=True)
class Message:
    """What members send each other. Subclass `Statement` or `Promise`, never this.

    Fields are flat: int (0 to 2**64 - 1), bool, bytes, str, tuple[int, ...], tuple[Entry, ...].
    """

    @property
    def label(self) -> Hashable:
        """What this message has in common with those that repeat it, as its receiver asks again or is silent.

        One that is large is not sent again to a member to which another of the same label is still under way: on a slow
        line the copies would pile up. None for what must always be sent.
        """
        return None


@dataclass(frozen=True, slots=True)
class Statement(Message):
    """A message that may leave at once: it promises nothing that a crash could break."""


@dataclass(frozen=True, slots=True)
class Promise(Message):
    """A message that may leave only when what it promises is durable; it travels in `SendAfter` alone."""


@dataclass(frozen=True, slots=True)
class State:
    """What a protocol keeps durably beside its log, such as (view, last normal view) or (term, vote).

    Written as one record, always whole. Fields as in `Message`.
    """


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to member `to` now."""

    to: int
    message: Statement


@dataclass(frozen=True, slots=True)
class SendAfter:
    """Send `message` to member `to` once write number `write`, and with it every earlier one, is durable."""

    write: int
    to: int
    message: Promise


@dataclass(frozen=True, slots=True)
class Append:
    """Put these consecutive entries at the end of the durable log. The first is its next op."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Drop every entry of the durable log beyond op `after`."""

    after: int


@dataclass(frozen=True, slots=True)
class SaveState:
    """Replace the durable state."""

    state: State


@dataclass(frozen=True, slots=True)
class Install:
    """The durable log begins anew behind this snapshot, which is on the disk already: all its entries are dropped."""

    snapshot: Snapshot


Record = Append | Truncate | SaveState | Install


@dataclass(frozen=True, slots=True)
class Write:
    """A batch of records, atomic: a crash keeps all of it or nothing, and an earlier batch before a later one.

    Numbers grow by one from 1 in one life of the process. The body answers with `Core.written(number, now)`.
    """

    number: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class ReadReady:
    """The read may be served from any state with at least `op` applied."""

    read: int
    op: int


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """This member could not confirm the read; it was not served, and asking again is safe."""

    read: int
    reason: str


@dataclass(frozen=True, slots=True)
class Transition:
    """Something an operator wants to know: the status, view or role changed, and why.

    For people and event streams; nothing is decided by it.
    """

    status: str
    role: str
    view: int
    primary: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A snapshot that this member needs, and the member that has offered it."""

    source: int
    snapshot: Snapshot


@dataclass(slots=True)
class Effects:
    """Everything one turn asks of its body, to be carried out in this order.

    1. `sends` may leave at once. 2. `write`, if any, goes to the journal. 3. each of `promises` leaves when its
    write is durable. 4. `restore`, if any, was installed in this turn: the state machine is to be replaced by what it
    holds. 5. entries up to `commit` may be applied and answered. 6. `reads` may be served or refused.

    `wanted` is the snapshot needed as things stand, and None as soon as it is not: the body fetches it into a file
    of its own and then calls `fetched`. What has come of it stays good for as long as the name is the same, whoever
    the source.

    `supersede`, unless 0, is an incarnation of this member that a peer knows and that is newer than this directory's.
    For a blank one the body takes a larger one, durably, and starts the protocol again as `Lost`; any other is an old
    copy, and the member must stop.
    """

    sends: list[Send] = field(default_factory=list)
    write: Write | None = None
    promises: list[SendAfter] = field(default_factory=list)
    restore: Snapshot | None = None
    commit: int = 0
    reads: list[ReadReady | ReadFailed] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    wanted: Wanted | None = None
    supersede: int = 0


@dataclass(frozen=True, slots=True)
class Durable:
    """What a member's journal gave back at start, already synced again: the state, the log and the snapshot before it.

    The first entry is op 1, or at most the one after the snapshot's.
    """

    state: State
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Founded:
    """A member's first start: all members were blank, and these are their incarnations, in `members` order."""

    incarnations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """A member's data is gone; `incarnation` is the new one of its blank directory."""

    incarnation: int


Origin = Durable | Founded | Lost


@dataclass(frozen=True, slots=True)
class Standing:
    """How a member sees itself right now. `leads` is true while it takes proposals.

    `primary` is the member it believes to order commands, or None. `waiting` says, for people, why there is no
    primary or why this member does not serve; empty when all is well. The log in memory begins after op `base`.
    """

    status: str
    role: str
    view: int
    primary: int | None
    leads: bool
    op: int
    commit: int
    waiting: str = ""
    base: int = 0
    log_bytes: int = 0


class RefusesLostDiskError(Exception):
    """This protocol cannot bring back a member whose data is gone under its old identity."""


class Core(ABC):
    """One member's protocol.

    Each method below is an event. After any number of events of one turn the body calls `drain` once and carries
    out the effects. Nothing else has effects. A body never calls back from within an event.

    Constructor arguments: the configuration, this member's id, how it starts (`Durable`, `Founded` or `Lost`), a
    seeded `Random` for jitter and nonces, and the time. A constructor may leave effects to drain.

    Peer input can never raise. An `InvariantError` from any method means a defect; the replica must stop.
    """

    name: ClassVar[str]
    """The protocol's name in cluster files."""
    messages: ClassVar[Mapping[int, type[Message]]]
    """Every message class by its tag, 64 to 127; the codec is built from these."""
    states: ClassVar[Mapping[int, type[State]]]
    """The durable state class by its tag, 128 to 191."""
    recovers_lost_disk: ClassVar[bool]
    """Whether a member whose data is gone can come back by itself."""

    @abstractmethod
    def __init__(self, configuration: Configuration, me: int, origin: Origin, random: Random, now: Time) -> None: ...

    @abstractmethod
    def receive(self, sender: int, incarnation: int, message: Message, now: Time) -> None:
        """A peer's message arrived; `incarnation` is the sender's, from its frame. Unwanted ones are ignored."""

    @abstractmethod
    def propose(self, proposals: Sequence[Proposal], now: Time) -> int:
        """Order these, all or none; returns the op of the first, or 0 where this member does not lead or is full.

        An op given here is not a promise: a view change can still replace it.
        """

    @abstractmethod
    def read(self, read: int, now: Time) -> None:
        """Ask for a point at which a linearizable read may be served; a `ReadReady` or `ReadFailed` answers.

        `read` is the body's own number, not used twice in one life of the process. Any member may be asked.
        """

    @abstractmethod
    def written(self, write: int, now: Time) -> None:
        """Write number `write`, and with it every earlier one, is durable."""

    @abstractmethod
    def compact(self, snapshot: Snapshot, keep_after: int, now: Time) -> None:
        """This member's own snapshot is durable; entries up to op `keep_after`, at most the snapshot's, may go.

        What lies between the two is kept for members that are a little behind. May be called again with the same one.
        """

    @abstractmethod
    def fetched(self, snapshot: Snapshot, now: Time) -> None:
        """A snapshot that was wanted is whole and durable on this disk, in a file of its own."""

    @abstractmethod
    def fetching(self, snapshot: Snapshot, now: Time) -> None:
        """More of a snapshot that is wanted has come: its source is alive."""

    @abstractmethod
    def fetch_failed(self, snapshot: Snapshot, now: Time) -> None:
        """The source of a snapshot that was wanted does not have it any more, or does not answer."""

    @abstractmethod
    def tick(self, now: Time) -> None:
        """It is now `now`. Harmless at any time; expected once `deadline` has passed."""

    @abstractmethod
    def resign(self, now: Time) -> None:
        """This member is about to stop on purpose: a primary gives way at once. Best effort."""

    @abstractmethod
    def give_way(self, reason: str, now: Time) -> None:
        """This member cannot serve as a primary, for a reason that only its body sees: if it is one, it gives way."""

    @abstractmethod
    def drain(self) -> Effects:
        """All effects since the last call."""

    @property
    def pending(self) -> bool:
        """Whether `drain` would give anything that the last call did not: false saves an almost empty turn."""
        return True

    @property
    @abstractmethod
    def deadline(self) -> int:
        """When `tick` wants to be called next, in monotonic nanoseconds; NEVER if not at all."""

    @property
    @abstractmethod
    def standing(self) -> Standing:
        """How this member sees itself."""

    @property
    def leading(self) -> int:
        """The view in which this member takes proposals now, -1 if it takes none: what a body asks in every turn."""
        standing = self.standing
        return standing.view if standing.leads else -1

    @property
    @abstractmethod
    def incarnations(self) -> Mapping[int, int]:
        """The newest incarnation known of each member; frames of an older one are stale."""

    @abstractmethod
    def entry(self, op: int) -> Entry:
        """The entry at `op`, which must be in the log held in memory."""

    def size(self, op: int) -> int:
        """The bytes of that entry."""
        return len(self.entry(op).encoded)

    def executed(self, op: int) -> None:  # noqa: B027  # who keeps nothing for long need not know
        """The body will hardly ask for entries up to `op` again. No event: it saves memory, and decides nothing."""

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        """The entries from op `first` to `last`, all of them in the log held in memory."""
        return [self.entry(op) for op in range(first, last + 1)]

    @property
    @abstractmethod
    def ignored(self) -> Mapping[str, int]:
        """How often a message was ignored, by reason, for statistics."""

    @abstractmethod
    def viewstamp_of(self, op: int) -> Viewstamp:
        """The viewstamp of the operation at `op`; (0, 0) for op 0."""
