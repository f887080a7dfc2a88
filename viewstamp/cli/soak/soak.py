"""One protocol's soak: processes, proxy, clients and faults put together, and the scan at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic_ns
from typing import cast

import trio

from statemachine import Value
from transport import Address
from viewstamp.cli.demo.members import MemberEndedError, Members
from viewstamp.cli.soak.checks import check_all
from viewstamp.cli.soak.failures import Failures
from viewstamp.cli.soak.findings import CRASH, LIVENESS, SAFETY, Finding
from viewstamp.cli.soak.load import Call, Load
from viewstamp.cli.soak.machine import SoakStore
from viewstamp.cli.soak.proxy import CONTROL, KeptTransport, Proxy, open_proxy
from viewstamp.cli.soak.result import GOOD, Result
from viewstamp.cli.soak.rounds import Rounds
from viewstamp.cli.soak.watch import Watch
from viewstamp.cli.soak.weather import CALM, Parties, Weather
from viewstamp.shell.client import Client, open_client
from viewstamp.simulation.history import Json, write_history

_MACHINE = f"{SoakStore.__module__}:{SoakStore.__qualname__}"
_DATAGRAM_BYTES = 1200  # as on a wire, so that larger messages come in fragments
_SNAPSHOT_ENTRIES = 300  # often, so that whoever was away is sent a snapshot
_FOUNDED_WITHIN_S = 30.0
_DRAINED_WITHIN_S = 20.0
_AGREED_WITHIN_S = 20.0
_SCANNED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to soak, for how long. The seed fixes which faults are drawn, not how processes and clients interleave."""

    protocol: str
    members: int
    clients: int
    seconds: float
    seed: int


