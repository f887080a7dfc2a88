"""What became of a request: the reply as it is recorded, sent and read.

A reply is one byte for the kind of outcome and a canonical CBOR value.

Executed for certain: `Returned`, `Raised`, `Failed`. Certainly not executed, and never will be: `NotExecuted`.
`Listed` has one of these for each command of a list. Anything else says nothing about that: `Unknown`.

Of gathered commands, whose callers do not know of each other, the reply is split (`replies_of`) before it is read. If
it had to make room, and the last of them had not been executed, then what is left (`what_is_left`) is the number of
those that were: in front a kind of its own, 6.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from statemachine.errors import (
    CommandError,
    CommandFailedError,
    NotExecutedError,
    NotExecutedReason,
    OutcomeUnknownError,
    RemoteCommandError,
    ReplyTooLargeError,
    SessionExpiredError,
    UnknownReason,
    ValueDecodingError,
    ValueEncodingError,
    fields_of,
)
from statemachine.machine import StateMachine
from statemachine.values import (
    MAXIMUM_DEPTH,
    UNSIGNED,
    Value,
    decode_each,
    decode_value,
    dump,
    dump_head,
    encode_value,
    find_fault,
)

MAXIMUM_REPLY_BYTES = 2 * 1024 * 1024


class _Kind:
    """The first byte of a reply. Plain numbers: to compare with those of an enum takes a third longer."""

    RETURNED: Final = 0
    RAISED: Final = 1
    FAILED: Final = 2
    NOT_EXECUTED: Final = 3
    UNKNOWN: Final = 4
    LISTED: Final = 5
    CUT: Final = 6


_RETURNED_BYTE, _LISTED_BYTE, _CUT_BYTE = bytes([_Kind.RETURNED]), bytes([_Kind.LISTED]), bytes([_Kind.CUT])
# A reply may wrap a value as deep as an argument can be: in a list of fields, or in what a store says of it.
_REPLY_DEPTH = MAXIMUM_DEPTH + 2


@dataclass(frozen=True, slots=True)
class Returned:
    """The command was executed and returned `value`."""

    value: Value


@dataclass(frozen=True, slots=True)
class Raised:
    """The command was executed and raised a `CommandError` of class `name` with these declared fields."""

    name: str
    fields: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Failed:
    """The command was executed up to where it raised an exception of class `name`, which was not meant for us."""

    name: str


@dataclass(frozen=True, slots=True)
class NotExecuted:
    """The command was certainly not executed, and never will be under this request number."""

    reason: NotExecutedReason


@dataclass(frozen=True, slots=True)
class Unknown:
    """The command may or may not have been executed; its reply cannot be told."""

    reason: UnknownReason


Member: TypeAlias = Returned | Raised | Failed | NotExecuted
"""What became of one command of a list."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of commands was executed, and this is what became of each, in their order."""

    outcomes: list[Member]


Outcome: TypeAlias = Member | Unknown | Listed
Results: TypeAlias = "list[Value | Exception]"
"""Of a list of commands, what each returned, or the exception that it came to."""


def encode_returned(value: object, maximum_bytes: int = MAXIMUM_REPLY_BYTES) -> bytes:
    """The reply of a command that returned `value`.

    Raises:
      ValueEncodingError: it cannot travel.
      ReplyTooLargeError: it is longer than `maximum_bytes`, which is at least five.
    """
    if type(value) is int and 0 <= value < 1 << 32:
        return _RETURNED_BYTE + dump_head(UNSIGNED, value)
    fault = find_fault(value, _REPLY_DEPTH)
    if fault is not None:
        raise ValueEncodingError("value" + fault)
    reply = _RETURNED_BYTE + dump(value)
    if len(reply) > maximum_bytes:
        raise ReplyTooLargeError(f"the reply has {len(reply)} bytes, more than {maximum_bytes}")
    return reply


def encode_raised(error: CommandError) -> bytes:
    """The reply of a command that raised `error`.

    Raises:
      ValueEncodingError: its fields cannot travel, or one was never set.
      ReplyTooLargeError: they are longer than a reply may be.
    """
    try:
        fields = fields_of(error)
    except AttributeError as missing:
        raise ValueEncodingError(f"a field was never set: {missing}") from missing
    reply = _reply(_Kind.RAISED, [type(error).__name__, fields])
    if len(reply) > MAXIMUM_REPLY_BYTES:
        raise ReplyTooLargeError(f"its fields take {len(reply)} bytes, more than {MAXIMUM_REPLY_BYTES}")
    return reply


def encode_failed(name: str) -> bytes:
    """The reply of a command that raised an exception of class `name`."""
    return _reply(_Kind.FAILED, name)


