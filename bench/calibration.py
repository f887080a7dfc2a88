"""What this machine is, and how fast: printed beside every result, since no figure means anything without it."""

from __future__ import annotations

import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import ROOT, python_module


@dataclass(frozen=True, slots=True)
class Calibration:
    """Medians: a 64-byte append with fdatasync, a datagram to another process and back (microseconds), one turn of
    an empty Python loop (nanoseconds). `load_average` is that of the last minute: much above 0 means a busy machine.
    """

    sync_us: float
    sync_p99_us: float
    round_trip_us: float
    loop_ns: float
    load_average: float
    cores: int
    python: str
    system: str


def calibrate(folder: Path) -> Calibration:
    """Measure, in about half a second, with files in `folder`."""
    average = os.getloadavg()[0]
    syncs = sorted(_sync_latencies_us(folder))
    return Calibration(
        sync_us=statistics.median(syncs),
        sync_p99_us=syncs[int(len(syncs) * 0.99)],
        round_trip_us=round_trip_us(),
        loop_ns=loop_speed_ns(),
        load_average=average,
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def _sync_latencies_us(folder: Path, rounds: int = 300) -> list[float]:
    sync = getattr(os, "fdatasync", os.fsync)
    file = os.open(folder / "calibration", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    took: list[float] = []
    try:
        for _ in range(rounds):
            began = time.perf_counter()
            os.write(file, bytes(64))
            sync(file)
            took.append((time.perf_counter() - began) * 1e6)
    finally:
        os.close(file)
        (folder / "calibration").unlink()
    return took


def round_trip_us(rounds: int = 1000) -> float:
    """The median of a small datagram to another process on loopback and back, in microseconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        near.bind(("127.0.0.1", 0))
        near.settimeout(10.0)
        port = str(near.getsockname()[1])
        other = subprocess.Popen(python_module("bench.calibration", port), cwd=ROOT)
        try:
            _, address = near.recvfrom(64)
            took: list[float] = []
            for _ in range(rounds):
                began = time.perf_counter()
                near.sendto(b"ping", address)
                near.recv(64)
                took.append((time.perf_counter() - began) * 1e6)
        finally:
            other.kill()
            other.wait()
    return statistics.median(took)


def _echo(near: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.settimeout(10.0)  # Should the one who asks be gone, this ends by itself.
        far.sendto(b"hello", near)
        while True:
            far.sendto(far.recv(64), near)


def loop_speed_ns(rounds: int = 1_000_000) -> float:
    """Nanoseconds for one turn of an empty Python loop."""
    began = time.perf_counter()
    for _ in range(rounds):
        pass
    return (time.perf_counter() - began) / rounds * 1e9


if __name__ == "__main__":
    _echo(("127.0.0.1", int(sys.argv[1])))