class Soak:
    """One run under `folder`, which must exist. `problem` is what it found, if anything."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._began_ns = monotonic_ns()
        self._members: Members | None = None
        self._load: Load | None = None
        self._watch: Watch | None = None
        self._rounds: Rounds | None = None
        self._datagrams: Counter[str] = Counter()
        self._doing = "starting"
        self.problem: Finding | None = None

    async def run(self) -> None:
        """All of it; every process has ended afterwards. What is wrong is in `problem`, not raised.

        Raises:
          TransportError: there are no free ports.
        """
        found: list[Finding] = []
        try:
            async with open_proxy(self._plan.seed, CALM) as proxy:
                await self._run(proxy)
        except* Finding as group:
            found = list(_leaves(group))
        if self._members is not None and not found:
            for member in self._members.ids:
                if "Traceback" in self._members.log_file(member).read_text(encoding="utf-8", errors="replace"):
                    found = [Finding(CRASH, f"there is a traceback in member {member}'s log")]
        # A member that ends by itself explains a silence that somebody else complains about.
        self.problem = min(found, key=lambda each: (CRASH, SAFETY, LIVENESS).index(each.kind), default=None)
        if self.problem is not None:
            self._say(f"found {self.problem}")

    def progress(self) -> str:
        """Where it is, in a line."""
        seconds = (monotonic_ns() - self._began_ns) / 1e9
        line = f"{self._plan.protocol}  {seconds:5.1f} s"
        if self._load is not None and self._watch is not None and self._rounds is not None:
            line += f"  {self._load.acknowledged:7,} acknowledged  {self._watch.view_changes:4,} view changes"
            line += f"  {self._rounds.counts.total():4,} faults"
        return f"{line}  {self._doing}"

    def write_history(self, path: Path) -> None:
        """Write every operation so far.

        Raises:
          OSError: the file cannot be written.
        """
        write_history(path, self._load.history() if self._load is not None else ())

    def result(self, kept: Path | None) -> Result:
        """What it came to; `kept` is the folder that was left for whoever looks into it."""
        load, watch, rounds, plan = self._load, self._watch, self._rounds, self._plan
        return Result(
            protocol=plan.protocol,
            members=plan.members,
            clients=plan.clients,
            seed=plan.seed,
            seconds=round((monotonic_ns() - self._began_ns) / 1e9, 1),
            acknowledged=load.acknowledged if load is not None else 0,
            unknown=load.unknown if load is not None else 0,
            view_changes=watch.view_changes if watch is not None else 0,
            snapshots=len(watch.snapshots) if watch is not None else 0,
            snapshots_received=len(watch.received) if watch is not None else 0,
            faults=dict(rounds.counts) if rounds is not None else {},
            datagrams=dict(self._datagrams),
            longest_gap_s=round(load.longest_gap_ns / 1e9, 3) if load is not None else 0.0,
            longest_recovery_s=round(rounds.longest_recovery_s, 3) if rounds is not None else 0.0,
            verdict=self.problem.kind if self.problem is not None else GOOD,
            explanation=self.problem.sentence if self.problem is not None else "",
            kept=kept,
        )

    async def _run(self, proxy: Proxy) -> None:
        plan = self._plan
        # All sockets of ours before the members' ports are chosen, so that we take none of those.
        advertised = [await proxy.admit(member) for member in range(1, plan.members + 1)]
        names = [f"client {number}" for number in range(1, plan.clients + 1)]
        async with _open_sockets(proxy, [CONTROL, *names]) as (mine, *theirs):
            members = self._members = Members(
                self._folder / "members",
                plan.protocol,
                plan.members,
                machine=_MACHINE,
                advertised=advertised,
                datagram_bytes=_DATAGRAM_BYTES,
                snapshot_entries=_SNAPSHOT_ENTRIES,
            )
            for member in members.cluster.members:
                proxy.locate(member.id, member.bind_address)
            load = self._load = Load(members.cluster, theirs, plan.seed)
            try:
                for number in members.ids:
                    await members.start(number)
                async with open_client(members.cluster, SoakStore, transport=mine) as control:
                    await self._play(proxy, members, load, control, Parties(members.ids, names))
            finally:
                await members.stop_all()
                self._datagrams.update(proxy.network.statistics())

    async def _play(self, proxy: Proxy, members: Members, load: Load, control: Client, parties: Parties) -> None:
        watch = self._watch = Watch(control, members.ids)
        random = Random(self._plan.seed)
        weather = Weather(proxy.network, parties, lambda: watch.primary, random)
        failures = Failures(members, load, len(parties.clients), watch, random)
        rounds = self._rounds = Rounds(weather, failures, load, watch, random, self._say)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            nursery.start_soon(_watch_processes, members)
            await watch.caught_up(_FOUNDED_WITHIN_S)
            async with trio.open_nursery() as loading:
                loading.start_soon(load.run)
                await rounds.run(self._plan.seconds)
                self._say("faults are over; waiting for the last answers")
                load.stop()
                loading.cancel_scope.deadline = trio.current_time() + _DRAINED_WITHIN_S
            if loading.cancel_scope.cancelled_caught:
                raise Finding(LIVENESS, f"the last calls were not answered: {watch.complaints()}")
            self._say("waiting for the members to agree")
            await watch.agree(_AGREED_WITHIN_S)
            await self._scan(members, load, control)
            nursery.cancel_scope.cancel()

    async def _scan(self, members: Members, load: Load, control: Client) -> None:
        """Read everything from every member, and check the whole history."""
        keys = sorted({call.key for call in load.calls})
        self._say(f"reading {len(keys)} keys from every member")
        scans: dict[int, dict[str, Value]] = {member: {} for member in members.ids}

        async def scan(member: int) -> None:
            reader = load.new_number()
            for key in keys:
                call = Call(reader, "read" if key.startswith("counter") else "get", key)
                load.begin(call)
                if call.op == "read":
                    scans[member][key] = call.out = await control.read_from(member, SoakStore.read, key)
                else:
                    found = await control.read_from(member, SoakStore.get, key)
                    scans[member][key] = None if found is None else found["value"]
                    call.out = cast("Json", found)
                call.ok = True
                load.end(call)

        with trio.move_on_after(_SCANNED_WITHIN_S) as scope:
            async with trio.open_nursery() as nursery:
                for member in members.ids:
                    nursery.start_soon(scan, member)
        if scope.cancelled_caught:
            raise Finding(LIVENESS, f"the members do not answer reads within {_SCANNED_WITHIN_S:g} s")
        self._say("checking the history")
        await trio.to_thread.run_sync(check_all, load.history(), scans, abandon_on_cancel=True)

    def _say(self, text: str) -> None:
        """Note what happens, with the clock of the history."""
        self._doing = text
        with (self._folder / "events.log").open("a", encoding="utf-8") as file:
            file.write(f"{monotonic_ns()} {(monotonic_ns() - self._began_ns) / 1e9:8.3f} s  {text}\n")


@asynccontextmanager
async def _open_sockets(proxy: Proxy, names: Sequence[Address]) -> AsyncGenerator[list[KeptTransport], None]:
    """A socket for each of these parties, known to the proxy."""
    opened: list[KeptTransport] = []
    try:
        for name in names:
            transport = await KeptTransport.open_kept()
            opened.append(transport)
            await proxy.admit(name)
            proxy.locate(name, transport.address)
        yield opened
    finally:
        for transport in opened:
            transport.give_up()


async def _watch_processes(members: Members) -> None:
    try:
        await members.watch()
    except MemberEndedError as error:
        raise Finding(CRASH, f"{error}; the end of its log:\n{error.log}") from error


def _leaves(group: BaseExceptionGroup[Finding]) -> Iterator[Finding]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each
