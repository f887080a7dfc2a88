"""Commands and queries: typed handles on the methods of a state machine, and their encoding.

A command travels by name with positional arguments: canonical CBOR of [name, *arguments]. A list of lists, for
several commands in one entry, is reserved and refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

from statemachine.errors import CommandTooLargeError, DefinitionError, ValueDecodingError, ValueEncodingError
from statemachine.values import MAXIMUM_DEPTH, Value, decode_value, dump, find_fault

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MAXIMUM_COMMAND_BYTES = 1024 * 1024
UNBOUNDED = 1 << 30


class Call(NamedTuple):
    """A decoded command or query body."""

    name: str
    arguments: list[Value]


def encode_command(name: str, arguments: Sequence[object], maximum_bytes: int = MAXIMUM_COMMAND_BYTES) -> bytes:
    """The body of an entry that calls command `name`.

    Raises:
      ValueEncodingError: an argument cannot travel.
      CommandTooLargeError: the body would be longer than `maximum_bytes`.
    """
    for index, argument in enumerate(arguments):
        fault = find_fault(argument, MAXIMUM_DEPTH)
        if fault is not None:
            raise ValueEncodingError(f"{name}: argument {index + 1}{fault}")
    body = dump([name, *arguments])
    if len(body) > maximum_bytes:
        raise CommandTooLargeError(f"{name} with its arguments is {len(body)} bytes, more than {maximum_bytes}")
    return body


def decode_command(body: bytes) -> Call:
    """Read back what `encode_command` wrote.

    Raises:
      ValueDecodingError: it is something else. Nothing else is raised, whatever the bytes.
    """
    name, *arguments = decode_parts(body)
    return Call(name, arguments)


def decode_parts(body: bytes) -> list[Any]:
    """The name of a command and its arguments, in one list.

    Raises:
      ValueDecodingError: as `decode_command` does.
    """
    parts = decode_value(body, depth=MAXIMUM_DEPTH + 1)
    if type(parts) is list and parts and type(parts[0]) is str:
        return parts
    raise ValueDecodingError("a command is a list that begins with its name")


class Operation(Generic[P, R_co]):
    """A method of a state machine that can be asked for from afar: a `Command` or a `Query`.

    On the class (`Counter.add`) it is this object, which carries the parameters and the result in its type. On an
    instance (`counter.add`) it is the plain method, for direct tests.
    """

    kind = "operation"

    def __init__(self, function: Callable[Concatenate[Any, P], R_co]) -> None:
        self.function = function
        self.name: str = getattr(function, "__name__", "")
        self.__doc__ = function.__doc__
        self._signature = _checked_signature(self.kind, self.name, function)
        self.minimum, self.maximum = _arity(self._signature)

    def __repr__(self) -> str:
        return f"<{self.kind} {getattr(self.function, '__qualname__', self.name)}{self._signature}>"

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Callable[P, R_co]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Self | Callable[P, R_co]:
        if instance is None:
            return self
        bound: Callable[P, R_co] = self.function.__get__(instance, owner)
        return bound

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """Encode a call with these arguments; keywords become positions here, at the caller.

        Raises:
          TypeError: they do not fit the method's parameters.
          ValueEncodingError: one cannot travel.
          CommandTooLargeError: together they are longer than MAXIMUM_COMMAND_BYTES.
        """
        if kwargs or not self.minimum <= len(args) <= self.maximum:
            return encode_command(self.name, self._positional(args, kwargs))
        return encode_command(self.name, args)

    def _positional(self, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object, ...]:
        try:
            bound = self._signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        return bound.args[1:]


class Command(Operation[P, R_co]):
    """A method that changes the machine: ordered, replicated, executed exactly once. Made by `@command`.

    `atomic` means that what it changed is undone if it raises.
    """

    kind = "command"

    def __init__(self, function: Callable[Concatenate[Any, P], R_co], atomic: bool = False) -> None:
        super().__init__(function)
        self.atomic = atomic


class Query(Operation[P, R_co]):
    """A method that only reads the machine: linearizable, and never in the log. Made by `@query`."""

    kind = "query"


@overload
def command(function: Callable[Concatenate[Any, P], R], /) -> Command[P, R]: ...
@overload
def command(*, atomic: bool) -> Callable[[Callable[Concatenate[Any, P], R]], Command[P, R]]: ...
def command(function: Callable[..., Any] | None = None, /, *, atomic: bool = False) -> Any:
    """Make a method of a `StateMachine` a command.

    It must be deterministic: the same from the same state, arguments and `self.context`. Time, random numbers, the
    order of a set, `id()`, files and the network make replicas diverge.

    `@command(atomic=True)` copies the machine's attributes before each call and puts them back if it raises, at the
    price of that copy. Without it, what a command changed before it raised stays changed, equally everywhere.
    """
    if function is not None:
        return Command(function, atomic)
    return lambda function: Command(function, atomic)


def query(function: Callable[Concatenate[Any, P], R], /) -> Query[P, R]:
    """Make a method of a `StateMachine` a query. It must not change the machine, or replicas diverge."""
    return Query(function)


def _checked_signature(kind: str, name: str, function: Callable[..., object]) -> inspect.Signature:
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise DefinitionError(f"{kind} {name}: must be a plain function that returns its result at once")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise DefinitionError(f"@{kind} goes on a plain method, not on {function!r}") from None
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise DefinitionError(f"{kind} {name}: its first parameter must be self")
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
            raise DefinitionError(f"{kind} {name}: arguments travel by position, so {parameter} is not possible")
    return signature


def _arity(signature: inspect.Signature) -> tuple[int, int]:
    """The least and the most arguments, self not counted."""
    parameters = list(signature.parameters.values())[1:]
    positional = [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
    minimum = sum(1 for parameter in positional if parameter.default is inspect.Parameter.empty)
    return minimum, len(positional) if len(positional) == len(parameters) else UNBOUNDED
