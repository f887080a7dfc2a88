"""What can go wrong around a state machine, as the types a caller catches."""

from __future__ import annotations

import dataclasses
import inspect
from enum import IntEnum
from typing import Any, dataclass_transform

# Of BaseException's own attributes: `args` of "abc" would arrive as a list of letters.
_TAKEN = frozenset({"add_note", "args", "with_traceback"})


class DefinitionError(TypeError):
    """A state machine class is written in a way that cannot be replicated, or an error in one that cannot travel."""


class ValueEncodingError(ValueError):
    """A value cannot travel: the message says which part of it, and why."""


class ValueDecodingError(ValueError):
    """Bytes are not the one canonical encoding of a value."""


class CommandTooLargeError(ValueError):
    """A command with its arguments is larger than a log entry may be; nothing was sent."""


class ReplyTooLargeError(ValueError):
    """What a command returned is larger than a reply may be. The command was executed."""


class NoContextError(RuntimeError):
    """The agreed time, seed and place of an entry were asked for while no command runs."""


class ApplyOrderError(RuntimeError):
    """An entry was applied out of order; op-numbers are applied consecutively, each once."""


class SnapshotError(ValueError):
    """A snapshot cannot be taken of this state, or what is restored is not a whole and matching snapshot."""


def _made(kind: type[Exception], args: tuple[object, ...]) -> Exception:
    return kind.__new__(kind, *args)


class _TravellingError(Exception):
    """Can be copied and pickled. An exception that cannot breaks the pool of processes that one of its workers raised
    it in; and Python would call `__init__` with `args`, which is not what this one was made with.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _made, (type(self), self.args), vars(self).copy()


@dataclass_transform(eq_default=False)
@dataclasses.dataclass(eq=False, repr=False)
class CommandError(_TravellingError):
    """Base of the errors that a command raises on purpose, for its caller.

    A subclass declares its fields as annotations and is made a dataclass by that alone:

        class InsufficientFunds(CommandError):
            balance: int

    The fields must be values (see `encode_value`); they are recorded as the command's reply on every replica and
    the caller gets the same class with equal fields, tuples arriving as lists. What a command changed before it
    raised stays changed, unless it is declared atomic.

    A class that cannot be made anew with its fields by name, such as one with an `__init__` that takes others, raises
    DefinitionError where it is defined.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Exceptions are hashed by those who group and chain them, so equality stays identity.
        dataclasses.dataclass(eq=False, repr=False)(cls)
        _check_fields(cls)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in fields_of(self).items())

    def __repr__(self) -> str:
        names = [field.name for field in dataclasses.fields(self) if hasattr(self, field.name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def fields_of(error: CommandError) -> dict[str, object]:
    """The declared fields of an error, by name."""
    return {field.name: getattr(error, field.name) for field in dataclasses.fields(error)}


def _check_fields(kind: type[CommandError]) -> None:
    """What is wrong with them would show at callers alone, who would get a RemoteCommandError instead."""
    names = [field.name for field in dataclasses.fields(kind)]
    for name in names:
        if name in _TAKEN:
            raise DefinitionError(f"{kind.__qualname__}.{name}: every exception has something else of this name")
    try:
        signature = inspect.signature(kind)
    except (ValueError, NameError):
        return  # Written in C, or with annotations that cannot be looked up: there is none to look at.
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        fields = f"its fields ({', '.join(names)})" if names else "its fields, of which it declares none"
        raise DefinitionError(
            f"{kind.__qualname__} cannot be made for callers from {fields}: {error}. Declare what it carries as "
            "annotations of the class, and leave out __init__"
        ) from error


class RemoteCommandError(CommandError):
    """A command raised a `CommandError` whose class the caller's machine does not know, or knows differently.

    What that class said when it was to be made of these fields is its cause.
    """

    name: str
    fields: dict[str, Any]


class CommandFailedError(Exception):
    """A command raised something that is no `CommandError`: a defect of the machine. It was executed up to there,
    equally on every replica, and what it had changed stays changed unless it is atomic.

    Only the class name is told: messages can hold addresses, which differ between replicas. Each logs the rest.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NotExecutedReason(IntEnum):
    """Why a command was certainly not executed and never will be under its request number."""

    UNKNOWN_COMMAND = 1
    """The machine has no command (or query) of this name."""
    MALFORMED = 2
    """The body is not a command."""
    WRONG_ARGUMENTS = 3
    """Too few or too many arguments for the command."""
    NO_ROOM = 4
    """The replies of the commands that it was gathered with left no room for its own. Its session sends it again, under
    another number: no caller sees this."""


class UnknownReason(IntEnum):
    """Why the reply of a request cannot be told. Each says nothing about whether it was executed."""

    EXPIRED = 1
    """The session does not exist (any more). Requests in flight may have been executed before it expired."""
    STALE = 2
    """The request is at or below the client's own low-water mark: answered or given up, its reply is gone. It will
    not be executed from here on."""
    BEYOND_WINDOW = 3
    """The request is further above the mark than the window allows. This copy was not executed, another copy that
    arrives after the mark has risen may be. A client that keeps to its window never sees this."""
    REPLY_DROPPED = 4
    """The request was executed, once; its reply was dropped because too many large ones were held. It was large, or
    had come in one with those of other calls of its client."""
    CLOSED = 5
    """The caller's own client or replica was closed before there was an answer; never in a recorded reply."""


class NotExecutedError(_TravellingError):
    """The command was certainly not executed, and will not be."""

    def __init__(self, reason: NotExecutedReason) -> None:
        super().__init__(reason.name.lower().replace("_", " "))
        self.reason = reason


class OutcomeUnknownError(_TravellingError):
    """The command may or may not have been executed, and what it returned cannot be told.

    Where `sent` is False it has never been sent to anybody: it was certainly not executed, and will not be.
    """

    def __init__(self, reason: UnknownReason, *, sent: bool = True) -> None:
        super().__init__(
            f"{'outcome unknown' if sent else 'nothing was sent'}: {reason.name.lower().replace('_', ' ')}"
        )
        self.reason = reason
        self.sent = sent


class SessionExpiredError(OutcomeUnknownError):
    """The client's session is gone: calls in flight have an unknown outcome, and a new session must be opened.

    Never done silently, as a request repeated under a new session could be executed twice (Ongaro's
    dissertation, section 6.3).
    """

    def __init__(self, *, sent: bool = True) -> None:
        super().__init__(UnknownReason.EXPIRED, sent=sent)
