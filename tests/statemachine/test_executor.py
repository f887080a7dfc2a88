from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from statemachine import (
    ApplyOrderError,
    Command,
    CommandError,
    Context,
    Counter,
    Executor,
    Failed,
    NotExecuted,
    NotExecutedReason,
    Raised,
    Returned,
    SnapshotError,
    StateMachine,
    Unknown,
    UnknownReason,
    command,
    decode_outcome,
    encode_command,
    encode_value,
    session_number,
)
from statemachine.defects import Defects
from statemachine.executor import REGISTER
from statemachine.outcome import BEYOND_WINDOW_REPLY, EXPIRED_REPLY, STALE_REPLY
from tests.statemachine.driving import Driver, apply
from tests.statemachine.machines import Restless


def test_commands_return_and_queries_read() -> None:
    driver = Driver(Counter())
    assert driver.entry(Counter.add.bind(5)) == Returned(5)
    assert driver.entry(Counter.add.bind(-7)) == Returned(-2)
    assert decode_outcome(driver.executor.query(Counter.get.bind())) == Returned(-2)
    assert driver.executor.applied == 3


def test_the_counter_refuses_what_is_no_integer_or_does_not_fit() -> None:
    driver = Driver(Counter())
    for amount, name in [(True, "bool"), (1.0, "float"), ("1", "str"), (None, "NoneType")]:
        assert driver.entry(encode_command("add", [amount])) == Raised("NotAnIntegerError", {"given": name})
    assert driver.entry(Counter.add.bind(2**63 - 1)) == Returned(2**63 - 1)
    assert driver.entry(Counter.add.bind(1)) == Raised("OutOfRangeError", {"value": 2**63 - 1})
    assert decode_outcome(driver.executor.query(Counter.get.bind())) == Returned(2**63 - 1)


def test_a_command_sees_the_agreed_context_and_nothing_remains_of_it() -> None:
    first, second = Driver(Restless()), Driver(Restless())
    outcome = first.entry(Restless.place.bind())
    assert isinstance(outcome, Returned)
    assert isinstance(outcome.value, list)
    assert outcome.value[:5] == [2, 1, 1002, 2 << 16, 77]
    assert second.entry(Restless.place.bind()) == outcome
    assert decode_outcome(first.executor.query(Restless.read_context.bind())) == Failed("NoContextError")


def test_what_a_command_raises_is_its_outcome_and_its_changes_stay() -> None:
    machine = Restless()
    driver = Driver(machine)
    assert driver.entry(Restless.refuse.bind("a")) == Raised("RefusedError", {"reason": "a", "limits": [1, 2]})
    assert driver.entry(Restless.fail.bind("secret at 0x7f")) == Failed("KeyError")
    assert driver.entry(Restless.return_set.bind()) == Failed("ValueEncodingError")
    assert driver.entry(Restless.refuse_oddly.bind()) == Failed("UnencodableError")
    assert driver.entry(Restless.return_much.bind()) == Failed("ReplyTooLargeError")
    assert machine.log == ["a", "secret at 0x7f", "set"]


def test_an_atomic_command_that_raises_changes_nothing() -> None:
    machine = Restless()
    driver = Driver(machine)
    driver.entry(Restless.note.bind("before"))
    assert driver.entry(Restless.fail_whole.bind("a")) == Failed("KeyError")
    assert driver.entry(Restless.return_set_whole.bind()) == Failed("ValueEncodingError")
    assert (machine.log, machine.table) == (["before"], {})
    assert driver.entry(Restless.note.bind("after")) == Returned(2)
    assert driver.entry(Restless.grow_whole.bind()) == Failed("KeyError")
    assert not hasattr(machine, "later")


class Rooted(StateMachine):
    """Its attributes lead back to it, and one of them is in a slot."""

    __slots__ = ("_total",)

    def __init__(self) -> None:
        self._total = 0
        self._ways = {"add": self._add}
        self._agreed: Context | None = None

    def _add(self) -> None:
        self._total += 1

    @command(atomic=True)
    def go(self, way: str, refuse: bool = False) -> list[int]:
        self._agreed = self._agreed or self.context
        self._ways[way]()
        if refuse:
            del self._total
            raise ValueError(way)
        return [self._total, self._agreed.op]

    def snapshot(self) -> bytes:
        return encode_value(self._total)

    def restore(self, chunks: Iterator[bytes]) -> None:
        self._total = int.from_bytes(b"".join(chunks), "big")


