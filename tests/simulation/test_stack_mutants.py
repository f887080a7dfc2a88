"""Each hand-made bug is found by checkers outside the protocols alone, and without it the same seed passes."""

from __future__ import annotations

import pytest

from tests.simulation.mutants_table import hunt
from tests.simulation.stack_mutants import CATALOGUE, Mutant, from_outside
from viewstamp.simulation.run import run_seed

COMMON = [mutant for mutant in CATALOGUE if not mutant.rare]


@pytest.mark.parametrize("mutant", COMMON, ids=lambda mutant: f"{mutant.protocol}-{mutant.name}")
def test_a_hand_made_bug_is_found(mutant: Mutant) -> None:
    found = hunt(mutant, mutant.first, mutant.seeds)
    assert found.violation is not None, f"{mutant.breaks} Nothing noticed."
    with from_outside():
        assert run_seed(found.seed, mutant.protocol).violation is None


def test_names_are_told_apart() -> None:
    assert len({(mutant.protocol, mutant.name) for mutant in CATALOGUE}) == len(CATALOGUE)
