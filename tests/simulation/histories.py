"""Histories in short, for tests: who did what from when to when, with what result."""

from __future__ import annotations

from viewstamp.simulation.history import Json, Operation, OperationName


def did(
    client: int,
    call: int,
    ret: int | None,
    op: OperationName,
    arg: Json = None,
    arg2: Json = None,
    *,
    out: Json = None,
    key: str = "k",
    ok: bool | None = True,
) -> Operation:
    """An operation with a known result, unless `ok` says otherwise."""
    return Operation(client, op, key, arg, arg2, call, ret, out, ok)


def unknown(
    client: int, call: int, op: OperationName, arg: Json = None, arg2: Json = None, *, key: str = "k"
) -> Operation:
    """An operation of unknown outcome."""
    return Operation(client, op, key, arg, arg2, call, None, None, None)


def versioned(value: Json, version: int) -> Json:
    """What get returns."""
    return {"value": value, "version": version}
