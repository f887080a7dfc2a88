"""What is measured: Viewstamp under either protocol, its peers, and the floor, all behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.figures import Json, Load
from bench.processes import Child, Usage, usage


@dataclass(frozen=True, slots=True)
class Work:
    """One load. `operation`: "increment", "put" or "get". `clients` are independent, or with `shared` tasks that share
    one client, or with `inside` tasks of the primary's own process.
    """

    operation: str
    clients: int
    seconds: float
    warm_s: float = 0.3
    value_bytes: int = 16
    shared: bool = False
    inside: bool = False


class MissingError(Exception):
    """A peer is not installed; the message says what installs it."""


class Running(AbstractContextManager["Running"], ABC):
    """A system that was started. As a context manager it is stopped at the end."""

    @property
    @abstractmethod
    def pids(self) -> list[int]:
        """The processes that replicate, the primary first."""

    @abstractmethod
    def load(self, work: Work) -> dict[str, float]:
        """Load it, and say what was seen and what it cost. Raises ChildError."""

    @abstractmethod
    def stop(self) -> None:
        """End everything that was started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class System(ABC):
    """Something that can be started; `name` is its column."""

    name: str

    @abstractmethod
    def start(self, folder: Path, machine: str) -> Running:
        """Start it with its data in `folder`; `machine` is "counter" or "kv". Raises MissingError, ChildError."""

    def takes(self, work: Work) -> bool:
        """Whether this system can do that."""
        return not work.inside


class Stoppable(Running):
    """What can lose its primary and get it back: for the gap at a failover."""

    @abstractmethod
    def gap_load(self, clients: int) -> Child:
        """A load that runs until it is told to stop, and then tells its gaps."""

    @abstractmethod
    def kill_primary(self) -> int:
        """SIGKILL the primary; which one it was."""

    @abstractmethod
    def restart(self, member: int) -> None:
        """Start a killed member again and wait until it takes part."""


def load_from(answer: Json) -> Load:
    """The load that a generator printed."""
    known = {name: value for name, value in answer.items() if name in Load.__dataclass_fields__}
    return Load(**known)  # type: ignore[arg-type]  # it was made by asdict at the other end


def figures_of(load: Load, before: list[Usage], after: list[Usage]) -> dict[str, float]:
    """A load's figures with what the replicas cost meanwhile; the first of them is the primary."""
    cores = [(b.processor_s - a.processor_s) / load.seconds for a, b in zip(before, after, strict=True)]
    memory = [each.memory_bytes / 2**20 for each in after]
    result = {
        "per_second": load.per_second,
        "p50_us": load.p50_us,
        "p99_us": load.p99_us,
        "p999_us": load.p999_us,
        "generator_cores": load.generator_cores,
        "primary_cores": cores[0],
        "primary_mb": memory[0],
    }
    if load.completed:
        result["cpu_us_per_command"] = sum(cores) / load.per_second * 1e6
    if len(cores) > 1:
        result["backup_cores"] = max(cores[1:])
        result["backup_mb"] = max(memory[1:])
    return result


def run_load(child: Child, pids: list[int], seconds: float) -> tuple[Load, dict[str, float]]:
    """Wait for the end of a generator's warm-up, let it go, and summarise. Ends the child."""
    with child:
        child.answer(30.0)
        before = [usage(pid) for pid in pids]
        answer = child.ask({"go": True}, seconds + 30.0)
        after = [usage(pid) for pid in pids]
    load = load_from(answer)
    return load, figures_of(load, before, after)
