"""The log in memory: consecutive, paged, and honest about what the disk holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.protocol import Entry, InvariantError, Kind, Limits, Log, Proposal, make_entry


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
    with pytest.raises(InvariantError, match="outside the log"):
        Log(entries(1, 2)).entry(op)


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
    assert (log.durable, log.oldest_unwritten) == (3, 0)


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


class Model:
    """A disk that takes writes in order, beside the log that guesses what it holds."""

    def __init__(self) -> None:
        self.log = Log()
        self.queue: list[tuple[Entry, ...]] = []
        self.disk: tuple[Entry, ...] = ()
        self.issued = 0
        self.done = 0

    def now(self) -> tuple[Entry, ...]:
        return tuple(self.log.entry(op) for op in range(1, self.log.op + 1))

    def issue(self) -> None:
        self.issued += 1
        self.queue.append(self.now())
        self.log.issued(self.issued)

    def finish(self, count: int) -> None:
        for _ in range(min(count, len(self.queue))):
            self.disk = self.queue.pop(0)
            self.done += 1
        self.log.written(self.done)


@given(st.lists(st.tuples(st.sampled_from(["append", "truncate", "issue", "finish"]), st.integers(0, 4)), max_size=40))
def test_durable_never_claims_more_than_the_disk_holds(steps: list[tuple[str, int]]) -> None:
    model = Model()
    view = 0
    for step, number in steps:
        match step:
            case "append":
                model.log.append(entries(model.log.op + 1, model.log.op + number, view))
            case "truncate":
                view += 1
                model.log.truncate(max(0, model.log.op - number))
            case "issue":
                model.issue()
            case _:
                model.finish(number)
        held = model.now()[: model.log.durable]
        assert model.disk[: model.log.durable] == held
    model.issue()
    model.finish(len(model.queue))
    assert model.log.durable == model.log.op
