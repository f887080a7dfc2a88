"""What clients asked and were told: a history, one operation a line, kept in JSON lines.

One JSON object per line, with exactly these names, in this order when written:

    {"client": int, "op": "get|put|append|cas|delete|add|read", "key": str, "arg": any, "arg2": any,
     "call": ns, "ret": ns or null, "out": any, "ok": true|false|null}

`call` and `ret` are nanoseconds of one clock that all clients of the history share. `ok` is true where the client was
told the result, `out`; false where the operation was certainly not executed; null where the outcome is unknown: it may
take effect at any time after `call`, or never, whatever `ret` (when the client gave up) says.

By `op`: get, delete and read have no argument; put and append have the value in `arg`; cas has the expected value in
`arg` (null: no value) and the new one in `arg2`; add has the amount in `arg`. `out` is what the operation returned, as
it is: `{"value": any, "version": int}` or null from get. A command that raised has the name of what it raised,
`{"error": str}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Literal, NoReturn, get_args

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A value that JSON keeps as it is; no NaN, no infinity."""

OperationName = Literal["get", "put", "append", "cas", "delete", "add", "read"]
_NAMES = frozenset(get_args(OperationName))
_WITHOUT_ARGUMENT = frozenset({"get", "delete", "read"})


class HistoryError(ValueError):
    """An operation, or a line of a history file, does not have the form of one."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as its client saw it; the fields are those of a line in a history file.

    Raises:
      HistoryError: a field is not of its form, or does not go with the others.
    """

    client: int
    op: OperationName
    key: str
    arg: Json
    arg2: Json
    call: int
    ret: int | None
    out: Json
    ok: bool | None

    def __post_init__(self) -> None:
        reason = _fault(self)
        if reason:
            raise HistoryError(reason)

    def __str__(self) -> str:
        given = [_text(value) for value in _given(self)]
        match self.ok:
            case True:
                result = f"returned {_text(self.out)}"
            case False:
                result = "was not executed"
            case None:
                result = "has an unknown outcome"
        end = "" if self.ret is None else f"{self.ret}"
        return (
            f"client {self.client} {self.op}({', '.join([_text(self.key), *given])}) {result} [{self.call}..{end} ns]"
        )


_FIELDS = tuple(field.name for field in fields(Operation))


def write_history(path: str | PathLike[str], operations: Iterable[Operation]) -> None:
    """Write a history file; one that exists is replaced.

    Raises:
      OSError: the file cannot be written.
    """
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(encode_operation(operation) + "\n" for operation in operations)


def encode_operation(operation: Operation) -> str:
    """One line of a history file, without its end."""
    record = {name: getattr(operation, name) for name in _FIELDS}
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def read_history(path: str | PathLike[str]) -> list[Operation]:
    """The operations of a history file, in its order.

    Raises:
      HistoryError: a line is no operation; the text begins with file and line number, as in "run.jsonl:7: ".
      OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return [_read_line(line, f"{path}:{number}: ") for number, line in enumerate(file, 1)]


def _read_line(line: bytes, where: str) -> Operation:
    try:
        return decode_operation(line.decode())
    except UnicodeDecodeError as error:
        raise HistoryError(f"{where}not UTF-8: {error.reason} at byte {error.start}") from None
    except HistoryError as error:
        raise HistoryError(f"{where}{error}") from None


def decode_operation(line: str) -> Operation:
    """The operation in one line of a history file.

    Raises:
      HistoryError: it is none.
    """
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise HistoryError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise HistoryError("nested too deeply") from None
    if not isinstance(record, dict):
        raise HistoryError(f"an object was expected, not {_text(record)}")
    missing = [name for name in _FIELDS if name not in record]
    if missing:
        raise HistoryError(f"without {', '.join(missing)}")
    unknown = [name for name in record if name not in _FIELDS]
    if unknown:
        raise HistoryError(f"with names that no operation has: {', '.join(unknown)}")
    return Operation(**record)


def _refuse_constant(name: str) -> NoReturn:
    raise HistoryError(f"{name} is no JSON")


def _fault(operation: Operation) -> str:
    """Why this is no operation; empty if it is one."""
    for name, (expected, holds) in _FORMS.items():
        if not holds(getattr(operation, name)):
            return f"{name} must be {expected}, not {getattr(operation, name)!r}"
    if operation.ret is not None and operation.ret < operation.call:
        return f"ret {operation.ret} is before call {operation.call}"
    if operation.ok and operation.ret is None:
        return "ok is true, so ret must say when"
    if not operation.ok and operation.out is not None:
        return "out is known only where ok is true"
    return _argument_fault(operation)


def _argument_fault(operation: Operation) -> str:
    name, arg, arg2 = operation.op, operation.arg, operation.arg2
    if name in _WITHOUT_ARGUMENT and arg is not None:
        return f"{name} has no arg"
    if name != "cas" and arg2 is not None:
        return f"{name} has no arg2"
    if name == "add" and type(arg) is not int:
        return "add has an integer as arg"
    if (name in ("put", "append") and arg is None) or (name == "cas" and arg2 is None):
        return f"{name} has a value to write, which is not null"
    return ""


def _is_json(value: object) -> bool:
    if value is None or isinstance(value, bool | int | str):
        return True
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, list):
        return all(map(_is_json, value))
    return isinstance(value, dict) and all(isinstance(key, str) and _is_json(part) for key, part in value.items())


def _is_time(value: object) -> bool:
    return type(value) is int and value >= 0


_FORMS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "client": ("an integer from 0", _is_time),
    "op": (f"one of {', '.join(get_args(OperationName))}", lambda value: isinstance(value, str) and value in _NAMES),
    "key": ("a text", lambda value: isinstance(value, str)),
    "arg": ("a JSON value", _is_json),
    "arg2": ("a JSON value", _is_json),
    "call": ("nanoseconds from 0", _is_time),
    "ret": ("nanoseconds from 0, or null", lambda value: value is None or _is_time(value)),
    "out": ("a JSON value", _is_json),
    "ok": ("true, false or null", lambda value: value is None or isinstance(value, bool)),
}


def _given(operation: Operation) -> tuple[Json, ...]:
    if operation.op in _WITHOUT_ARGUMENT:
        return ()
    return (operation.arg, operation.arg2) if operation.op == "cas" else (operation.arg,)


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)
