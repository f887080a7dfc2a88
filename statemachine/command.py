"""Commands and queries: typed handles on the methods of a state machine, and their encoding.

A command travels by name with positional arguments: canonical CBOR of [name, *arguments]. Several commands in one
entry are an array of byte strings, each the encoding of one command: a list that one caller made, or, with a null in
front, what several callers of one session asked for at the same time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

from statemachine.errors import CommandTooLargeError, DefinitionError, ValueDecodingError, ValueEncodingError
from statemachine.values import ARRAY, MAXIMUM_DEPTH, Value, decode_each, decode_value, dump, dump_head, find_fault

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MAXIMUM_COMMAND_BYTES = 1024 * 1024
MAXIMUM_COMMANDS = 1 << 16
"""How many commands a list may hold: as many of the smallest ones as fit into 256 KiB. They run in one go."""
MAXIMUM_GATHERED = 64
"""How many commands of several callers may travel together."""
UNBOUNDED = 1 << 30
_BODY_DEPTH = MAXIMUM_DEPTH + 1


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
    return _encode(name, dump(name), arguments, maximum_bytes)


def _encode(name: str, encoded_name: bytes, arguments: Sequence[object], maximum_bytes: int) -> bytes:
    parts = [dump_head(ARRAY, 1 + len(arguments)), encoded_name]
    for number, argument in enumerate(arguments, 1):
        fault = find_fault(argument, MAXIMUM_DEPTH)
        if fault is not None:
            raise ValueEncodingError(f"{name}: argument {number}{fault}")
        parts.append(dump(argument))
    body = b"".join(parts)
    if len(body) > maximum_bytes:
        raise CommandTooLargeError(f"{name} with its arguments is {len(body)} bytes, more than {maximum_bytes}")
    return body


class BoundCommand(bytes, Generic[R_co]):
    """The encoding of a command with its arguments, as `bind` gives it; `R_co` is what the command returns.

    It is there for types alone: at run time these are plain bytes.
    """

    __slots__ = ()


def encode_list(commands: Sequence[bytes], maximum_bytes: int = MAXIMUM_COMMAND_BYTES) -> bytes:
    """The body of an entry that holds at least one of these commands, each as `encode_command` gives it.

    Raises:
      CommandTooLargeError: the body would be longer than `maximum_bytes`, or they are more than MAXIMUM_COMMANDS.
    """
    body = dump(commands)
    if len(commands) > MAXIMUM_COMMANDS or len(body) > maximum_bytes:
        raise CommandTooLargeError(
            f"a list of {len(commands)} commands of {len(body)} bytes together; there is room for at most "
            f"{MAXIMUM_COMMANDS} commands and {maximum_bytes} bytes"
        )
    return body


def encode_gathered(commands: Sequence[bytes]) -> bytes:
    """The body of an entry that holds these commands of several callers, two at least, MAXIMUM_GATHERED at most."""
    return dump([None, *commands])


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
    parts = decode_body(body)
    if type(parts[0]) is str:
        return parts
    raise ValueDecodingError("a list of commands, where one command is expected")


def decode_list(body: bytes) -> list[bytes]:
    """Read back what `encode_list` or `encode_gathered` wrote; what each of them is has not been looked at.

    Raises:
      ValueDecodingError: it is something else. Nothing else is raised, whatever the bytes.
    """
    parts = decode_body(body)
    if type(parts[0]) is bytes:
        return parts
    if parts[0] is None:
        return parts[1:]
    raise ValueDecodingError("one command, where a list of them is expected")


def decode_body(body: bytes) -> list[Any]:
    """As `decode_parts`, or of several commands the encodings, a list of bytes, None in front of it where they were
    gathered. It is never empty.

    Raises:
      ValueDecodingError: it is neither. Nothing else is raised, whatever the bytes.
    """
    parts = _parts_of(decode_value(body, depth=_BODY_DEPTH))
    if parts is None:
        raise ValueDecodingError("a command is a list that begins with its name")
    return parts


def decode_each_body(bodies: list[bytes]) -> list[list[Any] | None]:
    """What `decode_body` gives for each of these, in half the time; None where it raises."""
    values = decode_each(bodies, depth=_BODY_DEPTH) if len(bodies) > 1 else None
    return [*map(_decode_or_none, bodies)] if values is None else [*map(_parts_of, values)]


def decode_each_command(encodings: list[bytes]) -> list[list[Any] | None]:
    """The name and the arguments of each of these commands; None for what is no command, such as a list of them."""
    return [parts if parts and type(parts[0]) is str else None for parts in decode_each_body(encodings)]


def _decode_or_none(body: bytes) -> list[Any] | None:
    try:
        return decode_body(body)
    except ValueDecodingError:
        return None


def _parts_of(body: Value) -> list[Any] | None:
    if type(body) is list and body:
        first = type(body[0])
        if first is str or (first is bytes and len(body) <= MAXIMUM_COMMANDS and set(map(type, body)) == {bytes}):
            return body
        if body[0] is None and 1 < len(body) <= 1 + MAXIMUM_GATHERED and set(map(type, body[1:])) == {bytes}:
            return body
    return None


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
        self._encoded_name = dump(self.name)
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
        arguments: tuple[object, ...] = args
        if kwargs or not self.minimum <= len(args) <= self.maximum:
            arguments = self._positional(args, kwargs)
        return _encode(self.name, self._encoded_name, arguments, MAXIMUM_COMMAND_BYTES)

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

    if TYPE_CHECKING:  # only the type of the result differs

        def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundCommand[R_co]: ...


class Query(Operation[P, R_co]):
    """A method that only reads the machine: linearizable, and never in the log. Made by `@query`."""

    kind = "query"


@overload
def command(function: Callable[Concatenate[Any, P], R], /) -> Command[P, R]: ...
@overload
def command(*, atomic: bool = ...) -> Callable[[Callable[Concatenate[Any, P], R]], Command[P, R]]: ...
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
