"""Each rule that corrects a paper or adds to one is needed: put back what was there, and tests and fuzzers notice."""

from __future__ import annotations

from pathlib import Path
from re import MULTILINE, findall

import pytest

from tests.simulation.corrections import Correction
from tests.simulation.corrections_found import FOUND, Found
from tests.simulation.corrections_table import CORRECTIONS, failure, functions_called, hunt

ROOT = Path(__file__).parents[2]
OFTEN, SEARCH = 10, 100
"""Hunted here is what one of the first seeds has found: if the fuzzers draw otherwise, another one of so many does."""
HUNTED = [(each, FOUND[each.key]) for each in CORRECTIONS if each.key in FOUND and FOUND[each.key].seed < OFTEN]


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda correction: correction.key)
def test_without_the_rule_its_tests_fail(correction: Correction) -> None:
    assert correction.tests
    for name in correction.tests:
        assert name.endswith(".scenario") or len(functions_called(name)) == 1
    with correction.reverted():
        assert [name for name in correction.tests if not failure(name)] == []


@pytest.mark.parametrize(("correction", "found"), HUNTED, ids=[each.key for each, _ in HUNTED])
def test_without_the_rule_a_fuzzer_finds_it(correction: Correction, found: Found) -> None:
    assert hunt(correction, found.level, [found.seed, *range(SEARCH)]) is not None


def test_every_row_of_the_differences_has_a_revert_and_every_revert_a_rule() -> None:
    text = (ROOT / "docs" / "divergences.md").read_text(encoding="utf-8")
    rows = set(findall(r"^\| ([RB]?[0-9]+) \|", text, MULTILINE))
    assert len(rows) >= 39
    rules = {each.rule for each in CORRECTIONS}
    assert rows <= rules
    assert [rule for rule in rules - rows if not (ROOT / rule).is_file()] == []


def test_a_revert_that_no_fuzzer_finds_says_why() -> None:
    """Nothing can be seen from outside, or the state that it needs is named: a debt of the fuzzers."""
    assert [each.key for each in CORRECTIONS if not (each.key in FOUND or each.harmless or each.needs)] == []
    assert [each.key for each in CORRECTIONS if each.key in FOUND and each.harmless] == []


def test_names_are_told_apart() -> None:
    assert len({each.key for each in CORRECTIONS}) == len(CORRECTIONS)
    assert {each.key for each in CORRECTIONS} >= set(FOUND)
