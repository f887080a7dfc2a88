"""The writes of one replica, numbered across its lives' protocols, and the promises that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from viewstamp.journal import JournalRecord
from viewstamp.protocol import Promise, SendAfter

Issued = tuple[int, tuple[JournalRecord, ...]]

_PROMISES_AT_MOST = 4096


class Writes:
    """Numbers grow by one from 1. A protocol counts its own writes; founding and snapshots write between them."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the write issued last."""
        self.issued: list[Issued] = []
        """What was issued since the last call of `take_issued`, in order."""
        self._of_core: deque[tuple[int, int]] = deque()  # (number here, number of the protocol)
        # A disk that hangs for a day leaves a million heartbeats unanswered. All but the newest answers may be lost:
        # they would arrive together, when the disk answers, at somebody who has long asked again.
        self.promised: deque[SendAfter] = deque(maxlen=_PROMISES_AT_MOST)
        """The promises that wait."""
        self._durable = 0  # by the protocol's numbers

    def issue(self, records: tuple[JournalRecord, ...], core_write: int = 0) -> int:
        """A batch for the journal; `core_write` is the protocol's number for it, 0 if it is not the protocol's."""
        self.last += 1
        if core_write:
            self._of_core.append((self.last, core_write))
        self.issued.append((self.last, records))
        return self.last

    def take_issued(self) -> list[Issued]:
        """Hand over what was issued since the last call."""
        issued, self.issued = self.issued, []
        return issued

    def written(self, write: int) -> int:
        """Write number `write` and all before it are durable; the protocol's number for the last of them, 0 if none."""
        done = 0
        while self._of_core and self._of_core[0][0] <= write:
            done = self._of_core.popleft()[1]
        self._durable = done or self._durable
        return done

    def promise(self, promises: Iterable[SendAfter]) -> None:
        """Keep these until what they promise is durable."""
        self.promised.extend(promises)

    def send_kept(self, send: Callable[[int, Promise], None]) -> bool:
        """Send the promises that may leave now, to (member, message); whether there was any."""
        kept = False
        while self.promised and self.promised[0].write <= self._durable:
            promise = self.promised.popleft()
            send(promise.to, promise.message)
            kept = True
        return kept
