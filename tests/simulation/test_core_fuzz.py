"""The protocol fuzzer with fixed seeds: the code as it is holds everything, and hand-made bugs are found.

Only bugs that few seeds find are hunted here; `make mutants` says what becomes of the others.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from viewstamp.simulation.core_fuzz import FuzzError, run_seed

SEEDS_AT_MOST = 200
RARE = {
    "the best log is the longest",
    "the first primary orders before its founding is durable",
    "a duplicated DOVIEWCHANGE counts twice",
    "DOVIEWCHANGE of an earlier view counts in a later one",
    "DOVIEWCHANGE begins a view again that was led before a restart",
    "the next op of a later view is appended to the log of an earlier one",
    "a page is taken without its nonce",
    "messages of a superseded incarnation count",
    "a recovering member is content with one answer, of anyone",
    "a read is served without asking a majority",
    "a round that began before the read confirms it",
}
FREQUENT = [mutant for mutant in MUTANTS if mutant.name not in RARE]


@pytest.mark.parametrize("start", range(0, 150, 25))
def test_every_seed_holds_every_property(start: int) -> None:
    results = [run_seed(seed) for seed in range(start, start + 25)]
    assert sum(result.committed for result in results) > 25 * 100
    assert sum(result.views for result in results) > 25 * 2
    assert sum(result.counts.restarts for result in results) > 25


def hunt(mutant: Mutant) -> str:
    """The property that finds this bug, and should; empty if none does. What else goes wrong with it is passed over."""
    with mutant.applied():
        for seed in range(SEEDS_AT_MOST):
            try:
                run_seed(seed)
            except FuzzError as error:
                if error.name in mutant.kills:
                    return error.name
    return ""


@pytest.mark.parametrize("mutant", FREQUENT, ids=lambda mutant: mutant.name)
def test_a_hand_made_bug_is_found(mutant: Mutant) -> None:
    assert hunt(mutant)


def test_the_rare_ones_are_in_the_catalogue() -> None:
    assert {mutant.name for mutant in MUTANTS} >= RARE


def test_a_seed_replays_to_the_same_digest_in_another_process() -> None:
    program = "from viewstamp.simulation.core_fuzz import run_seed; print([run_seed(s).digest for s in range(5)])"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
