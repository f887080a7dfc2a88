"""The parts that a datagram's payload is a run of: whole messages, and what concerns those that are larger."""

from __future__ import annotations

from typing import Final

from transport.fragment_format import FRAGMENT, PART, PART_BYTES, PROBE, REPORT

WHOLE: Final = 1
_CONTROLS: Final = frozenset((FRAGMENT, PROBE, REPORT))


def pack(parts: list[bytes], capacity: int) -> list[bytes]:
    """Join encoded parts, in order, into payloads of at most `capacity` bytes. No single part is longer."""
    sizes = [len(part) for part in parts]
    if sum(sizes) <= capacity:
        return [b"".join(parts)]
    payloads: list[bytes] = []
    first = used = 0
    for position, size in enumerate(sizes):
        if used + size > capacity:
            payloads.append(b"".join(parts[first:position]))
            first, used = position, 0
        used += size
    payloads.append(b"".join(parts[first:]))
    return payloads


def split(payload: bytes) -> tuple[list[bytes], list[tuple[int, bytes]]] | None:
    """The whole messages of a payload, and its other parts as (kind, body).

    None unless it is a run of whole parts of known kinds.
    """
    wholes: list[bytes] = []
    controls: list[tuple[int, bytes]] = []
    position, end = 0, len(payload)
    while position < end:
        start = position + PART_BYTES
        if start > end:
            return None
        kind, length = PART.unpack_from(payload, position)
        position = start + length
        if position > end:
            return None
        if kind == WHOLE:
            wholes.append(payload[start:position])
        elif kind in _CONTROLS:
            controls.append((kind, payload[start:position]))
        else:
            return None
    return wholes, controls
