"""`viewstamp soak` as a process, for seconds: both protocols hold, a broken machine is found, nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import SystemRandom

import pytest
import trio

from statemachine import command
from tests.end_to_end.test_demo import processes_that_mention
from viewstamp.cli.soak import soak
from viewstamp.cli.soak.findings import SAFETY
from viewstamp.cli.soak.machine import SoakStore
from viewstamp.cli.soak.soak import Plan, Soak
from viewstamp.simulation.history import read_history

pytestmark = pytest.mark.slow


def test_both_protocols_hold(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "viewstamp", "soak", "--minutes", "0.2", "--seed", "11", "--json"]
    result = subprocess.run(
        [*command, "--history", str(tmp_path / "history")],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["seed"] == 11
    assert [each["protocol"] for each in answer["results"]] == ["raft", "vsr"]
    for each in answer["results"]:
        assert each["verdict"] == "good"
        assert each["acknowledged"] > 100
        assert sum(each["faults"].values()) >= 1
        calls = read_history(tmp_path / f"history-{each['protocol']}")
        assert sum(1 for call in calls if call.ok) == each["acknowledged"]
        assert {call.op for call in calls} == {"get", "put", "append", "cas", "delete", "add", "read"}
    assert os.listdir(temporary) == []
    assert processes_that_mention(temporary) == []


class RandomStore(SoakStore):
    """Breaks the one rule of state machines: what it does depends on where it runs."""

    @command
    def add(self, key: str, amount: int) -> int:
        return super().add(key, amount + SystemRandom().randrange(100))


async def test_members_that_diverge_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_MACHINE", f"{__name__}:RandomStore")
    broken = Soak(Plan("vsr", 3, 2, 10.0, 1), tmp_path)
    with trio.fail_after(60):
        await broken.run()
    assert broken.problem is not None
    assert broken.problem.kind == SAFETY
    outcome = broken.result(tmp_path)
    assert outcome.exit_code == 3
    assert "different digests" in outcome.explanation
    assert processes_that_mention(tmp_path) == []


async def test_an_interrupted_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "viewstamp", "soak", "--protocol", "vsr", "--minutes", "1"]
    process = await trio.lowlevel.open_process(
        command, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stderr is not None
        with trio.fail_after(30):
            said = b""
            while b"acknowledged" not in said:
                chunk = await process.stderr.receive_some()
                assert chunk
                said += chunk
            assert processes_that_mention(tmp_path) != []
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        process.terminate()  # SIGKILL would leave its members to nobody.
        await process.wait()
        if process.stderr is not None:
            await process.stderr.aclose()
    assert os.listdir(tmp_path) == []
    assert processes_that_mention(tmp_path) == []
