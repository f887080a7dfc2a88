"""The fuzzer with machines of users: what is drawn for them, and which of their defects it finds."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps, loads
from random import Random
from typing import Literal

import pytest

from statemachine import StateMachine, command, encode_list, query
from viewstamp.simulation.machine_load import drawing
from viewstamp.simulation.run import run_seed

SEEDS = range(4)


class Queue(StateMachine):
    """A machine without a defect."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.taken = 0

    @command
    def put(self, items: list[str], place: int | None = None, end: Literal["front", "back"] = "back") -> int:
        """All of these, at a place or an end."""
        where = place if place is not None else 0 if end == "front" else len(self.items)
        self.items[where:where] = [str(item) for item in items]
        del self.items[50:]
        return len(self.items)

    @command
    def take(self) -> str:
        """The first; what there is no first of is a defect."""
        first = self.items.pop(0)
        self.taken += 1
        return first

    @query
    def taken_so_far(self) -> int:
        """How many were taken: no command tells."""
        return self.taken


class Forgetful(Queue):
    """Its snapshots leave out what only a query shows."""

    def snapshot(self) -> Iterator[bytes]:
        return iter([dumps(self.items).encode()])

    def restore(self, chunks: Iterator[bytes]) -> None:
        [self.items] = map(loads, chunks)


class Curious(Queue):
    """Looking at it changes it."""

    def snapshot(self) -> bytes | Iterator[bytes]:
        self.taken += 1
        return super().snapshot()


class Drawn(Queue):
    """It says itself what is called, now and then with something that is no single command."""

    @staticmethod
    def fuzz_command(random: Random) -> bytes:
        match random.randrange(9):
            case 0:
                return encode_list([Queue.put.bind(["a"]), Queue.take.bind()])
            case n if n < 5:
                return Queue.take.bind()
            case n:
                return Queue.put.bind(["b", "c"], n)


def test_a_snapshot_that_changes_the_machine_is_suspected() -> None:
    found = [run_seed(seed, "vsr", Curious).violation for seed in SEEDS]
    told = [violation.sentence for violation in found if violation is not None]
    assert any("perhaps snapshot() or a query changes the machine" in sentence for sentence in told)


def test_what_a_machine_draws_itself_is_told_by_the_names_of_its_methods() -> None:
    reports = [run_seed(seed, "raft", Drawn) for seed in SEEDS]
    assert [report.violation for report in reports] == [None] * len(SEEDS)
    counted = {name for report in reports for name in report.counts if name.startswith("machine: ")}
    assert counted == {"machine: take raised IndexError"}
    called = {(call.op, repr(call.arg)) for report in reports for call in report.history}
    assert {("take", "[]"), ("put", "[['b', 'c'], 7]"), ("command", "None")} <= called


def test_a_field_that_snapshots_leave_out_is_found_by_a_query() -> None:
    found = [run_seed(seed, "vsr", Forgetful).violation for seed in SEEDS]
    told = [violation for violation in found if violation is not None]
    assert {violation.property for violation in told} == {"equal states"}
    assert all("the query taken_so_far() gives" in violation.sentence for violation in told)


def test_a_sound_machine_passes_and_what_its_commands_raise_is_counted() -> None:
    reports = [run_seed(seed, "raft", Queue) for seed in SEEDS]
    assert [report.violation for report in reports] == [None] * len(SEEDS)
    raised = {name for report in reports for name in report.counts if name.startswith("machine: ")}
    assert raised == {"machine: take raised IndexError"}


@pytest.mark.parametrize(
    ("hint", "types"),
    [
        (int, {int}),
        (list[int], {list}),
        (dict[str, int], {dict}),
        (int | None, {int, type(None)}),
        (list[str] | bytes, {list, bytes}),
        (Literal["a", 2], {str, int}),
        (object, {int, str, bool, type(None), list, dict, bytes}),
    ],
)
def test_arguments_are_of_the_annotated_types(hint: object, types: set[type]) -> None:
    draw, random = drawing(hint), Random(1)
    assert {type(draw(random)) for _ in range(200)} == types


def test_arguments_with_defaults_are_given_at_times() -> None:
    history = run_seed(1, "vsr", Queue).history
    given = {len(call.arg) for call in history if call.op == "put" and isinstance(call.arg, list)}
    assert given == {1, 2, 3}
