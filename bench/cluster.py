"""A cluster of real replica processes on this machine, for measurements."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from viewstamp.cluster import Cluster


def free_ports(count: int) -> list[int]:
    """UDP ports on loopback that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running_cluster(replicas: int, protocol: str = "vsr") -> Iterator[Cluster]:
    """Start `replicas` processes with journals in a temporary folder, and end them afterwards."""
    addresses = [("127.0.0.1", port) for port in free_ports(replicas)]
    cluster = Cluster.make("bench", protocol, addresses)
    with tempfile.TemporaryDirectory(prefix="viewstamp-bench-") as folder:
        file = Path(folder) / "cluster.toml"
        file.write_text(cluster.to_toml())
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for member in cluster.members:
                command = [sys.executable, "-m", "viewstamp", "serve", "--quiet", "--cluster", str(file)]
                data = Path(folder) / str(member.id)
                processes.append(subprocess.Popen([*command, "--id", str(member.id), "--data", str(data)]))
            yield cluster
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=10)
