"""The gap in service when the primary is killed: how long no client of several gets anything done."""

from __future__ import annotations

import math
import time
from itertools import pairwise

from bench.cluster import TUNED_TIMEOUTS, Viewstamp
from bench.etcd import Etcd
from bench.figures import Table
from bench.processes import ChildError
from bench.pysyncobj_peer import PySyncObj
from bench.runner import Bench, Case, Goal
from bench.system import MissingError, Stoppable, System, load_from
from viewstamp.cluster import ClusterOptions

_KILLS = 10
_CLIENTS = 8
_BEFORE_S = 0.5
_AFTER_S = 2.5
_SETTING = "SIGKILL of the primary"


def failover(bench: Bench, table: Table) -> None:
    """Kill, wait, start again, and so on, under load; the gap is the longest that covers or follows the kill."""
    tuned = ClusterOptions(timeouts=TUNED_TIMEOUTS)
    systems: list[System] = [
        Viewstamp("vsr"),
        Viewstamp("raft"),
        Viewstamp("vsr", label="vsr, tuned", options=tuned),
        Viewstamp("raft", label="raft, tuned", options=tuned),
        Etcd(),
    ]
    if bench.options.full:
        systems += [PySyncObj(batching=False), PySyncObj(batching=False, tuned_timeouts=True)]
    systems = bench.wanted(systems)
    kills = math.ceil(_KILLS / bench.options.rounds) if bench.options.full else 1
    bench.begin(len(systems) * bench.options.rounds)
    for round_number in range(1, bench.options.rounds + 1):
        for system in systems:
            if not bench.step(f"{system.name}: failover, round {round_number}") or system.name in table.missing:
                continue
            machine = "kv" if isinstance(system, Etcd) else "counter"
            try:
                with bench.running(system, machine) as running:
                    if isinstance(running, Stoppable):
                        for gap_ms in gaps_ms(running, kills):
                            table.add(system.name, _SETTING, {"gap_ms": gap_ms})
            except MissingError as error:
                table.missing[system.name] = str(error)
            except ChildError as error:
                bench.failed(table, system.name, error)


def gaps_ms(running: Stoppable, kills: int) -> list[float]:
    """The gap of each of so many kills. Raises ChildError."""
    killed: list[int] = []
    with running.gap_load(_CLIENTS) as load:
        load.answer()
        load.tell({"go": True})
        for _ in range(kills):
            time.sleep(_BEFORE_S)
            killed.append(time.time_ns())
            member = running.kill_primary()
            time.sleep(_AFTER_S)
            running.restart(member)
        killed.append(time.time_ns())
        gaps = load_from(load.ask({"stop": True})).gaps
    return [
        max([(end - begin) / 1e6 for begin, end in gaps if end > kill and begin < following], default=0.0)
        for kill, following in pairwise(killed)
    ]


CASES = [
    Case(
        "failover",
        "the gap in service after SIGKILL of the primary, defaults and tuned, beside etcd",
        True,
        failover,
        [
            Goal("gap_ms", "vsr", "etcd", _SETTING, -0.4),
            Goal("gap_ms", "raft", "etcd", _SETTING, -0.4),
        ],
    )
]
