"""The history format: what is written is read again as it was; what is no operation is refused, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.histories import did, unknown, versioned
from viewstamp.simulation.history import (
    HistoryError,
    Operation,
    decode_operation,
    encode_operation,
    read_history,
    write_history,
)

SAMPLE = [
    did(0, 10, 20, "put", "a", out=1),
    did(1, 12, 22, "get", out=versioned("a", 1)),
    did(1, 23, 24, "cas", "a", ["b", 1.5], out={"swapped": True, "version": 2}),
    did(2, 25, 30, "delete", out=True, key="ключ"),
    did(2, 31, None, "append", "x", ok=False),
    unknown(3, 40, "append", {"nested": [None, True]}),
    Operation(3, "put", "k", 1, None, 50, 60, None, None),
    did(4, 70, 70, "add", -3, out=-3),
    did(4, 71, 90, "read", out=0),
]

LINE: dict[str, Any] = {
    "client": 1,
    "op": "put",
    "key": "k",
    "arg": "v",
    "arg2": None,
    "call": 5,
    "ret": 9,
    "out": 3,
    "ok": True,
}


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_history(path, SAMPLE)
    assert read_history(path) == SAMPLE
    write_history(path, [])
    assert read_history(path) == []


def test_a_line_has_exactly_the_names_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_history(path, SAMPLE)
    for line in path.read_text(encoding="utf-8").splitlines():
        assert list(json.loads(line)) == ["client", "op", "key", "arg", "arg2", "call", "ret", "out", "ok"]
    assert json.loads(encode_operation(SAMPLE[0])) == {**LINE, "client": 0, "arg": "a", "call": 10, "ret": 20, "out": 1}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(_json.filter(lambda value: value is not None), _json, st.text())
def test_any_value_survives_the_file(arg: Any, out: Any, key: str) -> None:
    operation = did(0, 0, 1, "put", arg, out=out, key=key)
    line = encode_operation(operation)
    assert "\n" not in line
    assert decode_operation(line) == operation


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client": -1}, "client must be an integer from 0, not -1"),
        ({"client": True}, "client must be"),
        ({"op": "write"}, "op must be one of get, put"),
        ({"op": []}, "op must be one of"),
        ({"key": 1}, "key must be a text"),
        ({"call": 1.5}, "call must be nanoseconds"),
        ({"call": None}, "call must be nanoseconds"),
        ({"ret": "9"}, "ret must be nanoseconds"),
        ({"ok": 1}, "ok must be true, false or null"),
        ({"call": 10}, "ret 9 is before call 10"),
        ({"ret": None}, "ok is true, so ret must say when"),
        ({"ok": None}, "out is known only where ok is true"),
        ({"ok": False}, "out is known only where ok is true"),
        ({"op": "get"}, "get has no arg"),
        ({"arg2": 1}, "put has no arg2"),
        ({"arg": None}, "put has a value to write"),
        ({"op": "cas"}, "cas has a value to write"),
        ({"op": "add"}, "add has an integer"),
        ({"op": "add", "arg": True}, "add has an integer"),
    ],
)
def test_what_is_no_operation_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(HistoryError, match=said):
        decode_operation(json.dumps({**LINE, **change}))
    with pytest.raises(HistoryError, match=said):
        Operation(**{**LINE, **change})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1: 2}, [object()], {"deep": [float("inf")]}])
def test_what_json_cannot_keep_is_refused(value: Any) -> None:
    with pytest.raises(HistoryError, match="arg must be a JSON value"):
        Operation(**{**LINE, "arg": value})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "not JSON"),
        (b'{"client": 1, "op": "pu', "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "an object was expected"),
        (b"3", "an object was expected"),
        (b"[" * 100_000, "nested too deeply"),
        (json.dumps({**LINE, "arg": float("nan")}).encode(), "NaN is no JSON"),
        (json.dumps(LINE).replace('"v"', "1e999").encode(), "arg must be a JSON value"),
        (json.dumps({name: LINE[name] for name in LINE if name not in ("key", "ok")}).encode(), "without key, ok"),
        (json.dumps({**LINE, "time": 1}).encode(), "with names that no operation has: time"),
        (json.dumps({**LINE, "call": 10}).encode(), "ret 9 is before call 10"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(line: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b"\n" + line + b"\n")
    with pytest.raises(HistoryError, match=said) as caught:
        read_history(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_an_operation_reads_as_a_sentence() -> None:
    assert str(SAMPLE[0]) == 'client 0 put("k", "a") returned 1 [10..20 ns]'
    assert str(SAMPLE[4]) == 'client 2 append("k", "x") was not executed [31.. ns]'
    assert str(did(1, 3, 4, "cas", None, 2, out=False)) == 'client 1 cas("k", null, 2) returned false [3..4 ns]'
    assert str(unknown(3, 40, "delete")) == 'client 3 delete("k") has an unknown outcome [40.. ns]'
