"""Cases about size: more members, larger values, more sessions."""

from __future__ import annotations

from bench.cluster import RunningCluster, Viewstamp, both_protocols
from bench.figures import Table
from bench.processes import ChildError
from bench.runner import Bench, Case
from bench.system import Work
from viewstamp.cluster import ClusterOptions
from viewstamp.protocol import Limits

_MEMBERS = (1, 3, 5, 7)
_VALUES = {"16 B": 16, "1 KB": 1000, "16 KB": 16_000, "128 KB": 128_000, "1 MB": 1_000_000}
_SESSIONS = (1, 10, 100, 1000, 10_000)
_OPENED_AT_ONCE = 250


def members(bench: Bench, table: Table) -> None:
    """Clusters of 1 to 7, all on this machine: the cost of a command grows with the number of members."""
    settings = {
        "1 client": Work("increment", 1, bench.options.seconds),
        "64 clients": Work("increment", 64, bench.options.seconds),
    }
    systems = [
        Viewstamp(protocol, members=count, label=f"{protocol}, {count} member{'s' if count > 1 else ''}")
        for protocol in ("vsr", "raft")
        for count in _MEMBERS
    ]
    bench.compare(table, systems, "counter", settings)


def value_size(bench: Bench, table: Table) -> None:
    """Puts by 4 clients with values of 16 bytes to 1 MB."""
    limits = Limits(page_bytes=1 << 20, pipeline_bytes=64 << 20)
    options = ClusterOptions(max_command_bytes=1 << 20, limits=limits)
    settings = {
        name: Work("put", 4, bench.options.seconds, value_bytes=value_bytes) for name, value_bytes in _VALUES.items()
    }
    systems = [Viewstamp(protocol, options=options) for protocol in ("vsr", "raft")]
    bench.compare(table, systems, "kv", settings)


def sessions(bench: Bench, table: Table) -> None:
    """64 clients as the table of sessions grows to 10,000."""
    options = ClusterOptions(max_sessions=2 * max(_SESSIONS))
    systems = bench.wanted([Viewstamp(each.protocol, options=options) for each in both_protocols()])
    bench.begin(len(systems) * len(_SESSIONS))
    for system in systems:
        try:
            with bench.running(system, "counter") as running:
                opened = 0
                for count in _SESSIONS:
                    if not (isinstance(running, RunningCluster) and bench.step(f"{system.name}: {count} sessions")):
                        continue
                    while opened < count:
                        more = min(_OPENED_AT_ONCE, count - opened)
                        running.load(Work("increment", more, 0.01, warm_s=0.0))
                        opened += more
                    for _ in range(bench.options.rounds):
                        figures = running.load(Work("increment", 64, bench.options.seconds))
                        table.add(system.name, f"{count} idle sessions", figures)
        except ChildError as error:
            bench.failed(table, system.name, error)


CASES = [
    Case("members", "clusters of 1, 3, 5 and 7 members", False, members),
    Case("value-size", "puts of 16 bytes to 1 MB by 4 clients", False, value_size),
    Case("sessions", "64 clients beside 1 to 10,000 idle sessions", False, sessions),
]
