"""The floor as a system: its three processes, started."""

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
        return _RunningFloor(folder, "primary-batched" if self.batched else "primary-unbatched")


class _RunningFloor(Running):
    def __init__(self, folder: Path, role: str) -> None:
        self._folder = folder
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
        command = python_module("bench.floor", role, str(self._folder / f"journal-{number}"), *map(str, ports))
        child = Child(command, self._folder / f"floor-{number}.log")
        self._children.insert(0, child)
        child.answer()

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def load(self, work: Work) -> dict[str, float]:
        request = LoadRequest("floor", str(self._port), work.operation, work.clients, work.seconds, work.warm_s)
        child = Child(python_module("bench.load", json.dumps(asdict(request))), self._folder / "load.log")
        return run_load(child, self.pids, work.seconds)[1]

    def stop(self) -> None:
        for child in self._children:
            child.kill()
