"""The log in memory: consecutive, paged, and honest about what the disk holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.protocol import Entry, InvariantError, Kind, Limits, Log, Proposal, Snapshot, Viewstamp, make_entry


def entries(first: int, last: int, view: int = 0, size: int = 0) -> tuple[Entry, ...]:
    body = bytes(size)
    return tuple(make_entry(op, view, 0, Proposal(Kind.COMMAND, 1, op, 0, body, 0)) for op in range(first, last + 1))


def test_an_empty_log_is_at_op_0() -> None:
    log = Log()
    assert (log.op, log.durable, log.viewstamp(0)) == (0, 0, (0, 0))


def test_what_a_restart_reads_back_is_durable() -> None:
    assert Log(entries(1, 3)).durable == 3


def test_a_log_begins_at_op_1() -> None:
    with pytest.raises(InvariantError, match="cannot follow op 0"):
        Log(entries(2, 3))


def test_an_append_leaves_no_gap() -> None:
    log = Log()
    with pytest.raises(InvariantError, match="gap"):
        log.append(entries(2, 2))
    log.append(())
    assert log.op == 0


@pytest.mark.parametrize("op", [0, 3])
def test_an_entry_outside_the_log_is_a_defect(op: int) -> None:
    log = Log(entries(1, 2))
    for look in (log.entry, log.size):
        with pytest.raises(InvariantError, match="outside the log"):
            look(op)


def test_an_append_is_durable_once_its_write_is() -> None:
    log = Log()
    log.append(entries(1, 2))
    log.issued(1)
    log.append(entries(3, 3))
    assert log.durable == 0
    log.written(1)
    assert log.durable == 2
    log.issued(2)
    log.written(2)
    assert log.durable == 3


def test_a_write_makes_all_before_it_durable() -> None:
    log = Log()
    for write in range(1, 4):
        log.append(entries(write, write))
        log.issued(write)
    log.written(3)
    assert log.durable == 3


def test_a_write_of_entries_since_replaced_proves_nothing_about_the_new_ones() -> None:
    """Op 2 of view 0 is under way to the disk when op 2 of view 1 takes its place."""
    log = Log(entries(1, 1))
    log.append(entries(2, 2))
    log.issued(1)
    log.truncate(1)
    log.append(entries(2, 2, view=1))
    log.issued(2)
    log.written(1)
    assert log.durable == 1
    log.written(2)
    assert log.durable == 2


def test_a_truncation_takes_back_what_was_durable() -> None:
    log = Log(entries(1, 3))
    log.truncate(1)
    assert (log.op, log.durable) == (1, 1)
    log.append(entries(2, 3, view=1))
    assert log.durable == 1


def test_a_truncation_beyond_the_end_changes_nothing() -> None:
    log = Log(entries(1, 3))
    log.truncate(5)
    assert (log.op, log.durable) == (3, 3)


def test_a_page_is_bounded_by_entries_and_by_bytes() -> None:
    log = Log(entries(1, 10, size=100))
    size = len(log.entry(1).encoded)
    assert [e.op for e in log.page(2, Limits(page_entries=3))] == [3, 4, 5]
    assert [e.op for e in log.page(0, Limits(page_bytes=2 * size))] == [1, 2]
    assert [e.op for e in log.page(0, Limits(), upto=4)] == [1, 2, 3, 4]
    assert log.page(10, Limits()) == ()


def test_a_page_holds_one_entry_however_large() -> None:
    assert [e.op for e in Log(entries(1, 2, size=500)).page(0, Limits(page_bytes=10))] == [1]


# Compaction, and a log that begins anew behind a snapshot.


def snapshot(op: int, view: int = 0) -> Snapshot:
    return Snapshot(view, op, 0, 100, bytes(32))


def test_a_compacted_log_begins_behind_what_was_dropped() -> None:
    log = Log(entries(1, 6, view=2))
    log.compact(4)
    assert (log.base, log.op, log.durable) == (4, 6, 6)
    assert log.viewstamp(4) == (2, 4)
    assert log.bytes == sum(len(log.entry(op).encoded) for op in (5, 6))
    log.compact(3)
    assert log.base == 4
    with pytest.raises(InvariantError, match="outside the log"):
        log.entry(4)
    with pytest.raises(InvariantError, match="beyond the end"):
        log.compact(7)


def test_a_log_may_be_compacted_up_to_its_end() -> None:
    log = Log(entries(1, 3))
    log.compact(3)
    assert (log.base, log.op, log.bytes) == (3, 3, 0)
    log.append(entries(4, 4))
    assert log.page(3, Limits()) == entries(4, 4)


def test_nothing_below_the_base_is_cut_or_sent() -> None:
    log = Log(entries(1, 6))
    log.compact(4)
    with pytest.raises(InvariantError, match="below the base"):
        log.truncate(3)
    with pytest.raises(InvariantError, match="begins after 4"):
        log.page(3, Limits())
    assert [e.op for e in log.page(4, Limits())] == [5, 6]


def test_a_log_begins_anew_behind_a_snapshot() -> None:
    """Its own disk holds nothing of it until the write that says so is durable; writes before that say nothing."""
    log = Log(entries(1, 2))
    log.append(entries(3, 3))
    log.issued(1)
    log.restart(Viewstamp(1, 5))
    assert (log.base, log.op, log.durable, log.bytes) == (5, 5, 0, 0)
    log.issued(2)
    log.append(entries(6, 6, view=1))
    log.issued(3)
    log.written(1)
    assert log.durable == 0
    log.written(2)
    assert log.durable == 5
    log.written(3)
    assert log.durable == 6


def test_a_log_never_begins_anew_before_its_base() -> None:
    log = Log(entries(1, 6))
    log.compact(4)
    with pytest.raises(InvariantError, match="cannot begin anew"):
        log.restart(Viewstamp(0, 3))


def test_it_is_known_which_operations_are_the_same() -> None:
    log = Log(entries(1, 6, view=2))
    log.compact(4)
    assert [log.holds(Viewstamp(2, op)) for op in (3, 4, 6, 7)] == [False, True, True, False]
    assert not log.holds(Viewstamp(1, 5))


@pytest.mark.parametrize(
    ("first", "last", "base"),
    [(11, 12, 10), (11, 10, 10), (8, 12, 8), (10, 10, 10), (1, 12, 1)],
)
def test_a_disk_gives_back_a_snapshot_and_what_follows_or_overlaps_it(first: int, last: int, base: int) -> None:
    """Of the op before the first entry the view is not known; so that entry itself becomes the base."""
    log = Log(entries(first, last), snapshot(10))
    assert (log.base, log.op, log.durable) == (base, max(last, 10), max(last, 10))


def test_a_disk_with_a_hole_behind_its_snapshot_is_a_defect() -> None:
    with pytest.raises(InvariantError, match="cannot follow op 10"):
        Log(entries(12, 13), snapshot(10))
    with pytest.raises(InvariantError, match="has lost what follows"):
        Log(entries(3, 9), snapshot(10))


def ready(log: Log) -> list[int]:
    """The ops of the entries that are kept ready to use."""
    return [held.op for held in log._entries if isinstance(held, Entry)]


def test_of_large_entries_that_were_executed_one_is_kept_ready() -> None:
    """Each would take its size twice."""
    log = Log(entries(1, 9, size=10_000))
    log.pack(1)
    assert ready(log) == list(range(1, 10))
    log.pack(7)
    assert ready(log) == [7, 8, 9]
    assert log.entries(1, 9) == [*entries(1, 9, size=10_000)]


def test_of_older_entries_only_their_bytes_are_kept() -> None:
    """A thousand small commands ready to use take half a megabyte, and a log has tens of thousands."""
    log = Log(entries(1, 500))
    log.pack(127)
    assert ready(log) == list(range(1, 501))
    log.pack(128)
    assert ready(log) == list(range(65, 501))
    log.append(entries(501, 900))
    log.pack(191)
    assert ready(log) == list(range(65, 901))
    log.pack(600)
    assert ready(log) == list(range(537, 901))
    assert log.entries(530, 540) == [*entries(530, 540)]
    assert log.page(0, Limits(page_entries=3)) == entries(1, 3)
    log.truncate(400)
    assert ready(log) == []
    log.append(entries(401, 402, view=1))
    assert log.entries(400, 402) == [*entries(400, 400), *entries(401, 402, view=1)]
    log.compact(401)
    assert ready(log) == [402]


class Model:
    """A disk that takes writes in order, beside the log that guesses what it holds."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.READY = 2  # so that some of a few are kept as their bytes
        self.all: list[Entry] = []  # from op 1 on, or from behind the latest snapshot that was installed
        self.start = 0
        self.base = 0
        self.queue: list[tuple[int, tuple[Entry, ...]]] = []
        self.disk: tuple[int, tuple[Entry, ...]] = (0, ())
        self.issued = 0
        self.done = 0
        self.view = 0

    @property
    def op(self) -> int:
        return self.start + len(self.all)

    def step(self, step: str, number: int) -> None:
        match step:
            case "append":
                fresh = entries(self.op + 1, self.op + number, self.view, size=10 * number)
                self.log.append(fresh)
                self.all += fresh
            case "truncate":
                self.view += 1
                after = max(self.base, self.op - number)
                self.log.truncate(after)
                del self.all[after - self.start :]
            case "compact":
                upto = min(self.op, self.base + number)
                self.log.compact(upto)
                self.base = max(self.base, upto)
            case "restart":
                self.view += 1
                self.start = self.base = self.op + number
                self.all = []
                self.log.restart(Viewstamp(self.view, self.start))
            case "pack":
                self.log.pack(max(self.base, self.op - number))
            case "issue":
                self.issued += 1
                self.queue.append((self.start, tuple(self.all)))
                self.log.issued(self.issued)
            case _:
                for _ in range(min(number, len(self.queue))):
                    self.disk = self.queue.pop(0)
                    self.done += 1
                self.log.written(self.done)

    def check(self) -> None:
        held = self.all[self.base - self.start :]
        assert (self.log.base, self.log.op) == (self.base, self.op)
        assert [self.log.entry(op) for op in range(self.base + 1, self.op + 1)] == held
        for first in range(self.base + 1, self.op + 1):
            assert self.log.entries(first, self.op) == self.all[first - 1 - self.start :]
            assert self.log.entries(self.base + 1, first) == held[: first - self.base]
        assert [self.log.size(entry.op) for entry in held] == [len(entry.encoded) for entry in held]
        assert self.log.bytes == sum(len(entry.encoded) for entry in held)
        assert self.log.page(self.base, Limits()) == tuple(held)
        assert all(self.log.holds(entry.viewstamp) for entry in held)
        if self.log.durable > 0:
            start, stored = self.disk
            assert start == self.start, "nothing is durable of a log that the disk has not begun"
            count = self.log.durable - start
            assert list(stored[:count]) == self.all[:count]
            assert count <= len(self.all)


STEPS = st.tuples(
    st.sampled_from(["append", "append", "truncate", "compact", "pack", "restart", "issue", "finish"]),
    st.integers(0, 4),
)


@given(st.lists(STEPS, max_size=40))
def test_the_log_is_as_in_a_simple_model_and_durable_never_claims_more_than_the_disk_holds(
    steps: list[tuple[str, int]],
) -> None:
    model = Model()
    for step, number in steps:
        model.step(step, number)
        model.check()
    model.step("issue", 0)
    model.step("finish", len(model.queue))
    model.check()
    assert model.log.durable == model.log.op
