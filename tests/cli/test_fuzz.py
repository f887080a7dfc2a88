"""`viewstamp fuzz`: seeds, exit codes, JSON, histories, and the command that replays a failure."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from viewstamp.cli import fuzz
from viewstamp.cli.command_line import main
from viewstamp.simulation.load import LedgerLoad
from viewstamp.simulation.verdict import Kind, ViolationError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["fuzz", *arguments])


def test_a_seed_is_replayed() -> None:
    result = run("--seed", "4", "--json")
    assert result.exit_code == 0, result.output
    raft, vsr = [json.loads(line) for line in result.stdout.splitlines()]
    assert (vsr["protocol"], raft["protocol"]) == ("vsr", "raft")
    assert vsr["violation"] is None
    assert vsr["digest"] != raft["digest"]
    assert {"python", "viewstamp", "cbor2"} <= vsr["versions"].keys()


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
    assert {operation["op"] for operation in operations} <= {"add", "read"}
    assert {"client", "op", "key", "arg", "arg2", "call", "ret", "out", "ok"} == operations[0].keys()
    assert json.loads(trace.read_text().splitlines()[-1])["event"] == "end"


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.SAFETY, fuzz.SAFETY), (Kind.LIVENESS, fuzz.LIVENESS), (Kind.CRASH, fuzz.CRASH)]
)
def test_a_failure_says_what_and_how_to_see_it_again(kind: Kind, code: int) -> None:
    failure = ViolationError("a property", "this was seen", kind)
    with patch.object(LedgerLoad, "judge", side_effect=failure):
        result = run("--protocol", "vsr", "--seed", "4")
    assert result.exit_code == code
    assert f"{kind} of 'a property': this was seen" in result.output
    assert "Replay: viewstamp fuzz --protocol vsr --seed 4" in result.output


def test_an_exception_is_a_crash() -> None:
    with patch.object(LedgerLoad, "judge", side_effect=KeyError("unexpected")):
        result = run("--protocol", "raft", "--seed", "4")
    assert result.exit_code == fuzz.CRASH
    assert "Traceback" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--seeds", "5:5"), "A:B"),
        (("--seeds", "1:2", "--seed", "1"), "exclude each other"),
        (("--seeds", "1:2", "--history", "file"), "need --seed"),
        (("--seed", "1", "--history", "file"), "--protocol"),
        (("--seed", "1", "--machine", "nonsense"), "package.module:Class"),
    ],
)
def test_what_is_typed_wrongly_is_said(arguments: tuple[str, ...], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.output
