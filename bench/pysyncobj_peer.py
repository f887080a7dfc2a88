"""PySyncObj beside it: its callers live in the leader's own process, which is where it is fastest.

`python -m bench.pysyncobj_peer` is one of its three processes, told by JSON objects on the standard input. It never
syncs its journal, so its figures are those of a system that loses acknowledged commands with the power.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.cluster import free_ports
from bench.figures import Json, load_of
from bench.processes import Child, ChildError, python_module, usage
from bench.system import MissingError, Running, Stoppable, System, Work, figures_of, load_from
from viewstamp.cli.serve import settle_memory

INSTALL = "pip install 'viewstamp[bench]'"


@dataclass(frozen=True, slots=True)
class PySyncObj(System):
    """Three members. `batching` is its default, which gathers calls until its next period, 100 ms unless
    `period_ms` says otherwise; without, each call is sent at once.
    """

    batching: bool = True
    journal: bool = False
    tuned_timeouts: bool = False
    period_ms: int = 0

    @property
    def name(self) -> str:  # type: ignore[override]  # a constant of the others
        kind = "PySyncObj" if self.batching else "PySyncObj unbatched"
        kind += f", every {self.period_ms} ms" if self.period_ms else ""
        return kind + (", journal" if self.journal else "") + (", tuned" if self.tuned_timeouts else "")

    def takes(self, work: Work) -> bool:
        return work.operation == "increment" and work.inside

    def start(self, folder: Path, machine: str) -> Running:
        if find_spec("pysyncobj") is None:
            raise MissingError(f"not installed: {INSTALL}")
        return RunningPySyncObj(self, folder)


class RunningPySyncObj(Stoppable):
    """The three processes, and for the gap at a failover a fourth one that calls."""

    def __init__(self, system: PySyncObj, folder: Path) -> None:
        self._system = system
        self._folder = folder
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(3, socket.SOCK_STREAM)]
        self._children: dict[int, Child] = {}
        try:
            for member in (1, 2, 3):
                self._spawn(member)
            self._leader = self._find_leader()
        except BaseException:
            self.stop()
            raise

    def _command(self, member: int) -> list[str]:
        options: Json = {"appendEntriesUseBatch": self._system.batching}
        if self._system.journal:
            options["journalFile"] = str(self._folder / f"pysyncobj-{member}.journal")
        if self._system.period_ms:
            options["appendEntriesPeriod"] = self._system.period_ms / 1e3
        if self._system.tuned_timeouts:
            options |= {"raftMinTimeout": 0.06, "raftMaxTimeout": 0.1, "appendEntriesPeriod": 0.015}
            options |= {"connectionRetryTime": 0.1}
        if not member:  # The one that only calls: its own patience is not what is measured.
            options["connectionRetryTime"] = 0.05
        own = self._addresses[member - 1] if member else ""
        others = [address for address in self._addresses if address != own]
        return python_module("bench.pysyncobj_peer", json.dumps(options), own, *others)

    def _spawn(self, member: int) -> None:
        self._children[member] = Child(self._command(member), self._folder / f"pysyncobj-{member}.log")

    def _find_leader(self) -> int:
        until = time.monotonic() + 20.0
        while time.monotonic() < until:
            answers = {member: child.ask({"do": "standing"}) for member, child in self._children.items()}
            if all(answer["leader"] for answer in answers.values()):
                for member, answer in answers.items():
                    if answer["leader"] == self._addresses[member - 1]:
                        return member
            time.sleep(0.02)
        raise ChildError("PySyncObj: no leader within 20 s")

    @property
    def pids(self) -> list[int]:
        others = [child.pid for member, child in self._children.items() if member != self._leader]
        return [self._children[self._leader].pid, *others]

    def load(self, work: Work) -> dict[str, float]:
        self._leader = self._find_leader()
        before = [usage(pid) for pid in self.pids]
        answer = self._children[self._leader].ask({"do": "load", **asdict(work)}, work.seconds + work.warm_s + 30.0)
        return figures_of(load_from(answer), before, [usage(pid) for pid in self.pids])

    # For the gap at a failover.

    def gap_load(self, clients: int) -> Child:
        child = Child(self._command(0), self._folder / "pysyncobj-load.log")
        child.tell({"do": "load", **asdict(Work("increment", clients, 0.0))})
        return child

    def kill_primary(self) -> int:
        leader = self._find_leader()
        self._children.pop(leader).kill()
        return leader

    def restart(self, member: int) -> None:
        self._spawn(member)
        self._leader = self._find_leader()

    def stop(self) -> None:
        for child in self._children.values():
            child.kill()


class _Node:
    """One process of PySyncObj: ticked here, without its thread, so that calls and ticks share one."""

    def __init__(self, options: Json, own: str, others: list[str]) -> None:
        # By name: the other processes do without it, and so does whoever has not installed it.
        library: Any = import_module("pysyncobj")
        replicated = library.replicated

        class CounterObject(library.SyncObj):  # type: ignore[misc]  # it has no types
            def __init__(self) -> None:
                super().__init__(own or None, others, conf=library.SyncObjConf(autoTick=False, **options))
                self.value = 0

            @replicated  # type: ignore[untyped-decorator]  # it has no types
            def add(self, amount: int) -> int:
                self.value += amount
                return self.value

        self.counter: Any = CounterObject()

    def tick(self) -> None:
        """One turn; waits at most a millisecond for something to read."""
        self.counter.doTick(0.001)

    @property
    def leader(self) -> str:
        """The leader's address, empty if there is none."""
        leader = self.counter._getLeader()  # noqa: SLF001 - it has no public name for it
        return str(leader) if leader is not None else ""


