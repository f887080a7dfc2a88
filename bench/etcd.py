"""etcd beside it: Debian's server, three members with defaults, loaded over gRPC by a small program of our own in Go.

The data lies beside the other systems' data, so that all of them sync the same disk. The load generator is built once,
from the sources that Debian packages; each of its clients has a connection of its own to the leader.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

from bench.cluster import free_ports
from bench.processes import Child, ChildError
from bench.system import MissingError, Running, Stoppable, System, Work, run_load

INSTALL = "apt-get install --no-install-recommends etcd-server etcd-client golang-go golang-etcd-server-dev"
_SOURCE = Path(__file__).parent / "etcd_load"
_GO_PATH = "/usr/share/gocode"
_GAP_TIMEOUT = "150ms"


def find_etcd() -> tuple[str, str]:
    """The programs `etcd` and `etcdctl`. Raises MissingError."""
    etcd, control = shutil.which("etcd"), shutil.which("etcdctl")
    if etcd is None or control is None:
        raise MissingError(f"not installed; on Debian: {INSTALL}")
    return etcd, control


def load_program() -> Path:
    """The load generator, built if it is not there or older than its source. Raises MissingError."""
    program = Path(gettempdir()) / f"viewstamp-bench-{os.getuid()}" / "etcd_load"
    source = _SOURCE / "main.go"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    go = shutil.which("go")
    if go is None:
        raise MissingError(f"its load generator cannot be built; on Debian: {INSTALL}")
    program.parent.mkdir(mode=0o700, exist_ok=True)
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": os.environ.get("GOPATH", _GO_PATH),
        "GOCACHE": str(program.parent / "cache"),
    }
    built = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=_SOURCE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise MissingError(f"its load generator does not build ({built.stderr.strip()[:300]}); on Debian: {INSTALL}")
    return program


@dataclass(frozen=True, slots=True)
class Etcd(System):
    """Three members with defaults."""

    name: str = "etcd"

    def takes(self, work: Work) -> bool:
        return work.operation in ("put", "get") and not work.shared and not work.inside

    def start(self, folder: Path, machine: str) -> Running:
        return RunningEtcd(*find_etcd(), load_program(), folder)


class RunningEtcd(Stoppable):
    """The three servers."""

    def __init__(self, etcd: str, control: str, program: Path, folder: Path) -> None:
        self._etcd, self._control, self._program = etcd, control, program
        self._folder = folder
        ports = free_ports(6, socket.SOCK_STREAM)
        self._clients = dict(enumerate(ports[:3], 1))
        self._peers = dict(enumerate(ports[3:], 1))
        self._children: dict[int, Child] = {}
        self._leader = 0
        try:
            for member in self._clients:
                self._spawn(member, "new")
            self._leader = self._find_leader()
        except BaseException:
            self.stop()
            raise

    def _spawn(self, member: int, state: str) -> None:
        client, peer = (f"http://127.0.0.1:{ports[member]}" for ports in (self._clients, self._peers))
        everyone = ",".join(f"m{other}=http://127.0.0.1:{port}" for other, port in self._peers.items())
        command = [self._etcd, "--name", f"m{member}", "--data-dir", str(self._folder / f"etcd-{member}")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", everyone, "--initial-cluster-state", state]
        if platform.machine() not in ("x86_64", "AMD64"):
            os.environ.setdefault("ETCD_UNSUPPORTED_ARCH", "arm64")  # 3.4 wants to be told
        self._children[member] = Child(command, self._folder / f"etcd-{member}.log")

    def _find_leader(self, timeout_s: float = 30.0) -> int:
        """Waits until every running member is up and agrees on a leader."""
        until = time.monotonic() + timeout_s
        addresses = ",".join(f"127.0.0.1:{self._clients[member]}" for member in self._children)
        command = [self._control, "--endpoints", addresses, "--dial-timeout", "1s", "endpoint", "status", "-w", "json"]
        while time.monotonic() < until:
            environment = {**os.environ, "ETCDCTL_API": "3"}
            said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
            answers = [answer for answer in json.loads(said or "[]") if answer["Status"].get("leader")]
            leaders = {answer["Status"]["leader"] for answer in answers}
            if len(answers) == len(self._children) and len(leaders) == 1:
                for answer in answers:
                    if answer["Status"]["header"]["member_id"] in leaders:
                        port = int(answer["Endpoint"].rsplit(":", 1)[1])
                        return next(member for member, own in self._clients.items() if own == port)
            time.sleep(0.05)
        raise ChildError(f"etcd: no leader within {timeout_s:.0f} s")

    @property
    def pids(self) -> list[int]:
        others = [child.pid for member, child in self._children.items() if member != self._leader]
        return [self._children[self._leader].pid, *others]

    def _generator(self, work: Work, *more: str) -> Child:
        ordered = [self._leader, *(member for member in self._clients if member != self._leader)]
        command = [str(self._program), "-endpoints", ",".join(f"127.0.0.1:{self._clients[m]}" for m in ordered)]
        command += ["-operation", work.operation, "-clients", str(work.clients)]
        command += ["-value-bytes", str(work.value_bytes), "-warm", f"{work.warm_s}s", "-time", f"{work.seconds}s"]
        return Child([*command, *more], self._folder / "etcd-load.log")

    def load(self, work: Work) -> dict[str, float]:
        self._leader = self._find_leader()
        return run_load(self._generator(work), self.pids, work.seconds)[1]

    # For the gap at a failover.

    def gap_load(self, clients: int) -> Child:
        return self._generator(Work("put", clients, 0.0), "-timeout", _GAP_TIMEOUT)

    def kill_primary(self) -> int:
        leader = self._find_leader()
        self._children.pop(leader).kill()
        return leader

    def restart(self, member: int) -> None:
        self._spawn(member, "existing")
        self._leader = self._find_leader()

    def stop(self) -> None:
        for child in self._children.values():
            child.kill()