def encode_listed(replies: list[bytes]) -> bytes:
    """The reply of a list of commands that have these replies."""
    return _LISTED_BYTE + dump(replies)


def replies_of(reply: bytes, count: int) -> list[bytes]:
    """Of the reply to an entry with so many gathered commands, that of each; what befell all of them, for each.

    Raises:
      ValueDecodingError: it is neither.
    """
    if not reply.startswith((_LISTED_BYTE, _CUT_BYTE)):
        return [reply] * count
    value = decode_value(reply[1:], depth=1)
    if isinstance(value, list):
        replies = [each for each in value if isinstance(each, bytes)]
        if len(replies) == count and value == replies:
            return replies
    elif reply[0] == _Kind.CUT and isinstance(value, int) and 0 <= value <= count:
        return [REPLY_DROPPED_REPLY] * value + [NO_ROOM_REPLY] * (count - value)
    raise ValueDecodingError(f"the reply to {count} gathered commands does not hold theirs")


def what_is_left(reply: bytes) -> bytes:
    """What is recorded in the place of a large reply that has to make room: of gathered commands that were not
    executed it must still say so, for they are asked for again."""
    if reply.startswith(_LISTED_BYTE) and reply.endswith(NO_ROOM_REPLY):
        replies = decode_value(reply[1:], depth=1)
        if isinstance(replies, list) and replies[-1] == NO_ROOM_REPLY:
            return _CUT_BYTE + dump(replies.index(NO_ROOM_REPLY))
    return REPLY_DROPPED_REPLY


def is_listed(reply: bytes) -> bool:
    """Whether this is the reply to several commands."""
    return reply.startswith(_LISTED_BYTE)


def is_cut(reply: bytes) -> bool:
    """Whether this is what is left of a reply."""
    return reply == REPLY_DROPPED_REPLY or reply.startswith(_CUT_BYTE)


def encode_outcome(outcome: Outcome) -> bytes:
    """The reply that says `outcome`."""
    match outcome:
        case Returned(value):
            return encode_returned(value)
        case Raised(name, fields):
            return _reply(_Kind.RAISED, [name, fields])
        case Failed(name):
            return encode_failed(name)
        case NotExecuted(reason):
            return _reply(_Kind.NOT_EXECUTED, int(reason))
        case Unknown(reason):
            return _reply(_Kind.UNKNOWN, int(reason))
        case Listed(outcomes):
            return encode_listed([encode_outcome(member) for member in outcomes])
        case _:
            assert_never(outcome)


def decode_outcome(reply: bytes) -> Outcome:
    """Read back what `encode_outcome` wrote.

    Raises:
      ValueDecodingError: it is something else. Nothing else is raised, whatever the bytes.
    """
    kind = reply[0] if reply else -1
    value = decode_value(reply[1:], depth=_REPLY_DEPTH)
    if kind == _Kind.RETURNED:  # as nearly all: the patterns below take as long as to decode it
        return Returned(value)
    match kind, value:
        case _Kind.UNKNOWN, int(number) if number in _UNKNOWN_NUMBERS and value is not True:
            return Unknown(UnknownReason(number))
        case _Kind.LISTED, list(replies):
            return Listed(_decode_members(replies))
        case _:
            return _member(kind, value)


def _decode_members(replies: list[Value]) -> list[Member]:
    """The outcomes of a list of commands. A list within it is refused before it is looked into."""
    kinds, encodings = [], []
    for reply in replies:
        if not isinstance(reply, bytes) or not reply or reply[0] > _Kind.NOT_EXECUTED:
            raise ValueDecodingError("the reply to a list of commands holds something else than their replies")
        kinds.append(reply[0])
        encodings.append(reply[1:])
    values = decode_each(encodings, depth=_REPLY_DEPTH)
    if values is None:
        values = [decode_value(encoding, depth=_REPLY_DEPTH) for encoding in encodings]
    return [_member(kind, value) if kind else Returned(value) for kind, value in zip(kinds, values, strict=True)]


def _member(kind: int, value: Value) -> Member:
    match kind, value:
        case _Kind.RETURNED, _:
            return Returned(value)
        case _Kind.RAISED, [str(name), dict(fields)]:
            return Raised(name, fields)
        case _Kind.FAILED, str(name):
            return Failed(name)
        case _Kind.NOT_EXECUTED, int(number) if number in _NOT_EXECUTED_NUMBERS and value is not True:
            return NotExecuted(NotExecutedReason(number))
        case _:
            raise ValueDecodingError(f"a reply of kind {kind} does not hold a {type(value).__name__} like this")


