"""Hand-made bugs in what becomes of a command: failures, lists of commands, large replies, and their records."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import statemachine.executor as executor_module
import statemachine.sessions as sessions_module
from statemachine import Context
from statemachine.command import decode_body, decode_each_body, decode_list, encode_list
from statemachine.executor import Executor
from statemachine.outcome import (
    NO_ROOM_REPLY,
    NOTHING_REPLY,
    REPLY_DROPPED_REPLY,
    Listed,
    decode_outcome,
    encode_listed,
    encode_outcome,
    encode_returned,
    is_cut,
)
from statemachine.sessions import Sessions
from tests.simulation.changes import Change, after
from viewstamp.client import Backlog, ClientSession, Completion
from viewstamp.client.pace import Sent

Bugs = tuple[tuple[str, str, tuple[Change, ...]], ...]

_RAISED, _FAILED, _LISTED = 1, 2, 5

_record, _restore, _run_list, _call = Sessions.record, Sessions._restore, Executor._run_list, Executor._call
_run_gathered, _answered = Executor._run_gathered, Backlog.answered
_client_call, _take_completions = ClientSession.call, ClientSession.take_completions


def _begin_further_on(self: Context, op: int, session: int, time_ns: int, seed: int) -> None:
    self._entry, self._random = (op, session, time_ns, seed), None


def _record_no_failures(self: Sessions, session: int, request: int, reply: bytes) -> None:
    if reply[0] not in (_RAISED, _FAILED):
        _record(self, session, request, reply)


def _record_failures_as_done(self: Sessions, session: int, request: int, reply: bytes) -> None:
    _record(self, session, request, NOTHING_REPLY if reply[0] in (_RAISED, _FAILED) else reply)


def _record_failed_lists_not(self: Sessions, session: int, request: int, reply: bytes) -> None:
    if reply[0] != _LISTED or not any(member[0] in (_RAISED, _FAILED) for member in decode_body(reply[1:])):
        _record(self, session, request, reply)


def _record_the_beginning(self: Sessions, session: int, request: int, reply: bytes) -> None:
    match decode_outcome(reply) if len(reply) > 1_000 else None:
        case Listed(outcomes):
            reply = encode_outcome(Listed(outcomes[:1]))
    _record(self, session, request, reply)


def _forget_the_dropped(self: Sessions, session: int, request: int, reply: bytes) -> None:
    for found in self._table.values():
        for number in [number for number, known in found.replies.items() if is_cut(known)]:
            del found.replies[number]


def _restore_without_sizes(self: Sessions, *_: object) -> None:
    self.reply_bytes = 0


def _restore_in_order(self: Sessions, *_: object) -> None:
    self._large = OrderedDict(sorted(self._large.items()))


def _stop_at_a_failure(self: Any, encodings: list[bytes]) -> bytes:
    replies: list[bytes] = []
    for encoding in encodings:
        failed = bool(replies) and replies[-1][0] in (_RAISED, _FAILED)
        replies.append(replies[-1] if failed else self._execute(*decode_each_body([encoding])))
    return encode_listed(replies)


def _undo_all_at_a_failure(self: Any, encodings: list[bytes]) -> bytes:
    attributes = vars(self.machine)
    kept = deepcopy(attributes)
    reply = _run_list(self, encodings)
    if any(member[0] in (_RAISED, _FAILED) for member in decode_body(reply[1:])):
        attributes.clear()
        attributes.update(kept)
    return reply


def _run_half(self: Any, encodings: list[bytes]) -> bytes:
    half = _run_list(self, encodings[: (len(encodings) + 1) // 2])
    kept = deepcopy(vars(self.machine))
    rest = [self._execute(parts) for parts in decode_each_body(encodings[(len(encodings) + 1) // 2 :])]
    vars(self.machine).clear()
    vars(self.machine).update(kept)
    return encode_listed([*decode_body(half[1:]), *rest])


def _run_backwards(self: Any, encodings: list[bytes]) -> bytes:
    return encode_listed(decode_body(_run_list(self, encodings[::-1])[1:])[::-1])


def _undo_nothing(function: Callable[..., object], machine: object, parts: list[Any], maximum_bytes: int) -> bytes:
    return encode_returned(function(*parts), maximum_bytes)


def _undo_everything(self: Any, table: dict[str, Any], parts: list[Any], maximum_bytes: int) -> bytes:
    atomic = {name: (*operation[:3], True) for name, operation in table.items()}
    return _call(self, atomic if table is self._commands else table, parts, maximum_bytes)


def _call_in_halves(self: Any, body: bytes, now: int, *, is_list: bool = False) -> int:
    """A list goes out as two, and what they return is put together."""
    parts = decode_list(body) if is_list else []
    if len(parts) < 2:
        return _client_call(self, body, now, is_list=is_list)
    middle = len(parts) // 2
    first, second = encode_list(parts[:middle]), encode_list(parts[middle:])
    handle = _client_call(self, first, now, is_list=True)
    self.__dict__.setdefault("halves", {})[handle] = _client_call(self, second, now, is_list=True)
    return handle


def _take_both_halves(self: Any) -> Iterator[Completion] | list[Completion]:
    halves: dict[int, int] = self.__dict__.setdefault("halves", {})
    held: dict[int, Completion] = self.__dict__.setdefault("held", {})
    taken = []
    for completion in _take_completions(self):
        if completion.handle in halves or completion.handle in halves.values():
            held[completion.handle] = completion
        else:
            taken.append(completion)
    for first, second in list(halves.items()):
        if first in held and second in held:
            one, other = held.pop(first), held.pop(second)
            del halves[first]
            if one.outcome[:1] == other.outcome[:1] == bytes([_LISTED]):
                both = [*decode_body(one.outcome[1:]), *decode_body(other.outcome[1:])]
                one = one._replace(outcome=encode_listed(both))
            elif one.outcome[:1] == bytes([_LISTED]):
                one = other
            taken.append(one._replace(handle=first))
    return taken


def _execute_without_room(self: Any, encodings: list[bytes]) -> bytes:
    reply = _run_gathered(self, encodings)
    executed = decode_body(reply[1:])
    if NO_ROOM_REPLY in executed:
        _run_gathered(self, encodings[executed.index(NO_ROOM_REPLY) :])
    return reply


def _end_without_room(self: Backlog, sent: Sent, outcome: bytes, now: int) -> list[tuple[int, bytes]]:
    answers = dict(_answered(self, sent, outcome, now))
    for handle in sent.handles:
        self.discard(handle)
    return [(handle, answers.get(handle, encode_returned(1))) for handle in sent.handles]


def _answer_in_turn(self: Backlog, sent: Sent, outcome: bytes, now: int) -> list[tuple[int, bytes]]:
    answers = list(_answered(self, sent, outcome, now))
    replies = [reply for _, reply in answers]
    return [(handle, reply) for (handle, _), reply in zip(answers, replies[1:] + replies[:1], strict=True)]


def _call_the_rest_again(self: Backlog, sent: Sent, outcome: bytes, now: int) -> list[tuple[int, bytes]]:
    """What is left of a reply is taken to speak of the first command only."""
    for handle, body in zip(sent.handles[1:], decode_list(sent.body)[1:] if sent.handles[1:] else (), strict=True):
        if is_cut(outcome):
            self.add(handle, body, now, is_list=False)
    answers = list(_answered(self, sent, outcome, now))
    return answers[:1] if is_cut(outcome) else answers


SHARED: Bugs = (
    (
        "failures-not-recorded",
        "What a command raised is not recorded: a retry executes it again, and by then it may succeed.",
        ((Sessions, "record", _record_no_failures),),
    ),
    (
        "failures-recorded-as-done",
        "What a command raised is recorded as if it had returned nothing: so a retry is told.",
        ((Sessions, "record", _record_failures_as_done),),
    ),
    (
        "failed-lists-not-recorded",
        "A list of which one command raised is not recorded, and executed again when it comes again.",
        ((Sessions, "record", _record_failed_lists_not),),
    ),
    (
        "large-replies-cut",
        "Of a list with a large reply only what its first command returned is recorded.",
        ((Sessions, "record", _record_the_beginning),),
    ),
    (
        "dropped-replies-are-nothing",
        "A retry of a command whose large reply made room is told that it returned nothing.",
        ((sessions_module, "what_is_left", lambda _: NOTHING_REPLY),),
    ),
    (
        "dropped-replies-forgotten",
        "That a command was executed whose large reply made room is forgotten with it.",
        (after(Sessions, "record", _forget_the_dropped),),
    ),
    (
        "reply-bytes-not-restored",
        "After a restore from a snapshot the large replies in it do not count: they make room later than elsewhere.",
        (after(Sessions, "_restore", _restore_without_sizes),),
    ),
    (
        "large-replies-restored-in-order",
        "After a restore large replies make room in the order of their sessions, and not of their age.",
        (after(Sessions, "_restore", _restore_in_order),),
    ),
    (
        "list-stops-at-failure",
        "Behind a command of a list that raised none is executed; they are told to have raised the same.",
        ((Executor, "_run_list", _stop_at_a_failure),),
    ),
    (
        "list-undone-at-failure",
        "A list of which one command raised is undone as a whole.",
        ((Executor, "_run_list", _undo_all_at_a_failure),),
    ),
    (
        "list-half-executed",
        "Of a list the second half is tried out, and answered, and not executed.",
        ((Executor, "_run_list", _run_half),),
    ),
    (
        "list-backwards",
        "The commands of a list are executed from its end.",
        ((Executor, "_run_list", _run_backwards),),
    ),
    (
        "list-in-two",
        "A client sends a list as two: what others call comes between them.",
        ((ClientSession, "call", _call_in_halves), (ClientSession, "take_completions", _take_both_halves)),
    ),
    (
        "gathered-without-room-executed",
        "Gathered commands that found no room for their replies were executed all the same.",
        ((Executor, "_run_gathered", _execute_without_room),),
    ),
    (
        "gathered-without-room-answered",
        "Gathered commands that found no room, and were not executed, are answered.",
        ((Backlog, "answered", _end_without_room),),
    ),
    (
        "gathered-replies-forgotten",
        "A large reply to gathered commands that makes room takes with it that the last were not executed.",
        ((sessions_module, "what_is_left", lambda _: REPLY_DROPPED_REPLY),),
    ),
    (
        "gathered-answers-exchanged",
        "Of gathered commands each is answered with what the next one returned.",
        ((Backlog, "answered", _answer_in_turn),),
    ),
    (
        "gathered-called-again",
        "Where the reply to gathered commands made room, all but the first are called again.",
        ((Backlog, "answered", _call_the_rest_again),),
    ),
    (
        "context-goes-on",
        "A command's place in its entry is counted from that of the last command of the entry before.",
        ((Context, "begin", _begin_further_on),),
    ),
    (
        "atomic-not-undone",
        "What an atomic command changed before it raised stays.",
        ((executor_module, "_run_atomically", _undo_nothing),),
    ),
    (
        "everything-undone",
        "What any command changed before it raised is undone.",
        ((Executor, "_call", _undo_everything),),
    ),
)
