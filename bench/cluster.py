"""Viewstamp clusters of real processes on this machine, for measurements."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from bench.figures import Json
from bench.load import LoadRequest
from bench.processes import Child, ChildError, python_module, usage
from bench.system import Stoppable, System, Work, figures_of, load_from, run_load
from viewstamp.cluster import Cluster, ClusterOptions
from viewstamp.protocol import MILLISECOND, Timeouts

TUNED_TIMEOUTS = Timeouts(
    heartbeat=15 * MILLISECOND, suspect=45 * MILLISECOND, jitter=15 * MILLISECOND, retry=15 * MILLISECOND
)
"""For a quiet local network; on a busy machine they depose a primary that is merely slow."""


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[int]:
    """Ports on loopback that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(frozen=True, slots=True)
class Viewstamp(System):
    """Viewstamp under one protocol. `options` go into the cluster file."""

    protocol: str
    members: int = 3
    label: str = ""
    options: ClusterOptions = field(default_factory=ClusterOptions)

    @property
    def name(self) -> str:  # type: ignore[override]  # a constant of the others
        return self.label or self.protocol

    def takes(self, work: Work) -> bool:
        return True

    def start(self, folder: Path, machine: str) -> RunningCluster:
        addresses = [("127.0.0.1", port) for port in free_ports(self.members)]
        cluster = Cluster.make("bench", self.protocol, addresses, **self.options)
        return RunningCluster(cluster, folder, machine)


class RunningCluster(Stoppable):
    """The members' processes; their data lies in folders named after them."""

    def __init__(self, cluster: Cluster, folder: Path, machine: str) -> None:
        self.cluster = cluster
        self.folder = folder
        self._machine = machine
        self.file = folder / "cluster.toml"
        self.file.write_text(cluster.to_toml())
        self.children: dict[int, Child] = {}
        try:
            for member in cluster.members:
                self.spawn(member.id)
            for child in self.children.values():
                child.ask({"do": "wait_ready"})
            self._primary = self.find_primary()
        except BaseException:
            self.stop()
            raise

    def spawn(self, member: int) -> Child:
        """Start the process of one member."""
        data = str(self.folder / f"member-{member}")
        command = python_module("bench.member", str(self.file), str(member), data, self._machine)
        self.children[member] = Child(command, self.folder / f"member-{member}.log")
        return self.children[member]

    def find_primary(self, timeout_s: float = 20.0) -> int:
        """The member that leads, waited for."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            for member, child in self.children.items():
                if child.ask({"do": "statistics"})["leads"]:
                    return member
            time.sleep(0.02)
        raise ChildError(f"no primary within {timeout_s:.0f} s")

    @property
    def pids(self) -> list[int]:
        first = self._primary
        others = [child.pid for member, child in sorted(self.children.items()) if member != first]
        return [self.children[first].pid, *others]

    def statistics(self, member: int) -> dict[str, float]:
        """The counts of one member."""
        return cast("dict[str, float]", self.children[member].ask({"do": "statistics"}))

    def load(self, work: Work) -> dict[str, float]:
        self._primary = self.find_primary()
        if work.inside:
            return self._load_inside(work)
        kind = "shared" if work.shared else "viewstamp"
        request = LoadRequest(
            kind, str(self.file), work.operation, work.clients, work.seconds, work.warm_s, work.value_bytes
        )
        child = Child(python_module("bench.load", json.dumps(asdict(request))), self.folder / "load.log")
        before = [self.statistics(member) for member in self.children]
        load, figures = run_load(child, self.pids, work.seconds)
        after = [self.statistics(member) for member in self.children]
        # Counted over warm-up and measurement alike, and divided by what was applied in both. Reads are in no log.
        applied = after[0]["applied"] - before[0]["applied"]
        if work.operation != "get" and applied:
            primary = list(self.children).index(self._primary)
            figures["syncs_per_command"] = (after[primary]["writes"] - before[primary]["writes"]) / applied
            generator = {"datagrams_out": load.datagrams_out, "bytes_out": load.bytes_out}
            for name, sent in generator.items():
                replicas = sum(b[name] - a[name] for a, b in zip(before, after, strict=True))
                key = name.replace("_out", "_per_command")
                figures[key] = replicas / applied + sent / max(load.completed, 1)
        return figures

    def _load_inside(self, work: Work) -> dict[str, float]:
        primary = self.children[self._primary]
        before = [usage(pid) for pid in self.pids]
        request: Json = {"do": "load", **asdict(work)}
        load = load_from(primary.ask(request, work.seconds + work.warm_s + 30.0))
        figures = figures_of(load, before, [usage(pid) for pid in self.pids])
        share = work.seconds / (work.seconds + work.warm_s)  # these costs are of the warm-up, too
        for name in ("primary_cores", "backup_cores", "cpu_us_per_command"):
            if name in figures:
                figures[name] *= share
        return figures

    # For the gap at a failover.

    def gap_load(self, clients: int) -> Child:
        operation = "increment" if self._machine == "counter" else "put"
        request = LoadRequest("viewstamp", str(self.file), operation, clients, 0.0)
        return Child(python_module("bench.load", json.dumps(asdict(request))), self.folder / "load.log")

    def kill_primary(self) -> int:
        member = self.find_primary()
        self.children.pop(member).kill()
        return member

    def restart(self, member: int) -> None:
        applied = self.statistics(next(iter(self.children)))["applied"]
        child = self.spawn(member)
        child.ask({"do": "wait_ready"})
        child.ask({"do": "wait_applied", "op": applied}, 60.0)

    def erase(self, member: int) -> None:
        """Remove a stopped member's data."""
        shutil.rmtree(self.folder / f"member-{member}")

    def stop(self) -> None:
        for child in self.children.values():
            child.kill()


def both_protocols(protocols: Sequence[str] = ("vsr", "raft")) -> list[Viewstamp]:
    """One system for each protocol, with defaults."""
    return [Viewstamp(protocol) for protocol in protocols]


def both_in_memory(protocols: Sequence[str] = ("vsr", "raft")) -> list[Viewstamp]:
    """The same with `storage = "memory"`: they write and sync nothing."""
    return [Viewstamp(protocol, label=f"{protocol}, memory", options={"storage": "memory"}) for protocol in protocols]
