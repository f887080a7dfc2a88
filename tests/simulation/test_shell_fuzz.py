"""Seeds through the Trio shell: it keeps what replicas promise, replays, and its hand-made bugs are found."""

from __future__ import annotations

import importlib
from unittest.mock import patch

import pytest

from tests.simulation.other_processes import outputs_of
from tests.simulation.shell_mutants import CATALOGUE
from tests.simulation.stack_mutants import Mutant
from viewstamp.simulation.run import run_seed
from viewstamp.simulation.trio_host import UnfitTrioError


def test_a_seed_replays_to_the_byte_in_another_process() -> None:
    program = """
from viewstamp.simulation.run import run_seed
for protocol in ("vsr", "raft"):
    report = run_seed(2, protocol, shell="trio")
    print(report.digest, report.events, report.violation, report.story, sorted(report.counts.items()))
"""
    outputs = outputs_of(program)
    assert len(outputs) == 1
    assert outputs.pop().count("None") >= 2


def test_the_shells_differ_and_the_plan_does_not() -> None:
    heap, trio = run_seed(0, "vsr"), run_seed(0, "vsr", shell="trio")
    assert (heap.violation, trio.violation) == (None, None)
    assert heap.plan == trio.plan
    assert heap.digest != trio.digest
    assert trio.commits > 50


@pytest.mark.parametrize("mutant", [mutant for mutant in CATALOGUE if not mutant.rare], ids=lambda mutant: mutant.name)
def test_a_hand_made_bug_of_the_shell_is_found(mutant: Mutant) -> None:
    with mutant.applied():
        for seed in range(mutant.first, mutant.first + mutant.seeds):
            report = run_seed(seed, mutant.protocol, shell="trio")
            assert "shell_mutants.py" not in report.traceback.rpartition("File")[2], report.traceback
            if report.violation is not None:
                break
    assert report.violation is not None, f"{mutant.breaks}: nothing noticed."


def test_a_trio_whose_order_cannot_be_fixed_is_refused() -> None:
    module = importlib.import_module("trio._core._run")
    with patch.object(module, "_ALLOW_DETERMINISTIC_SCHEDULING", None):
        report = run_seed(0, "vsr", shell="trio")
    assert report.violation is not None
    assert UnfitTrioError.__name__ in str(report.violation)