def test_what_leads_back_to_the_machine_does_so_after_an_atomic_command_that_raised() -> None:
    machine = Rooted()
    driver = Driver(machine)
    assert driver.entry(Rooted.go.bind("add")) == Returned([1, 2])
    assert driver.entry(Rooted.go.bind("add", True)) == Failed("ValueError")
    assert driver.entry(Rooted.go.bind("add")) == Returned([2, 4])
    assert driver.entry(Rooted.go.bind("add")) == Returned([3, 5])
    restored = Rooted()
    Executor(restored).restore(driver.executor.snapshot())
    assert restored._total == machine._total == 3


def test_a_defect_is_logged_where_it_happened_once_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver(Restless())
    for name in ("first", "second"):
        assert driver.entry(Restless.fail.bind(name)) == Failed("KeyError")
        assert driver.entry(Restless.return_set.bind()) == Failed("ValueEncodingError")
        assert driver.entry(Restless.refuse_oddly.bind()) == Failed("UnencodableError")
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in told] == [
        "Restless.fail raised KeyError",
        "Restless.return_set raised ValueEncodingError",
        "Restless.refuse_oddly raised UnencodableError",
    ]
    assert "KeyError: 'first'" in caplog.text  # with its traceback
    assert "in fail" in caplog.text


def test_a_command_that_this_class_has_not_is_logged_once_and_a_query_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """One member was started with another class than the others: nobody else can tell that its state differs."""
    driver = Driver(Counter())
    for _ in range(2):
        assert driver.entry(encode_command("withdraw", (5,))) == NotExecuted(NotExecutedReason.UNKNOWN_COMMAND)
        assert driver.entry(encode_command("add", (5, 6, 7))) == NotExecuted(NotExecutedReason.WRONG_ARGUMENTS)
        driver.executor.query(encode_command("balance", ()))
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "Counter has no command 'withdraw'",
        "Counter has no command 'add'",
    ]


def test_no_more_than_a_hundred_kinds_of_defects_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    defects = Defects()
    for number in range(150):
        defects.tell(Counter.add.function, type(f"Error{number}", (Exception,), {})())
    assert len(caplog.records) == 100


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", NotExecutedReason.MALFORMED),
        (b"\xff\xff", NotExecutedReason.MALFORMED),
        (encode_value([["note", "a"], ["note", "b"]]), NotExecutedReason.MALFORMED),
        (encode_command("missing", []), NotExecutedReason.UNKNOWN_COMMAND),
        (encode_command("read", []), NotExecutedReason.UNKNOWN_COMMAND),
        (encode_command("snapshot", []), NotExecutedReason.UNKNOWN_COMMAND),
        (encode_command("note", []), NotExecutedReason.WRONG_ARGUMENTS),
        (encode_command("note", ["a", 1, 2]), NotExecutedReason.WRONG_ARGUMENTS),
    ],
)
def test_a_body_that_is_no_command_is_got_past_and_remembered(body: bytes, reason: NotExecutedReason) -> None:
    driver = Driver(Restless())
    assert driver.entry(body) == NotExecuted(reason)
    assert driver.executor.applied == 2
    # Its request number is used up: what was certainly not executed cannot be executed later.
    again = apply(driver.executor, 3, 1, 1, 1, 0, 0, 0, Restless.note.bind("a"))
    assert decode_outcome(again) == NotExecuted(reason)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [(Restless.recurse, RecursionError), (Restless.exhaust, MemoryError), (Restless.leave, SystemExit)],
)
def test_what_depends_on_the_process_stops_the_replica(trouble: Command[[], None], error: type[BaseException]) -> None:
    driver = Driver(Restless())
    with pytest.raises(error):
        driver.entry(trouble.bind())
    assert driver.executor.applied == 1


