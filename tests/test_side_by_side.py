"""What runs beside the tests counts, is shown, and never outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PYTHON = sys.executable
SLOW = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); print('begun', flush=True); time.sleep(60)"


def side_by_side(*commands: tuple[str, ...]) -> list[str]:
    words = [PYTHON, "-m", "tests.side_by_side"]
    for position, command in enumerate(commands):
        words += ["--", *command] if position else command
    return words


def program(text: str, *arguments: str) -> tuple[str, ...]:
    return (PYTHON, "-c", text, *arguments)


@pytest.mark.parametrize(("first", "second", "third", "code"), [(0, 0, 0, 0), (3, 0, 0, 3), (0, 4, 5, 4), (0, 0, 5, 5)])
def test_the_first_failure_is_the_exit_code_and_ends_the_row(
    tmp_path: Path, first: int, second: int, third: int, code: int
) -> None:
    said = tmp_path / "said"
    wait = f"import os, time\nwhile not os.path.exists({str(said)!r}): time.sleep(0.01)\n"
    commands = [
        program(f"print('number 1', flush=True); open({str(said)!r}, 'w').close(); raise SystemExit({first})"),
        program(f"{wait}print('number 2'); raise SystemExit({second})"),
        program(f"print('number 3'); raise SystemExit({third})"),
    ]
    result = subprocess.run(side_by_side(*commands), capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == code
    assert "number 1" in result.stdout
    assert ("number 3" in result.stdout) is (second == 0)


def test_what_runs_beside_is_told_to_end_when_another_fails(tmp_path: Path) -> None:
    mark = tmp_path / "begun"
    wait = f"import os, time\nwhile not os.path.exists({str(mark)!r}): time.sleep(0.01)\nraise SystemExit(7)"
    command = side_by_side(program(SLOW, str(mark)), program(wait))
    began = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 7
    assert time.monotonic() - began < 30
    assert "begun" in result.stdout
    assert f"exit code {-signal.SIGTERM}" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both(tmp_path: Path, number: signal.Signals) -> None:
    marks = [tmp_path / "one", tmp_path / "two"]
    command = side_by_side(*(program(SLOW, str(mark)) for mark in marks))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    with process:
        while not all(mark.exists() for mark in marks):
            assert process.poll() is None
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # As Ctrl-C at a terminal does.
        else:
            process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # Nobody of its group is left.


def test_what_is_typed_wrongly_is_explained() -> None:
    result = subprocess.run(side_by_side(("true",)), capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert "One command beside others" in result.stderr
