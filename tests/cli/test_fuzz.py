"""`viewstamp fuzz`: seeds, exit codes, JSON, histories, and the command that replays a failure."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from importlib.metadata import PackageNotFoundError
from itertools import chain, count, repeat
from pathlib import Path
from typing import Self
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from tests.simulation.stack_mutants import CATALOGUE, from_outside
from viewstamp.cli import errors, fuzz_campaign
from viewstamp.cli.command_line import main
from viewstamp.cli.fuzz_replay import coverage_lines
from viewstamp.cli.fuzz_result import Job, Outcome, machine_of
from viewstamp.protocol.member import Member
from viewstamp.simulation.history import read_history
from viewstamp.simulation.linearizability import Linearizable, check_history
from viewstamp.simulation.load import Load
from viewstamp.simulation.models import COUNTER, KEY_VALUE
from viewstamp.simulation.plan import draw_plan
from viewstamp.simulation.run import run_seed
from viewstamp.simulation.verdict import Kind, ViolationError

TAKE_EFFECTS = Member.take_effects  # before any test changes it


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["fuzz", *arguments])


def test_a_source_tree_that_nobody_has_installed_can_be_fuzzed() -> None:
    """Its libraries are elsewhere on the path: the summary asked for a version of it, and ended in a traceback."""
    with patch("viewstamp.cli.fuzz_result.version", side_effect=PackageNotFoundError):
        result = run("--seed", "4", "--protocol", "raft")
    assert result.exit_code == 0, result.output
    assert "viewstamp not installed" in result.output


def test_a_seed_is_replayed() -> None:
    result = run("--seed", "4", "--json")
    assert result.exit_code == 0, result.output
    raft, vsr = [json.loads(line) for line in result.stdout.splitlines()]
    assert (vsr["protocol"], raft["protocol"]) == ("vsr", "raft")
    assert vsr["violation"] is None
    assert vsr["digest"] != raft["digest"]
    assert {"python", "viewstamp", "cbor2"} <= vsr["versions"].keys()


def test_what_a_single_seed_reached_is_told() -> None:
    told = run("--protocol", "raft", "--seed", "4", "--machine", "tests.simulation.test_machine_load:Queue")
    assert told.exit_code == 0, told.output
    lines = dict(line.strip().split(": ", 1) for line in told.output.splitlines() if ": " in line)
    assert re.fullmatch(r"take raised IndexError \(\d+\)", lines["machine"])
    assert "restarts (" in lines["reached"]
    assert "pause (" in lines["fault"]


def test_coverage_of_one_run_takes_a_line_for_each_kind() -> None:
    counts = {"fault: pause": 2, "restarts": 1, "fault: of one, or two": 1, "lost disks": 3}
    assert coverage_lines(counts) == ["fault: of one, or two (1); pause (2)", "reached: lost disks (3); restarts (1)"]


def test_a_range_is_played_and_added_up() -> None:
    result = run("--protocol", "raft", "--seeds", "1:4", "--jobs", "1", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["runs"], told["passed"], told["failure"]) == (3, 3, None)
    assert told["coverage"]["restarts"] > 0
    assert "fault: pause" in told["coverage"]


def test_history_and_trace_are_written(tmp_path: Path) -> None:
    history, trace = tmp_path / "history.jsonl", tmp_path / "trace.jsonl"
    result = run("--protocol", "vsr", "--seed", "4", "--history", str(history), "--trace", str(trace))
    assert result.exit_code == 0, result.output
    operations = [json.loads(line) for line in history.read_text().splitlines()]
    assert {"client", "op", "key", "arg", "arg2", "call", "ret", "out", "ok"} == operations[0].keys()
    assert json.loads(trace.read_text().splitlines()[-1])["event"] == "end"


@pytest.mark.parametrize("store", [False, True])
def test_a_history_can_be_read_and_judged_again(tmp_path: Path, store: bool) -> None:
    seed = next(seed for seed in count() if draw_plan(seed).store is store)
    file = tmp_path / "history.jsonl"
    assert run("--protocol", "raft", "--seed", str(seed), "--history", str(file)).exit_code == 0
    operations = read_history(file)
    assert {operation.op for operation in operations} <= (KEY_VALUE if store else COUNTER).operations
    assert sum(operation.ok is True for operation in operations) > 50
    assert isinstance(check_history(operations), Linearizable)


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.SAFETY, errors.SAFETY), (Kind.LIVENESS, errors.LIVENESS), (Kind.CRASH, errors.CRASH)]
)
def test_a_failure_says_what_and_how_to_see_it_again(kind: Kind, code: int) -> None:
    failure = ViolationError("a property", "this was seen", kind)
    with patch.object(Load, "agree", side_effect=failure):
        result = run("--protocol", "vsr", "--seed", "4", "--no-shrink")
    assert result.exit_code == code
    assert f"{kind} of 'a property': this was seen" in result.output
    assert "Replay: viewstamp fuzz --protocol vsr --seed 4" in result.output


def test_an_exception_is_a_crash() -> None:
    with patch.object(Load, "agree", side_effect=KeyError("unexpected")):
        result = run("--protocol", "raft", "--seed", "4", "--no-shrink")
    assert result.exit_code == errors.CRASH
    assert "Traceback" in result.output


def test_a_warning_is_a_crash() -> None:
    def warn(*_: object) -> None:
        warnings.warn("of what will change", DeprecationWarning, stacklevel=1)

    with patch.object(Load, "agree", warn):
        result = run("--protocol", "vsr", "--seed", "4", "--no-shrink")
    assert result.exit_code == errors.CRASH
    assert "DeprecationWarning: of what will change" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "tell"),
    [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.killpg), (signal.SIGTERM, os.kill)],
    ids=["Ctrl-C", "SIGTERM to all", "SIGTERM to the first"],
)
def test_an_interrupted_campaign_ends_at_once_and_leaves_no_process_behind(
    number: signal.Signals, tell: Callable[[int, int], None]
) -> None:
    command = [sys.executable, "-m", "viewstamp", "fuzz", "--minutes", "2", "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    with process:
        while len(_group(process.pid)) < 4:  # itself, two that play, and one that keeps track of them
            assert process.poll() is None
        tell(process.pid, number)
        assert process.wait(timeout=20) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == b"viewstamp: interrupted"
        assert process.stdout is not None
        assert process.stdout.read().strip().endswith(b"runs were played before, and nothing was wrong")
    end = time.monotonic() + 10
    while _group(process.pid):
        assert time.monotonic() < end


def test_sigterm_ends_a_single_run_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with patch.object(Load, "agree", lambda *_: os.kill(os.getpid(), signal.SIGTERM)):
        result = run("--protocol", "vsr", "--seed", "4")
    assert (result.exit_code, result.stderr) == (130, "viewstamp: interrupted\n")
    assert signal.getsignal(signal.SIGTERM) == before


def _group(number: int) -> list[int]:
    """The processes of a process group that have not ended."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # It ended while we looked.
        if int(group) == number and state != "Z":
            found.append(int(entry.parent.name))
    return found


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--seeds", "5:5"), "A:B"),
        (("--seeds", "1:2", "--seed", "1"), "exclude each other"),
        (("--seeds", "1:2", "--history", "file"), "they need"),
        (("--seed", "1", "--history", "file"), "--protocol"),
        (("--seed", "1", "--machine", "nonsense"), "package.module:Class"),
        (("--seed", "1", "--machine", "statemachine:StateMachine"), "has no @command"),
        (("--seed", "1", "--scenario", "file"), "exclude each other"),
        (("--scenario", "file", "--protocol", "vsr"), "are in the scenario's file"),
        (("--scenario", "file", "--machine", "kv"), "are in the scenario's file"),
    ],
)
def test_what_is_typed_wrongly_is_said(arguments: tuple[str, ...], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.output


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Backups acknowledge what is not yet on their disks; the folder that files go to."""
    monkeypatch.chdir(tmp_path)
    mutant = next(mutant for mutant in CATALOGUE if (mutant.protocol, mutant.name) == ("vsr", "prepareok-early"))
    with from_outside(), mutant.applied():
        yield tmp_path


def test_a_failing_run_is_shrunk_and_its_file_replays_it(broken: Path) -> None:
    found = run("--protocol", "vsr", "--seed", "0")
    assert found.exit_code == errors.SAFETY
    file = broken / "viewstamp-vsr-0.scenario.toml"
    assert f"Replay what is left: viewstamp fuzz --scenario {file.name}" in found.output
    assert "Shrunk from" in found.output
    held = tomllib.loads(file.read_text())
    assert held["schedule"]["acts"] == []
    assert held["failure"]["property"] == "promises"
    assert {"python", "viewstamp", "cbor2"} <= held["versions"].keys()
    told = run("--scenario", file.name)
    assert told.exit_code == errors.SAFETY
    assert "as recorded: the same failure, the same digest" in told.output
    arguments = ("--scenario", file.name, "--trace", "trace.jsonl", "--history", "history.jsonl", "--json")
    recorded = run(*arguments)
    assert recorded.exit_code == errors.SAFETY
    assert json.loads(recorded.stdout)["digest"] == held["failure"]["digest"]
    end = json.loads((broken / "trace.jsonl").read_text().splitlines()[-1])
    assert (end["digest"], end["failure"][:6]) == (held["failure"]["digest"], "safety")
    assert (broken / "history.jsonl").read_text()


def test_the_first_failure_of_a_campaign_is_kept_with_its_machine(broken: Path) -> None:
    def play_here(job: Job) -> Outcome:
        return Outcome.of(run_seed(job.seed, job.protocol, machine_of(job.machine)), 0.0)

    class Here:
        """A pool whose only process is this one, in which the code is broken."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, _: object, job: Job) -> Future[Outcome]:
            future: Future[Outcome] = Future()
            future.set_result(play_here(job))
            return future

        def shutdown(self, **_: object) -> None:
            pass

    with patch.object(fuzz_campaign, "ProcessPoolExecutor", Here):
        found = run("--protocol", "vsr", "--seeds", "0:1", "--machine", "kv", "--scenario-out", "it.toml", "--json")
    assert found.exit_code == errors.SAFETY
    told = json.loads(found.stdout)
    assert told["failure"]["seed"] == 0
    assert told["scenario"]["replay"] == "viewstamp fuzz --scenario it.toml"
    assert tomllib.loads((broken / "it.toml").read_text())["machine"] == "kv"
    replayed = run("--scenario", "it.toml", "--json")
    assert replayed.exit_code == errors.SAFETY
    assert json.loads(replayed.stdout)["digest"] == told["scenario"]["digest"]


def test_a_failing_run_can_be_kept_as_it_is_and_shrunk_later(broken: Path) -> None:
    assert run("--protocol", "vsr", "--seed", "0", "--no-shrink").exit_code == errors.SAFETY
    assert list(broken.iterdir()) == []
    assert (
        run("--protocol", "vsr", "--seed", "0", "--no-shrink", "--scenario-out", "large.toml").exit_code
        == errors.SAFETY
    )
    large = tomllib.loads((broken / "large.toml").read_text())
    assert len(large["schedule"]["acts"]) > 10
    assert run("--scenario", "large.toml", "--scenario-out", "small.toml").exit_code == errors.SAFETY
    small = tomllib.loads((broken / "small.toml").read_text())
    assert small["schedule"]["acts"] == []
    assert small["failure"]["property"] == large["failure"]["property"]


def test_a_file_whose_failure_is_mended_passes(broken: Path) -> None:
    assert run("--protocol", "vsr", "--seed", "0", "--scenario-out", "it.toml").exit_code == errors.SAFETY
    with pytest.MonkeyPatch.context() as mended:
        mended.setattr(Member, "take_effects", TAKE_EFFECTS)
        told = run("--scenario", "it.toml")
    assert told.exit_code == 0, told.output
    assert "not as recorded, which was the safety of 'promises'" in told.output


def test_a_run_that_does_not_fail_again_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failures = chain([ViolationError("a property", "this was seen")], repeat(None))
    with patch.object(Load, "agree", side_effect=failures):
        result = run("--protocol", "vsr", "--seed", "340")
    assert result.exit_code == errors.SAFETY
    assert "No scenario file: played again, the run ends otherwise (nothing is wrong)" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_changes_no_exit_code(broken: Path) -> None:
    result = run("--protocol", "vsr", "--seed", "0", "--no-shrink", "--scenario-out", "/dev/full")
    assert result.exit_code == errors.SAFETY
    assert "No scenario file: /dev/full: No space left on device" in result.output


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file or directory"),
        (b"\xff", "not UTF-8"),
        (b"format = 3", "expected 1, found 3"),
        (b"format =", "it.toml:1: expected"),
    ],
)
def test_a_scenario_file_that_is_wrong_is_refused(
    content: bytes | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("it.toml").write_bytes(content)
    result = run("--scenario", "it.toml")
    assert result.exit_code == 1
    assert "it.toml" in result.output
    assert complaint in result.output


def test_a_scenario_of_a_machine_that_is_not_there_is_refused(broken: Path) -> None:
    assert (
        run("--protocol", "vsr", "--seed", "0", "--no-shrink", "--scenario-out", "it.toml").exit_code == errors.SAFETY
    )
    file = broken / "it.toml"
    file.write_text(file.read_text().replace('machine = ""', 'machine = "nowhere:Own"'))
    result = run("--scenario", "it.toml")
    assert result.exit_code == 1
    assert "it.toml: machine: No module named 'nowhere'" in result.output


def test_seeds_are_played_through_the_trio_shell() -> None:
    result = run("--protocol", "vsr", "--seed", "0", "--shell", "both", "--json")
    assert result.exit_code == 0, result.output
    heap, trio = [json.loads(line) for line in result.stdout.splitlines()]
    assert (heap["shell"], trio["shell"]) == ("heap", "trio")
    assert heap["plan"] == trio["plan"]


def test_a_failure_in_the_trio_shell_names_it(tmp_path: Path) -> None:
    failure = ViolationError("a property", "this was seen", Kind.SAFETY)
    kept = tmp_path / "kept.toml"
    with patch.object(Load, "agree", side_effect=failure):
        result = run("--protocol", "vsr", "--seed", "0", "--shell", "trio", "--no-shrink", "--scenario-out", str(kept))
    assert "Replay: viewstamp fuzz --protocol vsr --seed 0 --shell trio" in result.output
    assert 'shell = "trio"' in kept.read_text()
    assert run("--scenario", str(kept)).exit_code == 0
    assert "--trace" in run("--scenario", str(kept), "--trace", str(tmp_path / "trace")).output