def test_entries_are_applied_in_order_and_once() -> None:
    executor = Executor(Counter())
    for op in (0, 2):
        with pytest.raises(ApplyOrderError):
            apply(executor, op, 3, 0, 0, 0, 0, 0, b"")
    apply(executor, 1, 3, 0, 0, 0, 0, 0, b"")
    with pytest.raises(ApplyOrderError):
        apply(executor, 1, 3, 0, 0, 0, 0, 0, b"")


def test_other_kinds_change_nothing_but_the_digest() -> None:
    executor = Executor(Counter())
    before = executor.digest
    for op, kind in enumerate((3, 4, 5, 99), 1):
        assert decode_outcome(apply(executor, op, kind, 0, 0, 0, 0, 0, b"")) == Returned(None)
    assert executor.digest != before
    assert len(executor.sessions) == 0


@pytest.mark.parametrize(("depth", "name"), [(0, "MemoryError"), (1_000_000, "RecursionError")])
def test_a_query_that_is_too_much_is_answered(depth: int, name: str) -> None:
    """Its client would ask the next member, and the next: one query would end them all."""
    executor = Driver(Restless()).executor
    assert decode_outcome(executor.query(Restless.read_deep.bind(depth))) == Failed(name)
    assert decode_outcome(executor.query(Restless.read.bind())) == Returned([])


def test_a_query_answers_errors_and_changes_nothing() -> None:
    executor = Driver(Restless()).executor
    before = executor.state_digest()
    assert decode_outcome(executor.query(Restless.read.bind())) == Returned([])
    assert decode_outcome(executor.query(Restless.read_wrong.bind("a"))) == Failed("KeyError")
    assert decode_outcome(executor.query(Restless.note.bind("a"))) == NotExecuted(NotExecutedReason.UNKNOWN_COMMAND)
    assert decode_outcome(executor.query(b"\x00")) == NotExecuted(NotExecutedReason.MALFORMED)
    assert executor.state_digest() == before


def test_the_rolling_digest_notices_each_part_of_an_entry() -> None:
    def digest(*entry: int, body: bytes = Counter.add.bind(1)) -> bytes:
        kind, session, request, mark, stamp, seed = entry
        executor = Executor(Counter())
        apply(executor, 1, REGISTER, 0, 0, 0, 0, 0, b"")
        apply(executor, 2, kind, session, request, mark, stamp, seed, body)
        return executor.digest

    variants = [
        digest(1, 1, 1, 0, 0, 0),
        digest(3, 1, 1, 0, 0, 0),
        digest(1, 2, 1, 0, 0, 0),
        digest(1, 1, 2, 0, 0, 0),
        digest(1, 1, 2, 1, 0, 0),
        digest(1, 1, 1, 0, -1, 0),
        digest(1, 1, 1, 0, 0, 1),
        digest(1, 1, 1, 0, 0, 0, body=Counter.add.bind(2)),
    ]
    assert len(set(variants)) == len(variants)


def test_the_rolling_digest_remembers_every_entry_before() -> None:
    def digest(first: int) -> bytes:
        driver = Driver(Counter())
        apply(driver.executor, 2, 3, 0, 0, 0, first, 0, b"")
        apply(driver.executor, 3, 3, 0, 0, 0, 9, 0, b"")
        return driver.executor.digest

    assert digest(1) != digest(2)


def test_a_duplicate_is_answered_before_it_is_ordered() -> None:
    driver = Driver(Counter())
    executor = driver.executor
    assert executor.answer(1, 1, 0) is None
    driver.entry(Counter.add.bind(5))
    reply = executor.answer(1, 1, 0)
    assert reply is not None
    assert decode_outcome(reply) == Returned(5)
    assert executor.answer(1, 3, 2) is None
    assert executor.answer(1, 2, 2) == STALE_REPLY
    assert executor.answer(1, 2000, 2) == BEYOND_WINDOW_REPLY
    assert executor.answer(0, 1, 0) == EXPIRED_REPLY
    expired = executor.answer(2, 1, 0)
    assert expired is not None
    assert decode_outcome(expired) == Unknown(UnknownReason.EXPIRED)
    # This replica has applied 2 entries: a session registered at 3 is news to it, not expired.
    assert executor.answer(3, 1, 0) is None


