"""Whether bytes that come in pieces are those of a snapshot."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import pytest

from tests.journal.support import snapshot_at
from viewstamp.journal.snapshot_digest import SnapshotDigest


def added(size: int, content: bytes, random: Random) -> SnapshotDigest:
    """In pieces cut anywhere, so that the end is in one, or in several."""
    held = SnapshotDigest(size)
    while held.received < len(content):
        held.add(content[held.received :][: random.choice((1, 7, 31, 32, 33, 100, 3000))])
    return held


@pytest.mark.parametrize("size", [33, 34, 63, 64, 65, 100, 3000])
def test_the_bytes_of_a_snapshot_match_its_digest_and_no_others_do(size: int) -> None:
    random = Random(size)
    record, content = snapshot_at(7, size)
    for _ in range(20):
        assert added(size, content, random).matches(record.digest)
        flipped = bytearray(content)
        flipped[random.randrange(size)] ^= 1 << random.randrange(8)
        assert not added(size, bytes(flipped), random).matches(record.digest)
        assert not added(size, bytes(flipped), random).matches(bytes(flipped[-32:]))
        assert not added(size, content[: random.randrange(size)], random).matches(record.digest), "not all has come"
        assert not added(size, content + b"!", random).matches(record.digest), "more than all has come"
    other, another = snapshot_at(8, size)
    assert not added(size, another, random).matches(record.digest), "it is whole, and another"
    assert added(size, another, random).matches(other.digest)


@pytest.mark.parametrize("size", [0, 5, 31, 32])
def test_a_digest_of_nothing_is_no_snapshot(size: int) -> None:
    """Its name can come from another member, which may say anything."""
    content = blake2b(b"", digest_size=32).digest()[:size]
    assert not added(size, content, Random(1)).matches(content)


def test_nothing_is_copied_but_the_end() -> None:
    """A snapshot may have gigabytes, and its digest is computed beside a loop that is not to wait."""
    held = SnapshotDigest(20_000)
    held._computed = Recorded()  # type: ignore[assignment]  # it has what is used of one
    content = bytes(10_000)
    held.add(content)
    held.add(content)
    first, second = held._computed.taken  # type: ignore[attr-defined]  # as above
    assert first is content
    assert len(second) == 9_968


class Recorded:
    """A hash that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def update(self, data: bytes) -> None:
        self.taken.append(data)
