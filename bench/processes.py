"""Child processes that answer requests, one JSON object a line; and what a process has cost so far."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self, cast

from bench.figures import Json

ROOT = Path(__file__).resolve().parent.parent
_STOP_S = 5.0


class ChildError(Exception):
    """A child ended, or did not answer in time; what it last said is in the message."""


class Usage(NamedTuple):
    """Processor seconds since the start, and bytes of memory now."""

    processor_s: float
    memory_bytes: int


def usage(pid: int) -> Usage:
    """What this process has cost."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return _usage_by_ps(pid)
    ticks = int(fields[11]) + int(fields[12])  # in user and in system mode
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


def _usage_by_ps(pid: int) -> Usage:
    """Where there is no /proc. The time comes as [[days-]hours:]minutes:seconds."""
    command = ["ps", "-o", "rss=", "-o", "time=", "-p", str(pid)]
    memory, processor = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    seconds = 0.0
    for part in processor.replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)  # nothing here runs for hours
    return Usage(seconds, int(memory) * 1024)


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this suite."""
    return [sys.executable, "-m", module, *arguments]


class Child:
    """A process with its own log file. Kill or stop it; as a context manager it is killed at the end."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self._unread = b""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ask(self, request: Json, timeout_s: float = 30.0) -> Json:
        """Send a request and wait for its answer. Raises ChildError."""
        self.tell(request)
        return self.answer(timeout_s)

    def tell(self, request: Json) -> None:
        """Send a request without waiting. Raises ChildError."""
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
        except OSError as error:
            raise self._error("ended") from error

    def answer(self, timeout_s: float = 30.0) -> Json:
        """The next object that the child prints. Raises ChildError."""
        stdout = self._process.stdout
        if stdout is None:
            raise self._error("has no output")
        until = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise self._error(f"did not answer within {timeout_s:.0f} s")
                more = os.read(stdout.fileno(), 1 << 16)
                if not more:
                    raise self._error("ended")
                self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        return cast("Json", json.loads(line))

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Harmless afterwards."""
        if self._process.poll() is None:
            self._process.kill()
        self._finish()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough. Harmless afterwards."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._finish()

    def _finish(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was not read by the child is not wanted any more

    def _error(self, what: str) -> ChildError:
        last = self._log.read_text(errors="replace").strip().splitlines()[-8:]
        said = "\n".join(last) or "it said nothing"
        return ChildError(f"{' '.join(map(str, self._process.args))[:200]} {what}: {said}")  # type: ignore[arg-type]
