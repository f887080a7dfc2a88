"""`viewstamp demo` as a process: what it prints, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.end_to_end.support import assert_linearizable

pytestmark = pytest.mark.slow


def processes_that_mention(folder: Path) -> list[str]:
    """Command lines of processes of this machine that name a path in the folder."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # It ended while we looked.
        if str(folder) in line:
            found.append(line)
    return found


def test_a_short_demo_for_programs(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "viewstamp", "demo", "--increments", "2000", "--json", "--history", str(history)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=40, check=False, env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert answer["acknowledged"] == 2000
    assert answer["values"] == {"1": 2000, "2": 2000, "3": 2000}
    assert (answer["protocol"], answer["replicas"]) == ("vsr", 3)
    assert (answer["lost"], answer["duplicated"]) == (0, 0)
    assert len(answer["gaps_ms"]) == 2
    assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["p99"]
    assert "SIGKILL of member" in result.stderr
    assert "SIGSTOP of member" in result.stderr

    calls = [json.loads(each) for each in history.read_text().splitlines()]
    adds = [call for call in calls if call["op"] == "add"]
    assert sorted(call["out"] for call in adds) == list(range(1, 2001))
    assert all(call["ok"] is True and call["ret"] > call["call"] for call in calls)
    assert_linearizable(history, 2000)
    assert os.listdir(temporary) == []
    assert processes_that_mention(temporary) == []


async def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "viewstamp", "demo"]
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(20):
            said = b""
            while b"SIGKILL" not in said:
                chunk = await process.stdout.receive_some()
                assert chunk
                said += chunk
            assert len(processes_that_mention(tmp_path)) == 2
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        process.terminate()  # SIGKILL would leave its members to nobody.
        await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()
    assert os.listdir(tmp_path) == []
    assert processes_that_mention(tmp_path) == []