def test_a_client_of_a_history_that_was_lost_meets_nobody_else_under_its_number() -> None:
    """All members lose their data and found the cluster anew; its first session is opened at the same op."""
    histories = [Executor(Counter()), Executor(Counter())]
    for nonce, executor in zip((1001, 1002), histories, strict=True):
        apply(executor, 1, REGISTER, 0, nonce, 0, 10, 11, b"")
    before, after = session_number(1, 1001), session_number(1, 1002)
    apply(histories[1], 2, 1, after, 1, 0, 20, 21, Counter.add.bind(5))
    assert histories[0].answer(before, 1, 0) is None
    assert histories[1].answer(before, 1, 0) == EXPIRED_REPLY
    late = apply(histories[1], 3, 1, before, 1, 0, 30, 31, Counter.add.bind(7))
    assert decode_outcome(late) == Unknown(UnknownReason.EXPIRED)
    assert decode_outcome(histories[1].query(Counter.get.bind())) == Returned(5)


def mixed_run() -> Executor:
    executor = Executor(Restless(), max_sessions=2, window=8)
    bodies = [
        Restless.note.bind("ä"),
        Restless.refuse.bind("x"),
        Restless.fail.bind("y"),
        Restless.place.bind(),
        Restless.large.bind(200),
        encode_command("none", []),
    ]
    for op in range(1, 60):
        if op % 13 == 1:
            apply(executor, op, REGISTER, 0, 0, 0, op, op, b"")
        else:
            session = op - op % 13 + 1 if op % 3 else 1
            apply(executor, op, 1, session, op % 20, max(0, op % 20 - 7), op, op * 7, bodies[op % len(bodies)])
    return executor


def test_a_snapshot_restores_everything_however_it_is_cut() -> None:
    source = mixed_run()
    whole = b"".join(source.snapshot())
    for size in (1, 7, 1000, len(whole)):
        copy = Executor(Restless(), max_sessions=2, window=8)
        copy.restore(whole[start : start + size] for start in range(0, len(whole), size))
        assert copy.applied == source.applied
        assert copy.digest == source.digest
        assert copy.state_digest() == source.state_digest()
        assert b"".join(copy.snapshot()) == whole


def test_a_damaged_snapshot_is_refused() -> None:
    whole = b"".join(mixed_run().snapshot())
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        with pytest.raises(SnapshotError):
            Executor(Restless(), max_sessions=2, window=8).restore([bytes(damaged)])
    for cut in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"\x00"):
        with pytest.raises(SnapshotError):
            Executor(Restless(), max_sessions=2, window=8).restore([cut])


@pytest.mark.parametrize(
    ("position", "words"), [(0, "no snapshot"), (8, "of format 3, and this program reads format 2 alone")]
)
def test_what_is_no_snapshot_of_this_format_is_said(position: int, words: str) -> None:
    whole = bytearray(b"".join(mixed_run().snapshot()))
    whole[position] += 1
    with pytest.raises(SnapshotError, match=words):
        Executor(Restless(), max_sessions=2, window=8).restore([bytes(whole)])


def test_a_snapshot_of_other_bounds_or_of_another_machine_is_refused() -> None:
    whole = b"".join(mixed_run().snapshot())
    with pytest.raises(SnapshotError, match="must be the same on all"):
        Executor(Restless(), max_sessions=3, window=8).restore([whole])


def test_a_snapshot_stays_as_it_was_while_commands_go_on() -> None:
    driver = Driver(Restless())
    driver.entry(Restless.note.bind("a"))
    digest, pieces = driver.executor.state_digest(), driver.executor.snapshot()
    driver.entry(Restless.note.bind("b"))
    *_, last = pieces
    assert last == digest != driver.executor.state_digest()


