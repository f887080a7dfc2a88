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

from collections.abc import Hashable
from dataclasses import dataclass, field
from zlib import crc32

from transport.fragment_format import (
    FRAGMENT,
    FRAGMENT_HEAD,
    LARGEST_CHUNK_BYTES,
    LIFETIMES,
    NEVER,
    PROBE,
    PROBE_BACKOFF,
    PROBE_HEAD,
    REORDERED,
    REPORT_HEAD,
    SMALLEST_CHUNK_BYTES,
    SPAN,
    FragmentCounts,
    FragmentLimits,
    make_part,
)


@dataclass(slots=True, eq=False)
class _Outgoing:
    """One message at its sender. `in_flight` maps index to order, oldest transmission first."""

    data: bytes
    number: int
    checksum: int
    count: int
    label: Hashable
    progress_at: int  # when it was queued, until some of it has arrived
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
        "_labels",
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
        self._queued: list[tuple[bytes, Hashable]] = []  # not numbered yet: a number needs the time
        self._labels: set[Hashable] = set()
        self._messages: dict[int, _Outgoing] = {}
        self._bytes = 0
        self._flying = 0
        self._number = 0
        self._progress_at = 0
        self.deadline = NEVER

    def queue(self, message: bytes, label: Hashable = None) -> None:
        """Send a message of more than one fragment, beginning with the next `parts`.

        One with a `label` is not sent if another of the same label is under way, nor if there is no room: whoever wants
        it asks again. If each time that made room for one more copy, a slow line would carry their beginnings for ever.
        """
        limits = self._limits
        if len(message) > limits.message_bytes:
            self._counts.drops["message_too_large"] += 1
            return
        if label is not None:
            if label in self._labels:
                self._counts.drops["under_way"] += 1
                return
            if self._bytes + len(message) > limits.retained_bytes or self._count() >= limits.retained_messages:
                self._counts.drops["retained_full"] += 1
                return
            self._labels.add(label)
        self._queued.append((message, label))
        self._account(len(message))
        while self._bytes > limits.retained_bytes or self._count() > limits.retained_messages:
            self._counts.drops["retained_full"] += 1
            if self._messages:
                self._drop(next(iter(self._messages.values())))
            else:
                oldest, its_label = self._queued.pop(0)
                self._account(-len(oldest))
                self._labels.discard(its_label)
        self.deadline = 0

    def parts(self, now: int) -> list[bytes]:
        """What to send now: fragments as far as the window allows, and probes that are due."""
        if now < self.deadline:
            return []
        for message, label in self._queued:
            self._number = max(self._number + 1, now)
            count = -(-len(message) // self._chunk_bytes)
            self._messages[self._number] = _Outgoing(message, self._number, crc32(message), count, label, now)
        self._queued.clear()
        parts: list[bytes] = []
        deadline = NEVER
        limits = self._limits
        allowed = max(1, limits.window_bytes // self._chunk_bytes)
        for outgoing in list(self._messages.values()):
            give_up_at = max(outgoing.progress_at, self._progress_at) + limits.give_up_ns
            give_up_at = min(give_up_at, outgoing.progress_at + LIFETIMES * limits.give_up_ns)
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
        if not REPORT_HEAD.size <= len(body) <= REPORT_HEAD.size + SPAN // 8:
            raise ValueError("a report of the wrong length")
        number, checksum, seen, base = REPORT_HEAD.unpack_from(body)
        outgoing = self._messages.get(number)
        if outgoing is None or outgoing.checksum != checksum:
            return
        if seen > outgoing.order or base > outgoing.count:
            raise ValueError("a report of more than was sent")
        if base == outgoing.count:
            self._drop(outgoing)
            self._progress_at = now
        elif seen >= outgoing.seen:
            self._advance(outgoing, seen, base, int.from_bytes(body[REPORT_HEAD.size :], "little"), now)
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
        self._labels.clear()
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
        self._labels.discard(outgoing.label)
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
            self._progress_at = outgoing.progress_at = now
        outgoing.seen, outgoing.base, outgoing.mask = seen, base, mask
        settled: list[int] = []
        for index, order in outgoing.in_flight.items():
            if index < base or mask >> (index - base) & 1:
                settled.append(index)
            elif order + REORDERED <= seen:
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
        last = min(outgoing.count, outgoing.base + SPAN)
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
        head = FRAGMENT_HEAD.pack(
            outgoing.number, outgoing.checksum, len(data), self._chunk_bytes, outgoing.order, index
        )
        parts.append(make_part(FRAGMENT, head, data[start : start + self._chunk_bytes]))
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
        outgoing.order += REORDERED  # everything sent before is clearly before it
        data = outgoing.data
        head = PROBE_HEAD.pack(outgoing.number, outgoing.checksum, len(data), self._chunk_bytes, outgoing.order)
        parts.append(make_part(PROBE, head))
        outgoing.probe_at = now + outgoing.probe_ns
        outgoing.probe_ns = min(2 * outgoing.probe_ns, PROBE_BACKOFF * self._limits.probe_ns)
        self._counts.probes += 1
