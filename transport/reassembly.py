"""The receiving side of fragments: put together within bounds, and say what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from transport.fragment_format import (
    FRAGMENT_HEAD,
    ITEM_BYTES,
    LARGEST_CHUNK_BYTES,
    NEVER,
    PROBE_HEAD,
    REMEMBERED,
    REPORT,
    REPORT_EVERY,
    REPORT_HEAD,
    SMALLEST_CHUNK_BYTES,
    SPAN,
    SPAN_MASK,
    FragmentCounts,
    FragmentLimits,
    make_part,
)

_Key = tuple[int, int, int, int, int]  # the sender's incarnation; number, checksum, length, fragment length


@dataclass(slots=True, eq=False)
class _Partial:
    """One message at its receiver. `mask` has a bit for each fragment held from `base` on."""

    count: int
    expires_at: int
    fragments: dict[int, bytes] = field(default_factory=dict)
    held_bytes: int = 0
    base: int = 0
    mask: int = 0
    seen: int = 0
    unreported: int = 0
    report_at: int = NEVER


class FragmentReceiver:
    """The large messages arriving from one peer."""

    __slots__ = ("_answers", "_bytes", "_counts", "_limits", "_partials", "_whole", "deadline")

    def __init__(self, limits: FragmentLimits, counts: FragmentCounts) -> None:
        self._limits = limits
        self._counts = counts
        self._partials: dict[_Key, _Partial] = {}
        self._bytes = 0
        self._whole: dict[_Key, int] = {}
        self._answers: dict[_Key, bytes] = {}
        self.deadline = NEVER

    def fragment(self, body: bytes, incarnation: int, now: int) -> bytes | None:
        """Take in a fragment; the whole message if this completes it.

        Raises:
          ValueError: the fragment contradicts itself or our limits.
        """
        if len(body) <= FRAGMENT_HEAD.size:
            raise ValueError("a fragment is cut short")
        number, checksum, length, chunk_bytes, order, index = FRAGMENT_HEAD.unpack_from(body)
        count = self._count(length, chunk_bytes)
        data = body[FRAGMENT_HEAD.size :]
        if index >= count or len(data) != min(chunk_bytes, length - index * chunk_bytes):
            raise ValueError("a fragment of the wrong length")
        key = (incarnation, number, checksum, length, chunk_bytes)
        if key in self._whole:
            self._answer(key, order, count, 0)
            return None
        partial = self._partials.get(key)
        if index >= SPAN + (partial.base if partial else 0):
            raise ValueError("a fragment too far ahead")
        if partial is None:
            partial = self._partials[key] = _Partial(count, now + self._limits.give_up_ns)
        partial.seen = max(partial.seen, order)
        partial.unreported += 1
        if index >= partial.base and not partial.mask >> (index - partial.base) & 1:
            partial.expires_at = now + self._limits.give_up_ns
            self._hold(partial, index, data)
            if partial.base == count:
                return self._complete(key, partial)
        if partial.unreported >= REPORT_EVERY:
            partial.report_at = now
        elif partial.report_at == NEVER:
            partial.report_at = now + self._limits.repair_delay_ns
        self.deadline = min(self.deadline, partial.report_at)
        return None

    def probe(self, body: bytes, incarnation: int) -> None:
        """The sender asks what has arrived.

        Raises:
          ValueError: the probe contradicts itself or our limits.
        """
        if len(body) != PROBE_HEAD.size:
            raise ValueError("a probe of the wrong length")
        number, checksum, length, chunk_bytes, order = PROBE_HEAD.unpack(body)
        count = self._count(length, chunk_bytes)
        key = (incarnation, number, checksum, length, chunk_bytes)
        partial = self._partials.get(key)
        if partial is not None:
            partial.seen = max(partial.seen, order)
            partial.report_at = self.deadline = 0
        else:
            self._answer(key, order, count if key in self._whole else 0, 0)

    def parts(self, now: int) -> list[bytes]:
        """The reports that are due. Also drops partial messages whose sender has fallen silent."""
        if now < self.deadline:
            return []
        deadline = NEVER
        for key, partial in list(self._partials.items()):
            if now >= partial.expires_at:
                self._drop(key, "reassembly_expired")
                continue
            if now >= partial.report_at:
                self._answer(key, partial.seen, partial.base, partial.mask)
                partial.unreported = 0
                partial.report_at = NEVER
            deadline = min(deadline, partial.report_at, partial.expires_at)
        parts = list(self._answers.values())
        self._answers.clear()
        self._counts.reports += len(parts)
        self.deadline = deadline
        return parts

    @property
    def idle(self) -> bool:
        """Whether no message is partly here and no report is due."""
        return not self._partials and not self._answers

    def release(self) -> None:
        """Forget every partial message; to be called before this object is dropped."""
        self._account(-self._bytes)
        self._partials.clear()
        self._answers.clear()
        self.deadline = NEVER

    def _account(self, size: int) -> None:
        self._bytes += size
        self._counts.held_bytes += size

    def _count(self, length: int, chunk_bytes: int) -> int:
        """How many fragments make the message. The bounds keep the work per byte received constant."""
        if not SMALLEST_CHUNK_BYTES <= chunk_bytes <= LARGEST_CHUNK_BYTES:
            raise ValueError("fragments of this length are not accepted")
        if not chunk_bytes < length <= self._limits.message_bytes:
            raise ValueError("a message of this length is not accepted in fragments")
        return -(-length // chunk_bytes)

    def _hold(self, partial: _Partial, index: int, data: bytes) -> None:
        partial.fragments[index] = data
        size = len(data) + ITEM_BYTES
        partial.held_bytes += size
        self._account(size)
        mask = partial.mask | 1 << (index - partial.base)
        if mask & 1:
            run = (~mask & (mask + 1)).bit_length() - 1  # how many ones the mask ends in
            partial.base += run
            mask >>= run
        partial.mask = mask
        limits = self._limits
        while self._bytes > limits.reassembly_bytes or len(self._partials) > limits.reassembly_messages:
            self._drop(next(iter(self._partials)), "reassembly_full")

    def _complete(self, key: _Key, partial: _Partial) -> bytes | None:
        message = b"".join([partial.fragments[index] for index in range(partial.count)])
        if key in self._partials:  # unless it was just dropped as the oldest
            self._drop(key)
        if crc32(message) != key[2]:
            self._counts.drops["message_checksum"] += 1
            return None
        self._whole[key] = partial.count
        if len(self._whole) > REMEMBERED:
            del self._whole[next(iter(self._whole))]
        self._answer(key, partial.seen, partial.count, 0)
        return message

    def _answer(self, key: _Key, seen: int, base: int, mask: int) -> None:
        held = (mask & SPAN_MASK).to_bytes((min(mask.bit_length(), SPAN) + 7) // 8, "little")
        if key in self._answers or len(self._answers) < REMEMBERED:
            self._answers[key] = make_part(REPORT, REPORT_HEAD.pack(key[1], key[2], seen, base), held)
        self.deadline = 0

    def _drop(self, key: _Key, reason: str = "") -> None:
        self._account(-self._partials.pop(key).held_bytes)
        if reason:
            self._counts.drops[reason] += 1
