"""The protocol fuzzer with fixed seeds: the code as it is holds everything, and hand-made bugs are found."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.other_processes import outputs_of
from tests.simulation.raft_mutants import RAFT_MUTANTS
from tests.simulation.snapshot_mutants import SNAPSHOT_MUTANTS
from viewstamp.simulation.core_fuzz import FuzzError, run_seed
from viewstamp.simulation.rules import RULES

SEEDS_AT_MOST = 150
CATALOGUE = (*MUTANTS, *RAFT_MUTANTS, *SNAPSHOT_MUTANTS)


@pytest.mark.parametrize("start", range(0, 150, 25))
@pytest.mark.parametrize("protocol", sorted(RULES))
def test_every_seed_holds_every_property(protocol: str, start: int) -> None:
    results = [run_seed(seed, RULES[protocol]) for seed in range(start, start + 25)]
    assert sum(result.committed for result in results) > 25 * 100
    assert sum(result.views for result in results) > 25 * 2
    assert sum(result.counts.restarts for result in results) > 25
    assert sum(result.counts.installs > 0 for result in results) >= 5
    assert sum(result.counts.starts_behind_snapshot > 0 for result in results) >= 5


def hunt(mutant: Mutant) -> str:
    """The property that finds this bug, and should; empty if none does. What else goes wrong with it is passed over."""
    with mutant.applied():
        for seed in range(SEEDS_AT_MOST):
            try:
                run_seed(seed, RULES[mutant.protocol])
            except FuzzError as error:
                if error.name in mutant.kills:
                    return error.name
    return ""


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: f"{mutant.protocol}: {mutant.name}")
def test_a_hand_made_bug_is_found(mutant: Mutant) -> None:
    assert hunt(mutant)


def test_no_two_bugs_have_one_name() -> None:
    assert len({(mutant.protocol, mutant.name) for mutant in CATALOGUE}) == len(CATALOGUE)


def test_a_seed_replays_to_the_same_digest_in_another_process() -> None:
    program = (
        "from viewstamp.simulation.core_fuzz import run_seed; from viewstamp.simulation.rules import RULES;"
        "print([run_seed(seed, rules).digest for rules in RULES.values() for seed in range(5)])"
    )
    digests = outputs_of(program)
    assert len(digests) == 1
