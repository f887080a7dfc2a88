"""The protocol fuzzer with fixed seeds: the code as it is holds everything, and hand-made bugs are found.

Only bugs that few seeds find are hunted here; `make mutants` says what becomes of the others.
"""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.other_processes import outputs_of
from tests.simulation.raft_mutants import RAFT_MUTANTS
from viewstamp.simulation.core_fuzz import FuzzError, run_seed
from viewstamp.simulation.rules import RULES

SEEDS_AT_MOST = 200
RARE = {
    ("raft", "the log is up to date only if it is later in term and in length"),
    ("raft", "votes of another term count"),
    ("raft", "acknowledgements of an earlier term raise what a follower holds"),
    ("raft", "what a leader knew of its followers in an earlier term is kept"),
    ("raft", "a deposed leader still handles acknowledgements"),
    ("raft", "answers to heartbeats confirm whatever read is the newest"),
    ("vsr", "a page is taken without its nonce"),
}
"""Not found within so many seeds."""
SLOW = {
    ("raft", "a candidate counts its own vote before it is durable"),
    ("raft", "entries of earlier terms are committed by counting"),
    ("raft", "what lies below the commit index counts as a conflict"),
    ("vsr", "a duplicated DOVIEWCHANGE counts twice"),
    ("vsr", "a recovering member is content with one answer, of anyone"),
    ("vsr", "the best log is the longest"),
    ("vsr", "the next op of a later view is appended to the log of an earlier one"),
}
"""Found, but after so many that every run of the tests would have to wait for it."""
CATALOGUE = (*MUTANTS, *RAFT_MUTANTS)
FREQUENT = [mutant for mutant in CATALOGUE if (mutant.protocol, mutant.name) not in RARE | SLOW]


@pytest.mark.parametrize("start", range(0, 150, 25))
@pytest.mark.parametrize("protocol", sorted(RULES))
def test_every_seed_holds_every_property(protocol: str, start: int) -> None:
    results = [run_seed(seed, RULES[protocol]) for seed in range(start, start + 25)]
    assert sum(result.committed for result in results) > 25 * 100
    assert sum(result.views for result in results) > 25 * 2
    assert sum(result.counts.restarts for result in results) > 25


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


@pytest.mark.parametrize("mutant", FREQUENT, ids=lambda mutant: f"{mutant.protocol}: {mutant.name}")
def test_a_hand_made_bug_is_found(mutant: Mutant) -> None:
    assert hunt(mutant)


def test_the_rare_ones_are_in_the_catalogue() -> None:
    assert {(mutant.protocol, mutant.name) for mutant in CATALOGUE} >= RARE | SLOW


def test_no_two_bugs_have_one_name() -> None:
    assert len({(mutant.protocol, mutant.name) for mutant in CATALOGUE}) == len(CATALOGUE)


def test_a_seed_replays_to_the_same_digest_in_another_process() -> None:
    program = (
        "from viewstamp.simulation.core_fuzz import run_seed; from viewstamp.simulation.rules import RULES;"
        "print([run_seed(seed, rules).digest for rules in RULES.values() for seed in range(5)])"
    )
    digests = outputs_of(program)
    assert len(digests) == 1
