"""Which rule is put back how, and what notices it: `python -m tests.simulation.corrections_table [--hunt]`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from re import MULTILINE, findall
from typing import Any

import pytest
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.simulation.corrections import Correction
from tests.simulation.corrections_body import BODY
from tests.simulation.corrections_found import FOUND, Found
from tests.simulation.corrections_raft import RAFT
from tests.simulation.corrections_shared import SHARED
from tests.simulation.corrections_vsr import VSR
from tests.simulation.corrections_vsr_recovery import RECOVERY
from tests.simulation.corrections_vsr_transfer import TRANSFER
from tests.simulation.stack_mutants import from_outside
from viewstamp.protocol import InvariantError
from viewstamp.simulation import core_fuzz
from viewstamp.simulation.core_fuzz import FuzzError
from viewstamp.simulation.rules import RULES
from viewstamp.simulation.run import run_seed
from viewstamp.simulation.scenario import ScenarioError, transcribe
from viewstamp.simulation.verdict import ViolationError

CORRECTIONS = (*VSR.entries, *RECOVERY.entries, *TRANSFER.entries, *RAFT.entries, *SHARED.entries, *BODY.entries)
_TESTS = Path(__file__).parents[1]
_FOLDERS = ("vsr", "raft", "protocol", "viewstamp", "statemachine", "simulation")
_FAILURES = (
    AssertionError,
    InvariantError,
    ScenarioError,
    ViolationError,
    LookupError,
    ValueError,
    pytest.fail.Exception,
)
"""What a test or scenario raises when a rule does not hold; anything else is a revert that does not fit the code."""
_FOUND_FILE = Path(__file__).with_name("corrections_found.py")


class StaleRevertError(Exception):
    """A revert does not fit the code any more: what fails is the revert."""


# Rule tests and scenarios.


@cache
def functions_called(name: str) -> tuple[Callable[..., object], ...]:
    """The test functions of this name, wherever they are."""
    return tuple(getattr(import_module(module), name) for module in _modules().get(name, ()))


@cache
def _modules() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for folder in _FOLDERS:
        for path in sorted((_TESTS / folder).glob("test_*.py")):
            for name in findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), MULTILINE):
                found.setdefault(name, []).append(f"tests.{folder}.{path.stem}")
    return found


def _cases(function: Any) -> Iterator[dict[str, object]]:
    """The arguments with which pytest would call it."""
    marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
    sets: list[list[dict[str, object]]] = []
    for mark in marks:
        names = [each.strip() for each in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
        values = [getattr(each, "values", each if len(names) > 1 else (each,)) for each in mark.args[1]]
        sets.append([dict(zip(names, each, strict=True)) for each in values])
    for combination in product(*sets):
        yield {name: value for arguments in combination for name, value in arguments.items()}


def failure(name: str) -> str:
    """How this rule test, or scenario, fails with the code as it is now; empty if it holds.

    Raises:
      StaleRevertError: something else went wrong.
    """
    try:
        if name.endswith(".scenario"):
            text = (_TESTS / "scenarios" / name).read_text(encoding="utf-8")
            return "another transcript" if transcribe(text, name) != text else ""
        [function] = functions_called(name)
        for case in _cases(function):
            function(**case)
    except _FAILURES as error:
        return str(error) or type(error).__name__
    except Exception as error:
        raise StaleRevertError(f"{name}: {error!r}") from error
    return ""


# The fuzzers.


def play(level: str, protocol: str, seed: int) -> str:
    """The property that a seed violates with the code as it is now, empty if it holds all.

    `level` is "core" (protocols alone) or "cluster" (everything).
    """
    if level == "core":
        try:
            core_fuzz.run_seed(seed, RULES[protocol])
        except FuzzError as error:
            return error.name
        return ""
    violation = run_seed(seed, protocol).violation
    return violation.property if violation is not None else ""


def hunt(correction: Correction, level: str, seeds: Sequence[int], seconds: float = 1e9) -> Found | None:
    """Look for what goes wrong without this rule, for so many seconds; protocols' own invariants do not help."""
    ends = time.process_time() + seconds
    with from_outside(), correction.reverted():
        for seed in seeds:
            violated = play(level, correction.protocol, seed)
            if violated:
                return Found(level, seed, violated)
            if time.process_time() > ends:
                break
    return None


def _hunt_all(chosen: Sequence[Correction], seconds: float, console: Console) -> None:
    logging.disable(logging.CRITICAL)
    for correction in track(chosen, "hunting", console=console):
        levels = ("core", "cluster") if correction.fuzzed_alone else ("cluster",)
        found = None
        for level in levels:
            found = found or hunt(correction, level, range(1000), seconds)
        if found is not None:
            FOUND[correction.key] = found
        else:
            FOUND.pop(correction.key, None)


def _rewrite() -> None:
    text = _FOUND_FILE.read_text(encoding="utf-8")
    head = text[: text.index("FOUND: ")]
    lines = [f"    {key!r}: {found!r},\n" for key, found in sorted(FOUND.items())]
    _FOUND_FILE.write_text(head + "FOUND: dict[str, Found] = {\n" + "".join(lines) + "}\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a rule's revert is noticed by nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.corrections_table", description=__doc__)
    parser.add_argument("words", nargs="*", help="only rows or reverts that contain one of these")
    parser.add_argument("--hunt", type=float, metavar="SECONDS", help="search with each fuzzer anew, for so long each")
    parser.add_argument("--rewrite", action="store_true", help="keep what was found in corrections_found.py")
    options = parser.parse_args(arguments)
    chosen = [
        each
        for each in CORRECTIONS
        if not options.words or any(word == each.rule or word in each.key for word in options.words)
    ]
    console = Console(highlight=False)
    if options.hunt:
        _hunt_all([each for each in chosen if not each.harmless], options.hunt, Console(stderr=True))
    if options.rewrite:
        _rewrite()
    table = Table("rule", "protocol", "put back", "fails", "fuzzers")
    unnoticed = 0
    for each in chosen:
        with each.reverted():
            failing = [name for name in each.tests if failure(name)]
        found = FOUND.get(each.key)
        silent = each.harmless or f"[red]not found[/]: needs {each.needs}"
        by = f"{found.level} seed {found.seed}: {found.property}" if found is not None else silent
        unnoticed += not failing
        table.add_row(each.rule, each.protocol, each.revert, "\n".join(failing) or "[red]NOTHING[/]", by)
    console.print(table)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
