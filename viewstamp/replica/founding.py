"""The first start of a member: found the cluster with all others, or find that its data is gone.

A blank directory is either the first start or a lost disk, and guessing wrong is amnesia. So only all n members
together found a cluster: each tells whom it has seen blank, and a member founds when every other has told exactly
the vector that it holds itself. What a member tells is durable first, and never goes back, so no two different
vectors can both be told by all unless a disk was lost in between. A blank member that hears of a founded one is named
in its founding record with this incarnation, and starts as normal, or has lost its disk; whom it has seen replaced
since stays replaced for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from viewstamp.protocol import LARGEST_INCARNATION, MILLISECOND, Founded, Lost, Origin
from viewstamp.replica.errors import MembersChangedError
from viewstamp.wire import Hello

_RETRY_NS = 50 * MILLISECOND


@dataclass(frozen=True, slots=True)
class FoundingRecord:
    """What the journal keeps: the incarnation of each member in `members` order, 0 for one not seen yet."""

    complete: bool
    vector: tuple[int, ...]

    def encode(self) -> bytes:
        """One byte, then 8 bytes a member."""
        return bytes([self.complete]) + b"".join(number.to_bytes(8, "big") for number in self.vector)

    @classmethod
    def decode(cls, data: bytes) -> FoundingRecord:
        """Read what `encode` wrote."""
        numbers = tuple(int.from_bytes(data[at : at + 8], "big") for at in range(1, len(data), 8))
        return cls(bool(data[0]), numbers)


def read_record(data: bytes | None, me: int, members: tuple[int, ...]) -> FoundingRecord | None:
    """The founding record of a journal, which may have none.

    Raises:
      MembersChangedError: it was made among more or fewer members.
    """
    if data is None:
        return None
    record = FoundingRecord.decode(data)
    if len(record.vector) != len(members):
        raise MembersChangedError(me, len(record.vector), len(members))
    return record


class Founding:
    """One blank member's part in founding. Times are monotonic nanoseconds.

    The caller makes `record` durable whenever `unsaved` and then calls `saved`; sends `hello` to all others at
    `deadline`; and starts its protocol once `origin` is set.
    """

    def __init__(self, members: tuple[int, ...], me: int, incarnation: int, before: FoundingRecord | None) -> None:
        self._members = members
        self._me = me
        self._vector = dict.fromkeys(members, 0)
        if before is not None:
            self._vector.update(zip(members, before.vector, strict=True))
        self._vector[me] = incarnation
        self._told: dict[int, tuple[int, ...]] = {}
        self._durable: tuple[int, ...] = ()
        self.origin: Origin | None = None
        self.record = FoundingRecord(complete=False, vector=self.vector)
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

    def take_record(self) -> FoundingRecord:
        """The record to write now."""
        self.record = FoundingRecord(complete=False, vector=self.vector)
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
            self.record = FoundingRecord(complete=True, vector=vector)
            # News of a founding can be late: who was in it, and has lost its disk since, may have founded the cluster
            # anew with all others. Were the old one known here again, what it ordered would be acknowledged to the new.
            self.origin = Founded(tuple(map(max, vector, self.vector)))
        else:
            position = self._members.index(self._me)
            replaced = (*vector[:position], incarnation, *vector[position + 1 :])
            self.record = FoundingRecord(complete=True, vector=replaced)
            self.origin = Lost(incarnation)

    def _found_if_unanimous(self) -> None:
        vector = self.vector
        if self.origin is not None or 0 in vector or self._durable != vector:
            return
        if all(self._told.get(other) == vector for other in self._members if other != self._me):
            self.record = FoundingRecord(complete=True, vector=vector)
            self.origin = Founded(vector)
