"""The rolling hash: the same however the entries came, and through any snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import SnapshotError
from statemachine.history import DIGEST_BYTES, History

records = st.lists(st.tuples(st.binary(max_size=3) | st.just(b"long" * 200), st.binary(max_size=3)), max_size=150)


def flat(pairs: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [part for pair in pairs for part in pair]


@given(records, st.lists(st.integers(0, 150), max_size=8), st.integers(0, 150))
def test_it_depends_neither_on_batches_nor_on_snapshots(
    pairs: list[tuple[bytes, bytes]], cuts: list[int], snapshot_after: int
) -> None:
    whole = History()
    whole.extend(flat(pairs))
    piecewise, done = History(), 0
    for cut in sorted({*cuts, snapshot_after, len(pairs)}):
        piecewise.extend(flat(pairs[done:cut]))
        done = min(max(done, cut), len(pairs))
        if cut == snapshot_after:
            data = piecewise.snapshot()
            piecewise = History()
            piecewise.restore(data, done)
    assert piecewise.digest == whole.digest
    assert piecewise.snapshot() == whole.snapshot()


def test_it_goes_on_from_a_snapshot_at_any_place_of_any_block() -> None:
    """Hypothesis seldom draws as many entries as a block and one more have."""
    pairs = [(f"entry {number}".encode(), b"reply") for number in range(130)]
    whole = History()
    whole.extend(flat(pairs))
    for cut in range(len(pairs) + 1):
        before, after = History(), History()
        before.extend(flat(pairs[:cut]))
        after.restore(before.snapshot(), cut)
        after.extend(flat(pairs[cut:]))
        assert after.digest == whole.digest


@given(records, records)
def test_a_difference_shows_from_then_on(before: list[tuple[bytes, bytes]], after: list[tuple[bytes, bytes]]) -> None:
    one, other = History(), History()
    for history, reply in ((one, b"\x00"), (other, b"\x01")):
        history.extend(flat(before))
        history.extend([b"entry", reply])
    assert one.digest != other.digest
    one.extend(flat(after))
    other.extend(flat(after))
    assert one.digest != other.digest


def test_what_it_holds_is_bounded() -> None:
    history = History()
    for _ in range(100):
        history.extend([b"e" * 1_000_000, b"r" * 1_000_000])
        assert len(history.snapshot()) < 4096
    long, longer = History(), History()
    long.extend([b"e" * 1000, b"r"])
    longer.extend([b"e" * 1001, b"r"])
    assert long.digest != longer.digest


def test_one_that_is_cut_short_is_refused() -> None:
    with pytest.raises(SnapshotError):
        History().restore(bytes(DIGEST_BYTES - 1), 0)
