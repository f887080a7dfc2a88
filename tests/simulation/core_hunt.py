"""Hunting hand-made bugs of protocol cores: which seed finds one, and by which property."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.raft_mutants import RAFT_MUTANTS
from tests.simulation.snapshot_mutants import SNAPSHOT_MUTANTS
from viewstamp.simulation.core_fuzz import FuzzError, run_seed
from viewstamp.simulation.rules import RULES

CORES = (*MUTANTS, *RAFT_MUTANTS, *SNAPSHOT_MUTANTS)


class MisfitError(Exception):
    """A mutant failed in its own code: it does not fit the code any more that it is put into."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The seed that found a mutant, and the property that was violated."""

    seed: int
    found_by: str


def hunt(mutant: Mutant, seeds: Iterable[int]) -> Kill | None:
    """The first of these seeds that finds the mutant by a property that should; what else goes wrong is passed over."""
    with mutant.applied():
        for seed in seeds:
            try:
                run_seed(seed, RULES[mutant.protocol])
            except FuzzError as error:
                _verify_fits(mutant, error.__cause__ or error)
                if error.name in mutant.kills:
                    return Kill(seed, error.name)
            except Exception as error:
                _verify_fits(mutant, error)
                raise
    return None


def _verify_fits(mutant: Mutant, error: BaseException) -> None:
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    if Path(innermost.filename).stem.endswith("mutants"):
        raise MisfitError(f"{mutant.protocol}: {mutant.name} does not fit the code any more: {error!r}") from error
