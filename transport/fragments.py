"""Messages larger than a datagram: cut into fragments, put together within bounds, missing fragments sent again.

Without repair a message of 64 KB, which is 60 datagrams of 1,200 bytes, gets through one time in twenty at 5 % loss,
however often its sender repeats it as a whole. So each side of a pair keeps a little state:

- The sender numbers every transmission (its *order*) and keeps the message until it is reported whole or given up.
  At most a window of bytes is under way. A fragment is lost once one sent clearly later has been seen.
- The receiver reports, after a number of fragments or a short delay, up to where it has everything, a bitmap of what
  it holds beyond, and the newest order seen. What the bitmap lacks is thereby asked for, one by one.
- If nothing is reported any more, since the last fragments, all of them, or the report was lost, the sender probes. A
  probe counts as a later transmission, so its report shows everything sent before and missing to be lost.

Message numbers begin at the sender's monotonic clock, so that a restarted process, whose incarnation stays the same,
does not repeat those of its last life; the message's checksum guards against the rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from struct import Struct
from typing import Final
from zlib import crc32

NEVER: Final = (1 << 63) - 1
"""A deadline that never comes, in monotonic nanoseconds."""
MEBIBYTE: Final = 1 << 20
MILLISECOND: Final = 1_000_000

FRAGMENT: Final = 2
PROBE: Final = 3
REPORT: Final = 4

_PART: Final = Struct(">BI")  # kind, length of what follows
_FRAGMENT: Final = Struct(">QIIIII")  # number, checksum of the message, its length, fragment length, order, index
_PROBE: Final = Struct(">QIIII")  # the same without an index
_REPORT: Final = Struct(">QIII")  # number, checksum, newest order seen, fragments held without a gap; then the bitmap
PART_BYTES: Final = _PART.size
FRAGMENT_OVERHEAD_BYTES: Final = PART_BYTES + _FRAGMENT.size
SMALLEST_CHUNK_BYTES: Final = 256
LARGEST_CHUNK_BYTES: Final = 65_535

# Fragments beyond the first gap that a report can speak of, and so the most that a sender runs ahead of it.
_SPAN: Final = 1024
_SPAN_MASK: Final = (1 << _SPAN) - 1
# How much later than a missing fragment one must have been sent for the first to count as lost, not overtaken.
_REORDERED: Final = 3
_REPORT_EVERY: Final = 16
_PROBE_BACKOFF: Final = 8
_ITEM_BYTES: Final = 64  # about what Python adds to each fragment held
_LIFETIMES: Final = 10
_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True)
class FragmentLimits:
    """Bounds on fragmentation with one peer; lengths in bytes, times in nanoseconds.

    `message_bytes`: the longest message, either way. `retained_*`: messages kept by a sender until reported whole;
    `reassembly_*`: partial messages at a receiver; beyond these the oldest is dropped. `window_bytes`: sent and
    not yet reported. `repair_delay_ns`: before a receiver reports a few fragments. `probe_ns`: silence before a
    sender asks. `give_up_ns`: without progress, after which both sides drop a message.

    Raises:
      ValueError: a bound is not positive, or a whole message would not fit.
    """

    message_bytes: int = 16 * MEBIBYTE
    retained_bytes: int = 32 * MEBIBYTE
    retained_messages: int = 1024
    reassembly_bytes: int = 32 * MEBIBYTE
    reassembly_messages: int = 256
    window_bytes: int = 128 * 1024
    repair_delay_ns: int = 1 * MILLISECOND
    probe_ns: int = 10 * MILLISECOND
    give_up_ns: int = 2000 * MILLISECOND

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.retained_bytes < self.message_bytes or self.reassembly_bytes < 2 * self.message_bytes:
            raise ValueError("retained_bytes must hold one message of message_bytes, reassembly_bytes two")


@dataclass(slots=True)
class FragmentCounts:
    """What happened, summed over a number of peers: `held_bytes` in memory now, `drops` by reason."""

    held_bytes: int = 0
    sent: int = 0
    resent: int = 0
    probes: int = 0
    reports: int = 0
    drops: Counter[str] = field(default_factory=Counter)


def _part(kind: int, head: bytes, body: bytes = b"") -> bytes:
    return _PART.pack(kind, len(head) + len(body)) + head + body


@dataclass(slots=True, eq=False)
class _Outgoing:
    """One message at its sender. `in_flight` maps index to order, oldest transmission first."""

    data: bytes
    number: int
    checksum: int
    count: int
    queued_at: int
    probe_at: int = NEVER
    probe_ns: int = 0
    order: int = 0
    next_index: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    seen: int = 0
    base: int = 0
    mask: int = 0


class FragmentSender:
    """The large messages under way to one peer."""

    __slots__ = (
        "_bytes",
        "_chunk_bytes",
        "_counts",
        "_flying",
        "_limits",
        "_messages",
        "_number",
        "_progress_at",
        "_queued",
        "deadline",
    )

    def __init__(self, chunk_bytes: int, limits: FragmentLimits, counts: FragmentCounts) -> None:
        if not SMALLEST_CHUNK_BYTES <= chunk_bytes <= LARGEST_CHUNK_BYTES:
            raise ValueError(f"fragments must have {SMALLEST_CHUNK_BYTES} to {LARGEST_CHUNK_BYTES} bytes")
        self._chunk_bytes = chunk_bytes
        self._limits = limits
        self._counts = counts
        self._queued: list[bytes] = []  # not numbered yet: a number needs the time
        self._messages: dict[int, _Outgoing] = {}
        self._bytes = 0
        self._flying = 0
        self._number = 0
        self._progress_at = 0
        self.deadline = NEVER

    def queue(self, message: bytes) -> None:
        """Send a message of more than one fragment, beginning with the next `parts`."""
        if len(message) > self._limits.message_bytes:
            self._counts.drops["message_too_large"] += 1
            return
        self._queued.append(message)
        self._account(len(message))
        while self._bytes > self._limits.retained_bytes or self._count() > self._limits.retained_messages:
            self._counts.drops["retained_full"] += 1
            if self._messages:
                self._drop(next(iter(self._messages.values())))
            else:
                self._account(-len(self._queued.pop(0)))
        self.deadline = 0

    def parts(self, now: int) -> list[bytes]:
        """What to send now: fragments as far as the window allows, and probes that are due."""
        if now < self.deadline:
            return []
        for message in self._queued:
            self._number = max(self._number + 1, now)
            count = -(-len(message) // self._chunk_bytes)
            self._messages[self._number] = _Outgoing(message, self._number, crc32(message), count, now)
        self._queued.clear()
        parts: list[bytes] = []
        deadline = NEVER
        limits = self._limits
        allowed = max(1, limits.window_bytes // self._chunk_bytes)
        for outgoing in list(self._messages.values()):
            give_up_at = max(outgoing.queued_at, self._progress_at) + limits.give_up_ns
            give_up_at = min(give_up_at, outgoing.queued_at + _LIFETIMES * limits.give_up_ns)
            if now >= give_up_at:
                self._counts.drops["gave_up"] += 1
                self._drop(outgoing)
                continue
            if self._flying < allowed:
                self._fill(outgoing, allowed, now, parts)
            elif not outgoing.order:
                deadline = min(deadline, give_up_at)
                break  # the messages behind it have not begun, either
            if now >= outgoing.probe_at:
                self._probe(outgoing, now, parts)
            deadline = min(deadline, outgoing.probe_at, give_up_at)
        self.deadline = deadline
        return parts

    def report(self, body: bytes, now: int) -> None:
        """Take in what the peer reports. A report about a message no longer kept is ignored.

        Raises:
          ValueError: the report contradicts itself, or what was sent.
        """
        if not _REPORT.size <= len(body) <= _REPORT.size + _SPAN // 8:
            raise ValueError("a report of the wrong length")
        number, checksum, seen, base = _REPORT.unpack_from(body)
        outgoing = self._messages.get(number)
        if outgoing is None or outgoing.checksum != checksum:
            return
        if seen > outgoing.order or base > outgoing.count:
            raise ValueError("a report of more than was sent")
        if base == outgoing.count:
            self._drop(outgoing)
            self._progress_at = now
        elif seen >= outgoing.seen:
            self._advance(outgoing, seen, base, int.from_bytes(body[_REPORT.size :], "little"), now)
        self.deadline = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, under way or kept."""
        return not self._queued and not self._messages

    def release(self) -> None:
        """Give up everything; to be called before this object is dropped."""
        self._account(-self._bytes)
        self._queued.clear()
        self._messages.clear()
        self._flying = 0
        self.deadline = NEVER

    def _account(self, size: int) -> None:
        self._bytes += size
        self._counts.held_bytes += size

    def _count(self) -> int:
        return len(self._queued) + len(self._messages)

    def _drop(self, outgoing: _Outgoing) -> None:
        del self._messages[outgoing.number]
        self._account(-len(outgoing.data))
        self._flying -= len(outgoing.in_flight)

    def _advance(self, outgoing: _Outgoing, seen: int, base: int, mask: int, now: int) -> None:
        if base < outgoing.base:
            if seen == outgoing.seen:
                return  # an older report, overtaken
            # What had arrived is gone: the receiver restarted, or had to make room. Begin again.
            self._flying -= len(outgoing.in_flight)
            outgoing.in_flight.clear()
            outgoing.lost.clear()
            outgoing.next_index = outgoing.base = outgoing.mask = 0
        elif base > outgoing.base or mask & ~outgoing.mask:
            self._progress_at = now
        outgoing.seen, outgoing.base, outgoing.mask = seen, base, mask
        settled: list[int] = []
        for index, order in outgoing.in_flight.items():
            if index < base or mask >> (index - base) & 1:
                settled.append(index)
            elif order + _REORDERED <= seen:
                settled.append(index)
                outgoing.lost.append(index)
        for index in settled:
            del outgoing.in_flight[index]
        self._flying -= len(settled)
        outgoing.probe_ns = self._limits.probe_ns
        outgoing.probe_at = now + outgoing.probe_ns

    def _fill(self, outgoing: _Outgoing, allowed: int, now: int, parts: list[bytes]) -> None:
        """Send lost fragments again, then new ones, until the window is full."""
        begun = self._flying
        lost = outgoing.lost
        lost.sort(reverse=True)
        while lost and self._flying < allowed:
            index = lost.pop()
            if index >= outgoing.base and not outgoing.mask >> (index - outgoing.base) & 1:
                self._transmit(outgoing, index, parts)
                self._counts.resent += 1
        last = min(outgoing.count, outgoing.base + _SPAN)
        while outgoing.next_index < last and self._flying < allowed:
            self._transmit(outgoing, outgoing.next_index, parts)
            outgoing.next_index += 1
            self._counts.sent += 1
        if self._flying > begun:
            outgoing.probe_ns = self._limits.probe_ns
            outgoing.probe_at = now + outgoing.probe_ns

    def _transmit(self, outgoing: _Outgoing, index: int, parts: list[bytes]) -> None:
        outgoing.order += 1
        start = index * self._chunk_bytes
        data = outgoing.data
        head = _FRAGMENT.pack(outgoing.number, outgoing.checksum, len(data), self._chunk_bytes, outgoing.order, index)
        parts.append(_part(FRAGMENT, head, data[start : start + self._chunk_bytes]))
        outgoing.in_flight[index] = outgoing.order
        self._flying += 1

    def _probe(self, outgoing: _Outgoing, now: int, parts: list[bytes]) -> None:
        """Ask what has arrived, after a silence."""
        if outgoing.in_flight:  # the oldest goes along, since it is likely missing: that saves a round trip
            self._flying -= 1
            oldest = next(iter(outgoing.in_flight))
            del outgoing.in_flight[oldest]
            self._transmit(outgoing, oldest, parts)
            self._counts.resent += 1
        outgoing.order += _REORDERED  # everything sent before is clearly before it
        data = outgoing.data
        head = _PROBE.pack(outgoing.number, outgoing.checksum, len(data), self._chunk_bytes, outgoing.order)
        parts.append(_part(PROBE, head))
        outgoing.probe_at = now + outgoing.probe_ns
        outgoing.probe_ns = min(2 * outgoing.probe_ns, _PROBE_BACKOFF * self._limits.probe_ns)
        self._counts.probes += 1


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
        if len(body) <= _FRAGMENT.size:
            raise ValueError("a fragment is cut short")
        number, checksum, length, chunk_bytes, order, index = _FRAGMENT.unpack_from(body)
        count = self._count(length, chunk_bytes)
        data = body[_FRAGMENT.size :]
        if index >= count or len(data) != min(chunk_bytes, length - index * chunk_bytes):
            raise ValueError("a fragment of the wrong length")
        key = (incarnation, number, checksum, length, chunk_bytes)
        if key in self._whole:
            self._answer(key, order, count, 0)
            return None
        partial = self._partials.get(key)
        if index >= _SPAN + (partial.base if partial else 0):
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
        if partial.unreported >= _REPORT_EVERY:
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
        if len(body) != _PROBE.size:
            raise ValueError("a probe of the wrong length")
        number, checksum, length, chunk_bytes, order = _PROBE.unpack(body)
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
        size = len(data) + _ITEM_BYTES
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
        if len(self._whole) > _REMEMBERED:
            del self._whole[next(iter(self._whole))]
        self._answer(key, partial.seen, partial.count, 0)
        return message

    def _answer(self, key: _Key, seen: int, base: int, mask: int) -> None:
        held = (mask & _SPAN_MASK).to_bytes((min(mask.bit_length(), _SPAN) + 7) // 8, "little")
        if key in self._answers or len(self._answers) < _REMEMBERED:
            self._answers[key] = _part(REPORT, _REPORT.pack(key[1], key[2], seen, base), held)
        self.deadline = 0

    def _drop(self, key: _Key, reason: str = "") -> None:
        self._account(-self._partials.pop(key).held_bytes)
        if reason:
            self._counts.drops[reason] += 1