class Lazy(StateMachine):
    """Its snapshot is a generator, of which nothing runs before the first chunk is asked for."""

    def __init__(self) -> None:
        self.items = ["a" * 100_000]

    @command
    def push(self, item: str) -> None:
        self.items.append(item)

    def snapshot(self) -> Iterator[bytes]:
        captured = list(self.items)
        yield b""
        for item in captured:
            yield item.encode()

    def restore(self, chunks: Iterator[bytes]) -> None:
        self.items = [chunk.decode() for chunk in chunks]


@pytest.mark.parametrize(
    "given", [[memoryview(array("Q", [1, 2]))], [array("Q", [1, 2])], bytearray(3), [None, b"more"], "text"]
)
def test_what_is_no_bytes_is_refused_when_it_is_given_and_not_when_it_is_read(given: object) -> None:
    class Careless(StateMachine):
        def snapshot(self) -> bytes:
            return cast("bytes", given)

    with pytest.raises(SnapshotError, match="must be bytes, and not a"):
        b"".join(Executor(Careless()).snapshot())


def test_a_generator_captures_at_the_call_and_chunks_come_back_as_they_were() -> None:
    driver = Driver(Lazy())
    pieces = driver.executor.snapshot()
    driver.entry(Lazy.push.bind("late"))
    machine = Lazy()
    machine.items = []
    copy = Executor(machine)
    copy.restore(pieces)
    assert machine.items == ["a" * 100_000]


class Plain(StateMachine):
    def __init__(self, value: object = None) -> None:
        self.value = value


@pytest.mark.parametrize(
    "value",
    [None, 10**30, -(10**30), {"b": 1, "a": 2}, {3: "x", 1: "y", b"k": []}, [1.5, "ä", b"\x00"], float("inf"), True],
)
def test_a_plain_machine_comes_back_with_types_and_order(value: object) -> None:
    machine = Plain()
    Executor(machine).restore(Executor(Plain(value)).snapshot())
    assert repr(machine.value) == repr(value)


shared: list[object] = []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1,), r"Plain\.value: a tuple would come back as a list"),
        ([{"a": {1}}], r"Plain\.value\[0\]\['a'\]: a set has no agreed order"),
        ({(1, 2): 3}, r"Plain\.value: a dict key is a tuple"),
        ({None: 3}, r"Plain\.value: a dict key is a NoneType"),
        (object(), r"Plain\.value: a object cannot be encoded"),
        ([shared, shared], r"Plain\.value\[1\]: this list is also reachable another way"),
        ("\ud800", "is no text"),
    ],
)
def test_state_that_would_not_come_back_is_refused_at_once_by_name(value: object, words: str) -> None:
    with pytest.raises(SnapshotError, match=words):
        Executor(Plain(value))


def test_slots_are_refused_by_the_default_snapshot() -> None:
    class Slotted(StateMachine):
        __slots__ = ("value",)

    with pytest.raises(
        SnapshotError, match=r"Slotted has __slots__, so Slotted must override snapshot\(\) and restore\(\)"
    ):
        Executor(Slotted())


def test_a_snapshot_of_ones_own_that_the_default_cannot_read_is_told_with_its_cause() -> None:
    class Own(StateMachine):
        def snapshot(self) -> bytes:
            return b"all of it"

    class Both(Own):
        def restore(self, chunks: Iterator[bytes]) -> None:
            super().restore(chunks)

    with pytest.raises(SnapshotError, match=r"^Own overrides snapshot\(\) and not restore\(\): not the state of a Own"):
        Executor(Own()).restore(Executor(Own()).snapshot())
    with pytest.raises(SnapshotError, match=r"^not the state of a Both"):
        Executor(Both()).restore(Executor(Both()).snapshot())


def test_errors_are_exceptions_like_others() -> None:
    class PlainError(CommandError):
        pass

    with pytest.raises(ExceptionGroup) as caught:
        raise ExceptionGroup("several", [PlainError(), PlainError()])
    assert len({*caught.value.exceptions}) == 2


SCRIPT = """
from tests.statemachine.test_executor import mixed_run
from tests.statemachine.test_key_value import mixed_store
print(mixed_run().digest.hex(), mixed_run().state_digest().hex(), mixed_store().state_digest().hex())
"""


def test_processes_with_other_hash_seeds_agree_to_the_byte() -> None:
    root = Path(__file__).parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 3
