"""The first start of a member: found the cluster with all others, or find that its data is gone.

A blank directory is either the first start or a lost disk, and guessing wrong is amnesia. So only all n members
together found a cluster: each tells whom it has seen blank, and a member founds when every other has told exactly
the vector that it holds itself. What a member tells is durable first, and never goes back, so no two different
vectors can both be told by all unless a disk was lost in between. A blank member that hears of a founded one is named
in its founding record with this incarnation, and starts as normal, or has lost its disk; whom it has seen replaced
since stays replaced for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from viewstamp.journal import FoundingRecord, JournalRecord
from viewstamp.protocol import LARGEST_INCARNATION, MILLISECOND, NEVER, Founded, Lost, Origin, check
from viewstamp.replica.errors import IncarnationTooOldError, MembersChangedError, SupersededError
from viewstamp.replica.turn import Stored
from viewstamp.wire import FIRST_CLIENT_ID, Hello

_RETRY_NS = 50 * MILLISECOND
_INCARNATION_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class FoundingState:
    """What a founding record holds: the incarnation of each member in `members` order, 0 for one not seen yet."""

    complete: bool
    vector: tuple[int, ...]

    def encode(self) -> bytes:
        """One byte, then 8 bytes a member."""
        return bytes([self.complete]) + b"".join(number.to_bytes(8, "big") for number in self.vector)

    @classmethod
    def decode(cls, data: bytes) -> FoundingState:
        """Read what `encode` wrote."""
        numbers = tuple(int.from_bytes(data[at : at + 8], "big") for at in range(1, len(data), 8))
        return cls(bool(data[0]), numbers)


def read_record(data: bytes | None, me: int, members: tuple[int, ...]) -> FoundingState | None:
    """The founding record of a journal, which may have none.

    Raises:
      MembersChangedError: it was made among more or fewer members.
    """
    if data is None:
        return None
    record = FoundingState.decode(data)
    if len(record.vector) != len(members):
        raise MembersChangedError(me, len(record.vector), len(members))
    return record


class Founding:
    """One blank member's part in founding. Times are monotonic nanoseconds.

    The caller makes `record` durable whenever `unsaved` and then calls `saved`; sends `hello` to all others at
    `deadline`; and starts its protocol once `origin` is set.
    """

    def __init__(self, members: tuple[int, ...], me: int, incarnation: int, before: FoundingState | None) -> None:
        self._members = members
        self._me = me
        self._vector = dict.fromkeys(members, 0)
        if before is not None:
            self._vector.update(zip(members, before.vector, strict=True))
        self._vector[me] = incarnation
        self._told: dict[int, tuple[int, ...]] = {}
        self._durable: tuple[int, ...] = ()
        self.origin: Origin | None = None
        self.record = FoundingState(complete=False, vector=self.vector)
        self.unsaved = True
        self.superseded_by = 0
        self.deadline = 0

    @property
    def vector(self) -> tuple[int, ...]:
        return tuple(self._vector.values())

    @property
    def waiting(self) -> str:
        """What this member is waiting for, for people."""
        missing = [str(member) for member, incarnation in self._vector.items() if not incarnation]
        if missing:
            return f"waiting for all members to be seen once: not yet seen {', '.join(missing)}"
        return "waiting for all members to be seen once: they have not all seen each other"

    def hello(self, now: int) -> Hello | None:
        """What to tell the others now; nothing before it is durable."""
        self.deadline = now + _RETRY_NS
        return Hello(blank=True, vector=self._durable) if self._durable else None

    def saved(self) -> None:
        """`record` as it was when `unsaved` was last cleared is durable now."""
        self._durable = self.record.vector
        self.deadline = 0
        self._found_if_unanimous()

    def take_record(self) -> FoundingState:
        """The record to write now."""
        self.record = FoundingState(complete=False, vector=self.vector)
        self.unsaved = False
        return self.record

    def receive(self, sender: int, incarnation: int, message: Hello) -> None:
        """Another member says what it is and whom it has seen."""
        if sender not in self._vector or sender == self._me or len(message.vector) != len(self._members):
            return
        if max(incarnation, *message.vector) > LARGEST_INCARNATION:
            return
        if incarnation < self._vector[sender]:
            return  # Its disk has been replaced: what it has told of, perhaps a founding, is gone with that.
        mine = message.vector[self._members.index(self._me)]
        if not message.blank:
            self._founded_elsewhere(mine, message.vector)
            return
        if mine > self._vector[self._me]:
            self.superseded_by = max(self.superseded_by, mine)
            return
        if incarnation > self._vector[sender]:
            self._vector[sender] = incarnation
            self.unsaved = True
        self._told[sender] = message.vector
        self._found_if_unanimous()

    def _founded_elsewhere(self, mine: int, vector: tuple[int, ...]) -> None:
        incarnation = self._vector[self._me]
        if mine == incarnation:
            self.record = FoundingState(complete=True, vector=vector)
            # News of a founding can be late: who was in it, and has lost its disk since, may have founded the cluster
            # anew with all others. Were the old one known here again, what it ordered would be acknowledged to the new.
            self.origin = Founded(tuple(map(max, vector, self.vector)))
        else:
            position = self._members.index(self._me)
            replaced = (*vector[:position], incarnation, *vector[position + 1 :])
            self.record = FoundingState(complete=True, vector=replaced)
            self.origin = Lost(incarnation)

    def _found_if_unanimous(self) -> None:
        vector = self.vector
        if self.origin is not None or 0 in vector or self._durable != vector:
            return
        if all(self._told.get(other) == vector for other in self._members if other != self._me):
            self.record = FoundingState(complete=True, vector=vector)
            self.origin = Founded(vector)


class Foundation:
    """The founding as one member lives through it: a part in it while it is blank, then the record that it goes by.

    `issue(records)` writes to the journal and returns the write's number; `send(member, message)` sends.

    Raises:
      MembersChangedError: the cluster was founded with more or fewer members.
    """

    def __init__(
        self,
        members: tuple[int, ...],
        me: int,
        stored: Stored,
        *,
        issue: Callable[[tuple[JournalRecord, ...]], int],
        send: Callable[[int, object], None],
    ) -> None:
        self._members = members
        self._me = me
        self._incarnation = stored.incarnation
        self._issue = issue
        self._send = send
        self._write = 0  # what it has told of is durable with this one; 0 when none is awaited
        self._founding: Founding | None = None
        self._record = read_record(stored.founding, me, members)  # of a cluster that is founded, once that is written
        self.unwritten: FoundingState | None = None
        """A record that is to go into the journal together with the protocol's first state, in one batch."""
        if stored.state is not None:
            complete = self._record is not None and self._record.complete
            check(complete, "a journal with a state but without a founding record")
        else:
            self._founding = Founding(members, me, stored.incarnation, self._record)
            self._record = None

    def receive(self, sender: int, incarnation: int, message: Hello) -> None:
        """A member says what it is, and one that is blank learns here how the cluster was founded."""
        if self._founding is not None:
            self._founding.receive(sender, incarnation, message)
        elif message.blank and self._record is not None and sender < FIRST_CLIENT_ID:
            self._send(sender, Hello(blank=False, vector=self._record.vector))

    def written(self, write: int) -> None:
        """Write number `write` of this replica, and with it every earlier one, is durable."""
        if self._founding is not None and 0 < self._write <= write:
            self._write = 0
            self._founding.saved()

    def settle(self, now: int) -> Origin | None:
        """How a blank member's protocol begins, as soon as that is known; until then, write and tell what there is."""
        founding = self._founding
        if founding is None:
            return None
        if founding.superseded_by:
            self.supersede(founding.superseded_by)
        elif founding.origin is not None:
            self._founding, self.unwritten = None, founding.record
            return founding.origin
        else:
            if founding.unsaved and not self._write:
                self._write = self._issue((FoundingRecord(founding.take_record().encode()),))
            hello = founding.hello(now) if now >= founding.deadline else None
            if hello is not None:
                for other in self._members:
                    if other != self._me:
                        self._send(other, hello)
        return None

    def recorded(self, record: FoundingState) -> FoundingRecord:
        """What was `unwritten` goes with a write that is about to be issued: others are told of it from now on."""
        self._record, self.unwritten = record, None
        return FoundingRecord(record.encode())

    def supersede(self, known: int) -> None:
        """A peer knows a newer incarnation of this member. A blank one takes a larger one; others must stop."""
        if self._record is not None:
            raise SupersededError(self._me, self._incarnation, known)
        raise IncarnationTooOldError(known + _INCARNATION_STEP)

    @property
    def deadline(self) -> int:
        """When a turn is wanted, in monotonic nanoseconds."""
        return self._founding.deadline if self._founding is not None else NEVER

    @property
    def waiting(self) -> str:
        """What a blank member is waiting for, for people."""
        return self._founding.waiting if self._founding is not None else ""
