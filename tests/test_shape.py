"""The shape of the code: files that a reader can hold, functions that fit a screen, packages that load alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ("vsr", "raft", "statemachine", "transport", "viewstamp")
MOST_FILE_LINES = 700
MOST_LIBRARY_FILE_LINES = 400
MOST_FUNCTION_LINES = 70

# Library files that may be longer than 400 lines, each with the reason why it is better whole.
LONGER: dict[str, str] = {}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


LIBRARY_SOURCES = sources(*LIBRARY)
ALL_SOURCES = LIBRARY_SOURCES + sources("tests", "bench")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"), name_of(path))))


def long_functions(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                yield f"{name_of(path)}:{node.lineno} {node.name}: {lines} lines"


def bare_asserts(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Assert):
            yield f"{name_of(path)}:{node.lineno}"


def test_there_is_something_to_look_at() -> None:
    assert {name_of(path).partition("/")[0] for path in LIBRARY_SOURCES} >= {"vsr", "raft", "statemachine", "viewstamp"}


def test_no_source_file_outgrows_its_readers() -> None:
    assert [f"{name_of(path)}: {line_count(path)}" for path in ALL_SOURCES if line_count(path) > MOST_FILE_LINES] == []


def test_library_files_are_short_or_say_why_not() -> None:
    long = {name_of(path): line_count(path) for path in LIBRARY_SOURCES if line_count(path) > MOST_LIBRARY_FILE_LINES}
    assert {name: lines for name, lines in long.items() if name not in LONGER} == {}
    assert [name for name in LONGER if name not in long] == [], "listed as long, but short by now"
    assert all(LONGER.values())


def test_functions_fit_a_screen() -> None:
    assert [line for path in ALL_SOURCES for line in long_functions(path)] == []


def test_the_library_has_no_bare_assert() -> None:
    # `python -O` drops them: an invariant would silently stop being checked. The library uses `check` instead.
    assert [line for path in LIBRARY_SOURCES for line in bare_asserts(path)] == []


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_protocol_loads_alone(protocol: str, tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {protocol}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert f"{protocol}.messages" in loaded
    assert loaded & {"trio", "cbor2", "socket", "asyncio", "viewstamp.journal", "transport", "statemachine"} == set()
