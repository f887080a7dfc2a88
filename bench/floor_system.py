"""The floor, and the bare primary, as systems: their three processes, started."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.cluster import free_ports
from bench.load import LoadRequest
from bench.processes import Child, python_module
from bench.system import Running, System, Work, run_load


@dataclass(frozen=True, slots=True)
class Floor(System):
    """The bare chain, batched or not."""

    batched: bool = True

    @property
    def name(self) -> str:  # type: ignore[override]  # a constant of the others
        return "floor" if self.batched else "floor, unbatched"

    def takes(self, work: Work) -> bool:
        # A read asks nobody's disk, and one request at a time is all that the unbatched chain can do.
        return work.operation != "get" and not work.shared and not work.inside and (self.batched or work.clients == 1)

    def start(self, folder: Path, machine: str) -> Running:
        return _RunningChain(folder, "floor", "primary-batched" if self.batched else "primary-unbatched")


class BarePrimary(System):
    """A primary with two backups in Python, without anything for the day on which something fails."""

    name = "bare primary"

    def takes(self, work: Work) -> bool:
        return work.operation == "increment" and not work.shared and not work.inside

    def start(self, folder: Path, machine: str) -> Running:
        return _RunningChain(folder, "bare_primary", "primary")


class _RunningChain(Running):
    """Three processes of module `bench.<kind>`; `kind` names their load, too."""

    def __init__(self, folder: Path, kind: str, role: str) -> None:
        self._folder = folder
        self._kind = kind
        ports = free_ports(3)
        self._port = ports[0]
        self._children: list[Child] = []
        try:
            self._start("backup", "2", ports[1], ports[0])
            self._start("backup", "3", ports[2], ports[0])
            self._start(role, "1", *ports)
        except BaseException:
            self.stop()
            raise

    def _start(self, role: str, number: str, *ports: int) -> None:
        command = python_module(f"bench.{self._kind}", role, str(self._folder / f"journal-{number}"), *map(str, ports))
        child = Child(command, self._folder / f"{self._kind}-{number}.log")
        self._children.insert(0, child)
        child.answer()

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def load(self, work: Work) -> dict[str, float]:
        request = LoadRequest(self._kind, str(self._port), work.operation, work.clients, work.seconds, work.warm_s)
        child = Child(python_module("bench.load", json.dumps(asdict(request))), self._folder / "load.log")
        return run_load(child, self.pids, work.seconds)[1]

    def stop(self) -> None:
        for child in self._children:
            child.kill()
