"""What sender and receiver of fragments share: the parts on the wire, the bounds, and the counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

NEVER: Final = (1 << 63) - 1
"""A deadline that never comes, in monotonic nanoseconds."""
MEBIBYTE: Final = 1 << 20
MILLISECOND: Final = 1_000_000

FRAGMENT: Final = 2
PROBE: Final = 3
REPORT: Final = 4

PART: Final = Struct(">BI")  # kind, length of what follows
FRAGMENT_HEAD: Final = Struct(">QIIIII")  # number, checksum of the message, its length, fragment length, order, index
PROBE_HEAD: Final = Struct(">QIIII")  # the same without an index
REPORT_HEAD: Final = Struct(">QIII")  # number, checksum, newest order seen, held without a gap; then the bitmap
PART_BYTES: Final = PART.size
FRAGMENT_OVERHEAD_BYTES: Final = PART_BYTES + FRAGMENT_HEAD.size
SMALLEST_CHUNK_BYTES: Final = 256
LARGEST_CHUNK_BYTES: Final = 65_535

# Fragments beyond the first gap that a report can speak of, and so the most that a sender runs ahead of it.
SPAN: Final = 1024
SPAN_MASK: Final = (1 << SPAN) - 1
# How much later than a missing fragment one must have been sent for the first to count as lost, not overtaken.
REORDERED: Final = 3
REPORT_EVERY: Final = 16
PROBE_BACKOFF: Final = 8
ITEM_BYTES: Final = 64  # about what Python adds to each fragment held
LIFETIMES: Final = 10  # of `give_up_ns` for a message that does not come forward while others to its peer do
REMEMBERED: Final = 256


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
    retained_messages: int = 4096  # as many as a session has in flight, unless told otherwise
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


def make_part(kind: int, head: bytes, body: bytes = b"") -> bytes:
    return PART.pack(kind, len(head) + len(body)) + head + body
