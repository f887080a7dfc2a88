"""The protocol fuzzer with fixed seeds: the code as it is holds everything, and hand-made bugs are found."""

from __future__ import annotations

import pytest

from tests.simulation.core_hunt import CORES, MisfitError, hunt
from tests.simulation.mutants import Mutant
from tests.simulation.other_processes import outputs_of
from viewstamp.protocol import Effects, InvariantError
from viewstamp.simulation.core_fuzz import run_seed
from viewstamp.simulation.rules import RULES
from vsr import ViewstampedReplication

SEEDS_AT_MOST = 150
BEGIN_AT = {
    ("raft", "the log is up to date that is at least as long"): 20,
    ("raft", "an empty log behind a snapshot is compared as if it had no term"): 23,
    ("raft", "an empty log behind a snapshot is compared as if it were empty"): 23,
    ("raft", "the agreed time of what a snapshot holds is lost"): 23,
    ("raft", "a leader that nobody answers goes on leading"): 27,
    ("raft", "answers to heartbeats confirm whatever read is the newest"): 27,
    ("raft", "acknowledgements of an earlier term raise what a follower holds"): 37,
    ("raft", "what a leader knew of its followers in an earlier term is kept"): 37,
    ("raft", "votes are counted instead of voters"): 38,
    ("raft", "a snapshot replaces a log that holds its last entry"): 50,
    ("raft", "a round that began before the read confirms it"): 56,
    ("raft", "what lies below the commit index counts as a conflict"): 76,
    ("raft", "a deposed leader still handles acknowledgements"): 77,
    ("raft", "votes of another term count"): 77,
    ("raft", "a transfer of leadership has no end"): 79,
    ("vsr", "DOVIEWCHANGE begins a view again that was led before a restart"): 24,
    ("vsr", "a snapshot that cannot be had is waited for"): 25,
    ("vsr", "the view of the last operation in a snapshot is forgotten"): 25,
    ("vsr", "STARTVIEW of an earlier view of the same primary is taken"): 30,
    ("vsr", "DOVIEWCHANGE of an earlier view counts in a later one"): 36,
    ("vsr", "the view is taken with the snapshot, before the pages behind it"): 43,
    ("vsr", "the snapshot is installed alone, before the pages behind it"): 50,
    ("vsr", "a duplicated DOVIEWCHANGE counts twice"): 51,
    ("vsr", "a snapshot in the same view drops the acknowledged entries behind it"): 53,
    ("vsr", "PREPAREOK of an earlier view counts in a later one of the same primary"): 71,
    ("vsr", "a page is taken without its nonce"): 89,
}
"""Where the hunt begins for those that most seeds do not find, to save time: it goes on with all others if need be."""


@pytest.mark.parametrize("start", range(0, 150, 25))
@pytest.mark.parametrize("protocol", sorted(RULES))
def test_every_seed_holds_every_property(protocol: str, start: int) -> None:
    results = [run_seed(seed, RULES[protocol]) for seed in range(start, start + 25)]
    assert sum(result.committed for result in results) > 25 * 100
    assert sum(result.views for result in results) > 25 * 2
    assert sum(result.counts.restarts for result in results) > 25
    assert sum(result.counts.installs > 0 for result in results) >= 5
    assert sum(result.counts.starts_behind_snapshot > 0 for result in results) >= 5


@pytest.mark.parametrize("mutant", CORES, ids=lambda mutant: f"{mutant.protocol}: {mutant.name}")
def test_a_hand_made_bug_is_found(mutant: Mutant) -> None:
    first = BEGIN_AT.get((mutant.protocol, mutant.name), 0)
    assert hunt(mutant, (*range(first, SEEDS_AT_MOST), *range(first)))


def test_a_mutant_that_fails_by_itself_is_no_kill() -> None:
    def drain(self: object) -> Effects:
        raise InvariantError("as if a name were gone")

    broken = Mutant("broken", frozenset({"invariant"}), ((ViewstampedReplication, "drain", drain),))
    # It is told by the file in which it fails.
    drain.__code__ = drain.__code__.replace(co_filename="tests/simulation/some_mutants.py")
    with pytest.raises(MisfitError, match="does not fit"):
        hunt(broken, range(1))


def test_those_that_begin_later_are_in_the_catalogue() -> None:
    assert {(mutant.protocol, mutant.name) for mutant in CORES} >= set(BEGIN_AT)


def test_no_two_bugs_have_one_name() -> None:
    assert len({(mutant.protocol, mutant.name) for mutant in CORES}) == len(CORES)


def test_a_seed_replays_to_the_same_digest_in_another_process() -> None:
    program = (
        "from viewstamp.simulation.core_fuzz import run_seed; from viewstamp.simulation.rules import RULES;"
        "print([run_seed(seed, rules).digest for rules in RULES.values() for seed in range(5)])"
    )
    digests = outputs_of(program)
    assert len(digests) == 1
