"""The base class of what is replicated."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from statemachine.command import Command, Operation, Query
from statemachine.context import Context
from statemachine.errors import CommandError, DefinitionError, SnapshotError
from statemachine.plain_state import decode_state, encode_state

_RESERVED = frozenset({"context", "errors", "restore", "snapshot"})


class _Namespace(dict[str, object]):
    """A class body that notices a second command of the same name, which would silently replace the first."""

    def __setitem__(self, name: str, value: object) -> None:
        if isinstance(self.get(name), Operation):
            raise DefinitionError(f"{name} is defined twice, and the first is a {_kind(self[name])}")
        super().__setitem__(name, value)


class _MachineType(ABCMeta):
    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **options: Any) -> _Namespace:
        return _Namespace()


class StateMachine(metaclass=_MachineType):
    """What is replicated: a plain class with `@command` and `@query` methods, kept equal on every replica.

    A replica makes it with no arguments. Commands run one at a time, in the same order everywhere. State lives in
    the instance's attributes; unless `snapshot` and `restore` are overridden, they must be of types that
    survive a snapshot unchanged (None, bool, int, float, str, bytes, list, dict).

    A class that misuses the decorators, or `errors`, raises DefinitionError where it is defined.
    """

    # The context is no state: outside of __dict__ it stays out of snapshots and copies.
    __slots__ = ("__dict__", "__weakref__", "_context")
    _context: Context

    errors: ClassVar[tuple[type[CommandError], ...]] = ()
    """The errors that commands raise, for callers. Those defined in, or imported into, a machine's own module, or
    within the class, are found without being listed."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        inherited = {name: value for base in reversed(cls.__mro__[1:]) for name, value in _own_operations(base).items()}
        for attribute, value in vars(cls).items():
            _check_attribute(cls.__name__, attribute, value, inherited.get(attribute))
        _check_errors(cls.__name__, cls.errors)

    @property
    def context(self) -> Context:
        """The agreed time, randomness and place of the running command."""
        try:
            return self._context
        except AttributeError:
            # A subclass need not call our __init__; nor does a machine in a direct test have an executor.
            self._context = Context()
            return self._context

    @context.setter
    def context(self, context: Context) -> None:
        self._context = context

    def snapshot(self) -> bytes | Iterator[bytes]:
        """The whole state, as bytes or in chunks.

        What is returned must stay as it was at this call while commands go on. A generator is run to its first
        yield at once, and should have captured its state by then.

        Raises:
          SnapshotError: an attribute's type cannot be encoded; the message names it.
        """
        owner = type(self)
        for base in owner.__mro__:
            if base is not StateMachine and vars(base).get("__slots__"):
                raise SnapshotError(
                    f"{base.__name__} has __slots__, so {owner.__name__} must override snapshot() and restore()"
                )
        return encode_state(owner.__name__, vars(self))

    def restore(self, chunks: Iterator[bytes]) -> None:
        """Replace the whole state by that of a snapshot.

        `chunks` are those that `snapshot` gave, the same ones but for empty ones; bytes are one chunk. All must be
        consumed.

        Raises:
          SnapshotError: it is not what `snapshot` of this class gives.
        """
        attributes = _plain_state(type(self), chunks)
        vars(self).clear()
        vars(self).update(attributes)


def commands_of(machine_class: type[StateMachine]) -> Mapping[str, Command[..., Any]]:
    """The commands of a machine by name, inherited ones included."""
    return {name: value for name, value in _operations(machine_class).items() if isinstance(value, Command)}


def queries_of(machine_class: type[StateMachine]) -> Mapping[str, Query[..., Any]]:
    """The queries of a machine by name, inherited ones included."""
    return {name: value for name, value in _operations(machine_class).items() if isinstance(value, Query)}


def _operations(machine_class: type[StateMachine]) -> dict[str, Operation[..., Any]]:
    return {name: value for base in reversed(machine_class.__mro__) for name, value in _own_operations(base).items()}


def _own_operations(base: type) -> dict[str, Operation[..., Any]]:
    return {name: value for name, value in vars(base).items() if isinstance(value, Operation)}


def _plain_state(owner: type[StateMachine], chunks: Iterable[bytes]) -> dict[str, object]:
    try:
        return decode_state(owner.__name__, b"".join(chunks))
    except SnapshotError as error:
        if owner.snapshot is StateMachine.snapshot or owner.restore is not StateMachine.restore:
            raise
        raise SnapshotError(f"{owner.__name__} overrides snapshot() and not restore(): {error}") from error


def _kind(value: object) -> str:
    return value.kind if isinstance(value, Operation) else type(value).__name__


def _check_attribute(owner: str, attribute: str, value: object, inherited: Operation[..., Any] | None) -> None:
    if isinstance(value, Operation):
        if attribute.startswith("_"):
            raise DefinitionError(f"{owner}.{attribute}: a {value.kind} is called from outside and cannot be private")
        if attribute in _RESERVED:
            raise DefinitionError(f"{owner}.{attribute}: this name means something else for every state machine")
        if attribute != value.name:
            # It travels by one name; under another it would be a different command after a rename of one of them.
            raise DefinitionError(f"{owner}.{attribute}: is {value.kind} {value.name} under a second name")
    if inherited is not None and _kind(value) != inherited.kind:
        raise DefinitionError(f"{owner}.{attribute}: hides the inherited {inherited.kind} of this name")


def _check_errors(owner: str, errors: object) -> None:
    """What is wrong with it would show in a caller's TypeError, after the command was executed."""
    if not isinstance(errors, (tuple, list)) or not all(
        isinstance(each, type) and issubclass(each, CommandError) for each in errors
    ):
        raise DefinitionError(f"{owner}.errors: a tuple of CommandError classes is wanted, not {errors!r}")