def unwrap(outcome: Outcome, machine_class: type[StateMachine]) -> Value | Results:
    """The value a command returned; of a list of commands, for each its value, or the exception below, not raised.

    Raises:
      CommandError: the command raised it: of the class that `machine_class` knows by that name, else a
        RemoteCommandError.
      CommandFailedError: the command raised something else.
      NotExecutedError: it was certainly not executed.
      OutcomeUnknownError: it may have been; a SessionExpiredError where that is the cause.
    """
    match outcome:
        case Returned(value):
            return value
        case Listed(outcomes):
            return _unwrap_each(outcomes, machine_class)
        case Unknown(UnknownReason.EXPIRED):
            raise SessionExpiredError
        case Unknown(reason):
            raise OutcomeUnknownError(reason)
        case _:
            raise _error_of(outcome, known_errors(machine_class))


def result_of(reply: bytes, machine_class: type[StateMachine]) -> Value | Results:
    """What a reply comes to for the caller: as `unwrap` of what `decode_outcome` gives, and with their errors."""
    if reply.startswith(_RETURNED_BYTE):  # as nearly all
        return decode_value(reply[1:], depth=_REPLY_DEPTH)
    return unwrap(decode_outcome(reply), machine_class)


def _unwrap_each(outcomes: list[Member], machine_class: type[StateMachine]) -> Results:
    # All modules of a machine are searched for its errors: once, however many commands raised one.
    known = list(known_errors(machine_class)) if any(type(member) is Raised for member in outcomes) else []
    return [member.value if isinstance(member, Returned) else _error_of(member, known) for member in outcomes]


def _error_of(outcome: Raised | Failed | NotExecuted, known: Iterable[type[CommandError]]) -> Exception:
    match outcome:
        case Raised(name, fields):
            return _rebuild(name, fields, known)
        case Failed(name):
            return CommandFailedError(name)
        case NotExecuted(reason):
            return NotExecutedError(reason)
        case _:
            assert_never(outcome)


_NOT_EXECUTED_NUMBERS = frozenset(map(int, NotExecutedReason))
_UNKNOWN_NUMBERS = frozenset(map(int, UnknownReason))


def _reply(kind: int, value: object) -> bytes:
    return bytes([kind]) + encode_value(value, depth=_REPLY_DEPTH)


def _rebuild(name: str, fields: dict[str, Value], known: Iterable[type[CommandError]]) -> CommandError:
    remote = RemoteCommandError(name, dict(fields))
    for error_class in known:
        if error_class.__name__ == name:
            try:
                return error_class(**fields)
            except Exception as refusal:  # noqa: BLE001  # theirs, from `__post_init__`: it is not what became of the call
                # Other fields than ours, or values: the replicas run another version of the machine. Without our own
                # frame, which refers to what refers to it.
                own = refusal.__traceback__
                remote.__cause__ = refusal.with_traceback(own and own.tb_next)
                return remote
    remote.add_note(
        f"the caller's state machine knows no CommandError named {name}: its class lists in `errors` what is neither "
        "defined in nor imported into its module"
    )
    return remote


def known_errors(machine_class: type[StateMachine]) -> Iterator[type[CommandError]]:
    """Those that a caller with this class knows; of several with one name, the first counts."""
    yield from machine_class.errors
    for base in machine_class.__mro__:
        module = sys.modules.get(base.__module__)
        for scope in (vars(base), vars(module) if module is not None else {}):
            for value in list(scope.values()):
                if isinstance(value, type) and issubclass(value, CommandError):
                    yield value


EXPIRED_REPLY = encode_outcome(Unknown(UnknownReason.EXPIRED))
STALE_REPLY = encode_outcome(Unknown(UnknownReason.STALE))
BEYOND_WINDOW_REPLY = encode_outcome(Unknown(UnknownReason.BEYOND_WINDOW))
REPLY_DROPPED_REPLY = encode_outcome(Unknown(UnknownReason.REPLY_DROPPED))
UNKNOWN_COMMAND_REPLY = encode_outcome(NotExecuted(NotExecutedReason.UNKNOWN_COMMAND))
MALFORMED_REPLY = encode_outcome(NotExecuted(NotExecutedReason.MALFORMED))
WRONG_ARGUMENTS_REPLY = encode_outcome(NotExecuted(NotExecutedReason.WRONG_ARGUMENTS))
NO_ROOM_REPLY = encode_outcome(NotExecuted(NotExecutedReason.NO_ROOM))
TOO_LARGE_REPLY = encode_failed(ReplyTooLargeError.__name__)
NOTHING_REPLY = encode_outcome(Returned(None))
