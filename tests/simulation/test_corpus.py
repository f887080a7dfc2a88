"""Runs in which the fuzzer once found a bug, made smaller: each must pass now."""

from __future__ import annotations

from pathlib import Path

import pytest

from viewstamp.simulation.run import run_script
from viewstamp.simulation.script_file import parse_scenario

CORPUS = sorted((Path(__file__).parent.parent / "corpus").glob("*.toml"))


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_what_once_failed_passes(file: Path) -> None:
    assert run_script(parse_scenario(file.read_text(), file.name).script).violation is None


def test_there_is_a_corpus() -> None:
    assert CORPUS