def _input_waits() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _load(node: _Node, clients: int, warm_s: float, over: Callable[[float], bool]) -> Json:
    """So many callers, each beginning its next call when the one before is over; a failed call is made again."""
    clock = time.perf_counter_ns
    latencies: list[int] = []
    gaps: list[tuple[int, int]] = []
    measured_from = clock() + int(warm_s * 1e9)
    last = 0

    def begin() -> None:
        began = clock()

        def ended(_: object, error: object) -> None:
            nonlocal last
            now = clock()
            if error == 0 and now >= measured_from:
                latencies.append(now - began)
                wall = time.time_ns()
                if last and wall - last >= 20_000_000:
                    gaps.append((last, wall))
                last = wall
            ready.append(None)

        node.counter.add(1, callback=ended)

    ready: list[None] = [None] * clients
    processor, began = time.process_time(), 0.0
    while True:
        now = clock()
        if not began and now >= measured_from:
            processor, began = time.process_time(), time.perf_counter()
        if began and over(time.perf_counter() - began):
            break
        for _ in range(len(ready)):
            ready.pop()
            begin()
        node.tick()
    took = time.perf_counter() - began
    load = asdict(load_of(latencies, took, time.process_time() - processor))
    return {**load, "gaps": gaps}


def main() -> None:
    """Arguments: options as JSON, the own address (empty for one that only calls), the others' addresses."""
    options, own, *others = sys.argv[1:]
    node = _Node(json.loads(options), own, others)
    settle_memory()  # as the members beside it
    os.set_blocking(sys.stdin.fileno(), True)
    while True:
        node.tick()
        if not _input_waits():
            continue
        line = sys.stdin.readline()
        if not line:
            return
        request = json.loads(line)
        if request["do"] == "load":
            seconds = request["seconds"]
            if not seconds:
                print("{}", flush=True)
                sys.stdin.readline()

            def over(elapsed_s: float, seconds: float = seconds) -> bool:
                return elapsed_s >= seconds if seconds else _input_waits()

            print(json.dumps(_load(node, request["clients"], request["warm_s"], over)), flush=True)
        else:
            print(json.dumps({"leader": node.leader}), flush=True)


if __name__ == "__main__":
    main()
