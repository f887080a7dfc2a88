"""Entries: what was encoded comes back, and whatever else arrives is refused with one error and no other."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.protocol import Kind, MalformedEntryError, Proposal, join_entries, make_entry, split_entries
from viewstamp.protocol.entry import HEADER_BYTES, Entry

unsigned = st.integers(0, 2**64 - 1)
proposals = st.builds(Proposal, st.sampled_from(Kind), unsigned, unsigned, unsigned, st.binary(max_size=60), unsigned)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Entry, ...]:
    """Consecutive entries with non-decreasing views."""
    first = draw(st.integers(1, 2**63))
    view = draw(st.integers(0, 2**62))
    entries = []
    for op, proposal in enumerate(draw(st.lists(proposals, max_size=6)), first):
        view += draw(st.integers(0, 3))
        entries.append(make_entry(op, view, draw(st.integers(-(2**63), 2**63 - 1)), proposal))
    return tuple(entries)


@given(runs())
def test_a_run_of_entries_comes_back_as_it_was(entries: tuple[Entry, ...]) -> None:
    assert split_entries(join_entries(entries)) == entries


@given(runs())
def test_an_entry_keeps_the_bytes_it_was_made_of(entries: tuple[Entry, ...]) -> None:
    for entry, again in zip(entries, split_entries(join_entries(entries)), strict=True):
        assert again.encoded == entry.encoded
        assert len(entry.encoded) == HEADER_BYTES + len(entry.body)
        assert entry.viewstamp == (entry.view, entry.op)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_read_and_nothing_else(data: bytes) -> None:
    try:
        entries = split_entries(data)
    except MalformedEntryError:
        return
    assert join_entries(entries) == data


@given(runs().filter(bool), st.data())
def test_a_run_that_is_cut_short_is_refused_or_shorter(entries: tuple[Entry, ...], data: st.DataObject) -> None:
    whole = join_entries(entries)
    cut = data.draw(st.integers(0, len(whole) - 1))
    ends = [len(join_entries(entries[:count])) for count in range(len(entries))]
    if cut in ends:
        assert split_entries(whole[:cut]) == entries[: ends.index(cut)]
    else:
        with pytest.raises(MalformedEntryError):
            split_entries(whole[:cut])


@given(runs().filter(bool), st.data())
def test_a_flipped_bit_never_raises_anything_else(entries: tuple[Entry, ...], data: st.DataObject) -> None:
    damaged = bytearray(join_entries(entries))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with suppress(MalformedEntryError):
        assert join_entries(split_entries(bytes(damaged))) == bytes(damaged)


def an_entry(op: int) -> Entry:
    return make_entry(op, 0, 0, Proposal(Kind.NOOP, 0, 0, 0, b"", 0))


@pytest.mark.parametrize("ops", [(1, 3), (2, 1), (1, 1), (0,), (0, 1)])
def test_op_numbers_must_be_consecutive_from_one_up(ops: tuple[int, ...]) -> None:
    with pytest.raises(MalformedEntryError, match="op-number"):
        split_entries(join_entries(an_entry(op) for op in ops))


@pytest.mark.parametrize(("position", "value"), [(0, 0), (0, 6), (0, 255), (1, 0), (1, 2)])
def test_unknown_kinds_and_versions_are_refused(position: int, value: int) -> None:
    data = bytearray(an_entry(1).encoded)
    data[position] = value
    with pytest.raises(MalformedEntryError, match="kind"):
        split_entries(bytes(data))


def test_no_bytes_are_no_entries() -> None:
    assert split_entries(b"") == ()
