"""One command beside others, which run one after the other: two cores have something to do.

    python -m tests.side_by_side pytest tests/simulation -- viewstamp soak --minutes 1 -- viewstamp fuzz --seeds 0:100

What the first one prints is shown when all are done. The exit code is that of the first that failed; if one of the
others fails, or this process is told to end (Ctrl-C, SIGTERM, SIGHUP), those that run are told to end too, and waited
for.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, NoReturn

_GRACE_S = 15.0


class _Told(BaseException):
    """A signal says that this process is to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _tell(number: int, frame: object) -> NoReturn:
    raise _Told(number)


def _end(process: subprocess.Popen[bytes], *, was_told: bool) -> None:
    """Let a process end, and wait for it: it has processes of its own to end, so SIGKILL is the last resort."""
    for number in (None if was_told else signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if number is not None and process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(_GRACE_S)
            return
        except subprocess.TimeoutExpired:
            continue


def run(commands: Sequence[Sequence[str]], output: IO[bytes]) -> int:
    """Run the first beside the others, its output into a file; the exit code."""
    beside, *others = commands
    began = time.monotonic()
    was_told = False
    running = [subprocess.Popen(beside, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)]
    try:
        for command in others:
            running.append(subprocess.Popen(command))
            code = running[-1].wait()
            if code:
                return code
        running[0].wait()
        return running[0].returncode
    except _Told as told:
        was_told = told.number == signal.SIGINT  # From a terminal, where everyone hears it; a second one does harm.
        raise
    finally:
        for process in reversed(running):
            _end(process, was_told=was_told)
        output.seek(0)
        said = output.read().decode(errors="replace")
        code = running[0].returncode
        sys.stdout.write(
            f"\n{shlex.join(beside)}: exit code {code}, {time.monotonic() - began:.0f} s after its start\n{said}\n"
        )
        sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run them."""
    commands: list[list[str]] = [[]]
    for argument in arguments:
        if argument == "--":
            commands.append([])
        else:
            commands[-1].append(argument)
    if len(commands) < 2 or not all(commands):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _tell)
    with tempfile.TemporaryFile() as output:
        try:
            return run(commands, output)
        except _Told as told:
            return 128 + told.number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
