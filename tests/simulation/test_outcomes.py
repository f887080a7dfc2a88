"""Failures, lists of commands and large replies under fuzz: what checkers make of what clients are told of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from statemachine import CommandError, CommandFailedError, KeyValueStore, NotExecutedError, OutcomeUnknownError
from statemachine.errors import NotExecutedReason, UnknownReason
from statemachine.key_value import CannotAppendError
from statemachine.outcome import MAXIMUM_REPLY_BYTES, REPLY_DROPPED_REPLY, STALE_REPLY, encode_failed, encode_returned
from statemachine.sessions import Sessions
from viewstamp.client import Completion, Failure
from viewstamp.protocol import SECOND
from viewstamp.replica import Replica
from viewstamp.simulation.history import Json
from viewstamp.simulation.kv_load import KeyValueLoad
from viewstamp.simulation.ledger import KeptError, Ledger, NotInTurnError, UndoneError, in_turn, shown
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.load import Habits, Load, Operation
from viewstamp.simulation.plan import draw_plan
from viewstamp.simulation.recorded import kept_for_ever, recorded
from viewstamp.simulation.run import run_seed
from viewstamp.simulation.told import Places, Told
from viewstamp.simulation.verdict import ViolationError
from viewstamp.simulation.world import World
from viewstamp.wire import Reply

MIXED = Habits(lists=40, raising=40, large_replies=40)
both = pytest.mark.parametrize("protocol", ["vsr", "raft"])


def ledger() -> LedgerLoad:
    load = LedgerLoad(World(1), clients=0)
    for _ in range(50):
        load.command(load.world.add_client(), Operation(0, "", "", None, 0))
    return load


def tell(load: Load, *asked: tuple[str, int, object], size: int = 0, returned_at: int | None = 9) -> list[Operation]:
    """A call of these commands, each a name, a token and what it came to; several of them are a list."""
    parts = [Operation(0, "add", "", 1, 1, name=name, token=token, size=size) for name, token, _ in asked]
    load.history += parts
    operation = parts[0]
    operation.out = asked[0][2]
    if len(asked) > 1:
        operation = Operation(0, "list", "", None, 1, out=[out for *_, out in asked], parts=tuple(parts))
    load._ended(operation, returned_at)
    return parts


def holds(load: LedgerLoad, *tokens: int) -> None:
    """The scan at the end, of a member that holds these."""
    machine = Ledger()
    machine.tokens = list(tokens)
    load.scan(cast("Replica", SimpleNamespace(executor=SimpleNamespace(machine=machine))))


def test_a_command_of_the_ledger_fails_by_what_is_there() -> None:
    machine = Ledger()
    machine.context.begin(op=1, session=1, time_ns=0, seed=0)
    assert [in_turn(token, 0) for token in (1, 2, 3)] == [True, True, False]
    with pytest.raises(NotInTurnError):
        machine.add_in_turn(3)
    machine.add(7)
    assert machine.add_in_turn(3) == 2
    with pytest.raises(KeptError) as kept:
        machine.add_and_complain(4, 10)
    assert (kept.value.count, kept.value.shown) == (3, b"4 4 4 4 4 ")
    assert machine.tokens == [7, 3, 4]


def test_what_was_refused_and_is_not_there_is_right_and_reads_what_was() -> None:
    load = ledger()
    tell(load, ("add", 1, 1))
    [refused] = tell(load, ("add_in_turn", 2, NotInTurnError(1)))
    [undone] = tell(load, ("add_or_undo", 5, UndoneError(1)))
    [kept] = tell(load, ("add_and_complain", 8, KeptError(2, b"")))
    assert (refused.op, refused.arg, refused.out, refused.ok) == ("read", None, 1, True)
    assert (undone.op, undone.out) == ("read", 1)
    assert (kept.op, kept.out) == ("add", 2)
    holds(load, 1, 8)
    load.judge()
    for late in (2, 5):
        with pytest.raises(ViolationError, match=f"token {late} is there, though its command was undone"):
            holds(load, 1, 8, late)
    with pytest.raises(ViolationError, match="token 8 is not at its place 2"):
        holds(load, 1)


def test_what_failed_is_there_once_and_may_have_happened_at_any_time() -> None:
    load = ledger()
    [failed] = tell(load, ("add_and_fail", 3, CommandFailedError("DefectError")))
    assert (failed.op, failed.ok, failed.out) == ("add", None, None)
    tell(load, ("add", 4, 2))
    load.judge()
    holds(load, 3, 4)
    with pytest.raises(ViolationError, match="token 3 is not there"):
        holds(load, 5, 4)
    with pytest.raises(ViolationError, match="a token is there twice"):
        holds(load, 3, 4, 3)


def test_a_reply_that_is_too_large_is_lost_and_what_is_atomic_undone() -> None:
    load, lost = ledger(), CommandFailedError("ReplyTooLargeError")
    [undone] = tell(load, ("add_or_undo", 1, lost), size=MAXIMUM_REPLY_BYTES)
    [done] = tell(load, ("add_and_complain", 2, lost), size=MAXIMUM_REPLY_BYTES)
    assert (undone.ok, done.ok) == (False, None)
    load.judge()
    holds(load, 2)
    with pytest.raises(ViolationError, match="though its command was undone"):
        holds(load, 1, 2)
    with pytest.raises(ViolationError, match="was told CommandFailedError"):
        tell(load, ("add_or_undo", 3, lost), size=100)


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("add", None),
        ("add", NotInTurnError(1)),
        ("add", NotExecutedError(NotExecutedReason.MALFORMED)),
        ("add_in_turn", 2),  # It was not: 4 + 1 is no multiple of 3, but 5 + 1 is.
        ("add_in_turn", NotInTurnError(2)),
        ("add_in_turn", UndoneError(1)),
        ("add_or_undo", {"count": 1, "shown": b""}),
        ("add_or_undo", {"count": 1, "shown": shown(5, 69)}),
        ("add_or_undo", KeptError(2, shown(5, 70))),
        ("add_and_complain", KeptError(2, b"")),
        ("add_and_complain", KeptError(1, shown(5, 70))),
        ("add_and_fail", CommandFailedError("TypeError")),
        ("", CommandError()),
    ],
)
def test_what_a_command_cannot_say_is_noticed(name: str, out: object) -> None:
    with pytest.raises(ViolationError, match="exactly once: client 0 was told"):
        tell(ledger(), (name, 5, out), size=70)


def test_the_commands_of_a_list_follow_each_other() -> None:
    load = ledger()
    tell(load, ("add", 1, 1))
    good: list[tuple[str, int, object]] = [
        ("add", 2, 2),
        ("add_in_turn", 4, NotInTurnError(2)),
        ("add_and_fail", 7, CommandFailedError("DefectError")),
        ("add_and_complain", 6, KeptError(4, b"")),
        ("add", 9, 5),
    ]
    parts = tell(load, *good)
    assert [part.op for part in parts] == ["add", "read", "add", "add", "add"]
    load.judge()
    holds(load, 1, 2, 7, 6, 9)
    with pytest.raises(ViolationError, match=r"lists: a command \(add\) of a list was told 7; .* leave it 6"):
        tell(load, ("add", 10, 5), ("add", 11, 7))
    with pytest.raises(ViolationError, match="lists: a list of 2 commands was answered with"):
        load._ended(Operation(0, "list", "", None, 1, out=[5], parts=tuple(parts[:2])), 9)


def test_a_list_of_which_one_command_was_not_executed_is_noticed() -> None:
    with pytest.raises(ViolationError, match="exactly once: client 0 was told NotExecutedError"):
        tell(ledger(), ("add", 1, 1), ("add", 2, NotExecutedError(NotExecutedReason.MALFORMED)))


def test_what_nobody_waits_for_is_judged_and_not_in_the_history() -> None:
    load = ledger()
    [refused] = tell(load, ("add_in_turn", 3, NotInTurnError(0)), returned_at=None)
    [added] = tell(load, ("add", 4, 1), returned_at=None)
    assert (refused.ok, refused.out, added.ok, added.out) == (None, None, None, None)
    load.judge()
    with pytest.raises(ViolationError, match="though its command was undone"):
        holds(load, 3, 4)


def test_a_reply_may_make_room_only_if_it_is_large_and_room_is_wanted() -> None:
    load = ledger()
    client, gone = load.world.add_client(), OutcomeUnknownError(UnknownReason.REPLY_DROPPED)
    large = Operation(0, "add", "", 1, 1, name="add_and_complain", token=5, size=100)
    with pytest.raises(ViolationError, match="its reply made room, for nothing"):
        load._left_unknown(client, large, gone)
    load.world.max_reply_bytes = 1_000
    load._left_unknown(client, large, gone)
    holds(load, 5)
    with pytest.raises(ViolationError, match="token 5 is not there"):
        holds(load, 6)
    with pytest.raises(ViolationError, match=r"a small reply \(add\) is gone"):
        load._left_unknown(client, Operation(0, "add", "", 1, 1, name="add", token=6), gone)


def test_a_client_is_told_the_same_again() -> None:
    told, failure = Told(), encode_failed("DefectError")
    told.hear(0, Reply(3, 1, 0, 9, STALE_REPLY))
    told.hear(0, Reply(3, 1, 0, 9, failure))
    told.hear(0, Reply(3, 1, 1, 12, failure))
    told.hear(0, Reply(3, 1, 1, 12, REPLY_DROPPED_REPLY))
    told.hear(0, Reply(4, 1, 1, 12, encode_returned(3)))
    with pytest.raises(ViolationError, match=r"exactly once: client 0 was told .* of request 1, and before that"):
        told.hear(0, Reply(3, 1, 1, 12, encode_returned(None)))


def test_replies_that_nobody_can_ask_for_are_not_kept() -> None:
    sessions = Sessions()
    sessions.register(7)
    sessions.register(9)
    for request in (1, 2, 4):
        sessions.admit(9, request, 0)
        sessions.record(9, request, b"a reply to %d" % request)
    assert [*recorded(sessions)] == [(9, 1, 0), (9, 2, 0), (9, 4, 0)]
    sessions.admit(9, 5, 2)
    assert not kept_for_ever(sessions)
    sessions.record(9, 2, b"once more")
    assert kept_for_ever(sessions) == "the reply to request 2 of session 9, whose mark is 2"


def test_answers_name_places_in_history_that_never_go_back() -> None:
    views = [0, 1, 1, 2]
    places = Places(lambda op: views[op] if op < len(views) else -1)

    def answer(handle: int, view: int, op: int, outcome: bytes = b"", failure: Failure | None = None) -> None:
        places.answered(0, Completion(handle, outcome, view, op, failure))

    for handle in range(6):
        places.begun(0, handle)
    answer(0, 1, 2)
    answer(1, 0, 0)  # Asked before the other was answered.
    answer(2, 7, 7, STALE_REPLY)
    answer(3, 7, 7, failure=Failure.EXPIRED)
    answer(4, 2, 4)  # Whoever applied it has ended in that turn: nobody knows yet what is there.
    views.append(1)
    with pytest.raises(ViolationError, match="viewstamps: client 0 was told of op 4 in view 2, it is of 1"):
        answer(5, 2, 3)
    places.begun(1, 0)
    with pytest.raises(ViolationError, match="viewstamps: client 1 was told of op 3, after somebody was told of 4"):
        places.answered(1, Completion(0, b"", 2, 3))


def test_what_a_list_writes_to_a_store_has_versions_that_follow_each_other() -> None:
    load = KeyValueLoad(World(1, machine=KeyValueStore), clients=0)

    def parts(*told: tuple[str, Json]) -> list[Operation]:
        return [Operation(0, op, "k", None, 1, 2, out) for op, out in told]

    seen: Json = {"swapped": False, "current": {"value": "a", "version": 5}}
    load.check_together(parts(("put", 4), ("put", 5), ("cas", seen), ("delete", True), ("append", 6)))
    load.check_together(parts(("cas", seen), ("cas", {"swapped": True, "version": 6}), ("put", 7)))
    with pytest.raises(ViolationError, match="lists: a put of a list gave version 6, the one before 4"):
        load.check_together(parts(("put", 4), ("put", 6)))
    with pytest.raises(ViolationError, match="lists: a cas of a list gave version 5, the one before 4"):
        load.check_together(parts(("put", 4), ("cas", seen)))
    with pytest.raises(ViolationError, match=r"a small reply \(put\) is gone"):
        load.check_dropped(Operation(0, "put", "k", "a", 1), listed=False)


def test_an_append_that_is_refused_stands_in_the_history_by_its_name() -> None:
    load = KeyValueLoad(World(1, machine=KeyValueStore), clients=0)
    load.history += [Operation(0, "put", "k", -1, 1, 2, 1, True), Operation(0, "append", "k", "(2)", 3, 4, None, True)]
    load.history[1].out = cast("Any", CannotAppendError("int", "str"))
    load.check(load.history[1], forgotten=False)
    assert load.told()[1].out == {"error": "CannotAppendError"}
    load.judge()


@both
@pytest.mark.parametrize(("machine", "load_class"), [(Ledger, LedgerLoad), (KeyValueStore, KeyValueLoad)])
def test_everything_happens_in_a_cluster_that_loses_replies(
    protocol: str, machine: Any, load_class: type[LedgerLoad | KeyValueLoad]
) -> None:
    world = World(5, protocol=protocol, machine=machine)
    world.max_reply_bytes = 0
    world.network.faults = world.network.faults.__class__(loss=0.1, duplicate=0.2)
    world.start_all()
    load = load_class(world, 4, MIXED)
    world.run_until(lambda: load.answered >= 400, 20 * SECOND)
    load.settle()
    counts = world.watch.counts
    assert counts["load: lists"] > 50
    assert counts["load: replies dropped"] > 1
    failures = ("NotInTurnError", "UndoneError", "KeptError", "CommandFailedError")
    names = [f"load: {name}" for name in failures] if machine is Ledger else ["key-value: append: refused"]
    assert min(counts[name] for name in names) > 3


def test_most_plans_have_some_of_it_and_some_have_none() -> None:
    habits = [draw_plan(seed).habits for seed in range(200)]
    kinds = [sum(map(bool, (habit.lists, habit.raising, habit.large_replies))) for habit in habits]
    assert set(kinds) == {0, 1, 2, 3}
    assert sum(map(bool, kinds)) > 120
    assert len({draw_plan(seed).reply_bytes for seed in range(200)}) == 4


@both
def test_lists_go_through_the_trio_shell(protocol: str) -> None:
    seed = next(seed for seed in range(100) if draw_plan(seed).habits.lists and draw_plan(seed).habits.raising)
    report = run_seed(seed, protocol, shell="trio")
    assert report.violation is None
    assert report.counts["load: lists"] > 10
