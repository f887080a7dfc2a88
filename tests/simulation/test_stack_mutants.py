"""Each hand-made bug is found by checkers outside the protocols alone, and without it the same seed passes."""

from __future__ import annotations

from functools import cache

import pytest

from tests.simulation.mutants_table import hunt
from tests.simulation.stack_mutants import CATALOGUE, Mutant, from_outside
from viewstamp.simulation.run import run_seed


@cache
def passes(seed: int, protocol: str) -> bool:
    with from_outside():
        return run_seed(seed, protocol).violation is None


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: f"{mutant.protocol}-{mutant.name}")
def test_a_hand_made_bug_is_found(mutant: Mutant) -> None:
    """Within the first so many seeds; one that found it once comes first, and saves time as long as it does."""
    if mutant.first:
        found = hunt(mutant, mutant.first, 1)
        if found.violation is not None and passes(found.seed, mutant.protocol):
            return
    found = hunt(mutant, 0, mutant.seeds)
    assert found.violation is not None, f"{mutant.breaks} Nothing noticed."
    assert passes(found.seed, mutant.protocol)


def test_names_are_told_apart() -> None:
    assert len({(mutant.protocol, mutant.name) for mutant in CATALOGUE}) == len(CATALOGUE)
