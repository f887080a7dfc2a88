"""What happens in a demo, in order: clients count, the primary is killed, comes back, and the next one is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic_ns

import trio

from statemachine import Counter
from viewstamp.cli.demo.display import Display
from viewstamp.cli.demo.load import Load, largest_gap_ns
from viewstamp.cli.demo.members import RUNNING, Members
from viewstamp.cli.poll import poll, primary_of, until
from viewstamp.shell.client import Client
from viewstamp.status import Status

_MILLISECOND = 1_000_000
_STEP_S = 0.02
_POLL_S = 0.25
_WATCH_EVERY_S = 0.15
_WATCH_TIMEOUT_S = 0.4
_SETTLE_S = 0.5
_READY_WITHIN_S = 6.0
_SERVICE_WITHIN_S = 6.0
_REJOIN_WITHIN_S = 5.0
_AGREE_WITHIN_S = 5.0
_DRAIN_WITHIN_S = 5.0
_DEAD_S = 1.0
_FROZEN_S = 2.0


class DemoFailedError(Exception):
    """The cluster did not do in time what it should."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When things happen, in seconds of load, or earlier where that share of the increments asked for is made."""

    kill_s: float = 1.5
    freeze_s: float = 5.0
    end_s: float = 10.0
    kill_share: float = 1 / 6
    freeze_share: float = 1 / 2


class Script:
    """One demo on started members. `seen` is how each member saw itself last; `gaps_ms` what was measured."""

    def __init__(self, members: Members, load: Load, control: Client, display: Display, total: int | None) -> None:
        self._members = members
        self._load = load
        self._control = control
        self._display = display
        self._total = total
        self.seen: dict[int, Status] = {}
        self.gaps_ms: list[float] = []

    async def watch(self, member: int) -> None:
        """Keep `seen` fresh for one member; until cancelled."""
        while True:
            status: Status | None = None
            with trio.move_on_after(_WATCH_TIMEOUT_S):
                status = await self._control.status(member)
            if status is None:
                self.seen.pop(member, None)
            else:
                self.seen[member] = status
            await trio.sleep(_WATCH_EVERY_S)

    async def wait_ready(self) -> int:
        """Wait until all members agree on a primary; returns it."""
        with trio.move_on_after(_READY_WITHIN_S):
            while True:
                seen = await poll(self._control, self._members.ids, _POLL_S)
                primaries = {sighting.status.primary for sighting in seen.values()}
                if len(seen) == len(self._members.ids) and len(primaries) == 1 and 0 not in primaries:
                    return primaries.pop()
                await trio.sleep(_STEP_S)
        raise DemoFailedError(f"the cluster was not ready within {_READY_WITHIN_S:g} s: {self._complaints()}")

    async def play(self, pace: Pace, latest_end_s: float) -> None:
        """The failures, beside the running load, and its end. `latest_end_s`: seconds of load at most."""
        load, total = self._load, self._total
        self._allow(1 / 3)
        await self._reached(pace.kill_s, pace.kill_share)
        killed = await self._kill_primary()
        await self._restart(killed)
        await self._reached(pace.freeze_s, pace.freeze_share)
        await self._freeze_primary()
        end_s = latest_end_s if total is not None else pace.end_s
        with trio.move_on_after(end_s - self._load_s()):
            await load.finished.wait()
        if not load.finished.is_set():
            self._display.say("time is up: no more increments are started")
            load.stop()
            with trio.move_on_after(_DRAIN_WITHIN_S):
                await load.finished.wait()

    def _load_s(self) -> float:
        began_ns = self._load.began_ns
        return (monotonic_ns() - began_ns) / 1e9 if began_ns else 0.0

    async def _reached(self, load_s: float, share: float) -> None:
        """Wait for that share of the increments if a number was asked for, and no longer than that time."""
        goal = None if self._total is None else int(self._total * share)
        await until(lambda: self._load_s() >= load_s or (goal is not None and self._load.acknowledged >= goal))

    async def _primary(self) -> int:
        with trio.move_on_after(_SERVICE_WITHIN_S):
            while True:
                seen = await poll(self._control, self._running(), _POLL_S)
                primary = primary_of(sighting.status for sighting in seen.values())
                if primary is not None:
                    return primary.member
                await trio.sleep(_STEP_S)
        raise DemoFailedError(f"there is no primary: {self._complaints()}")

    def _running(self) -> list[int]:
        return [member for member, state in self._members.state.items() if state == RUNNING]

    def _allow(self, share: float) -> None:
        """Let the clients go on up to this share of the increments, if a number was asked for.

        Some are allowed just before a failure, so that it comes under load, and some after it, so that even the
        shortest run has somebody who misses the service.
        """
        self._load.allow(None if self._total is None else int(self._total * share))

    async def _count_on(self, share: float) -> None:
        load, before = self._load, self._load.acknowledged
        self._allow(share)
        with trio.move_on_after(_POLL_S):
            await until(lambda: load.acknowledged > before or load.idle)

    async def _kill_primary(self) -> int:
        load = self._load
        primary = await self._primary()
        await self._count_on(1 / 2)
        made, since_ns = load.acknowledged, load.waiting_since_ns
        await self._members.kill(primary)
        failed_ns = monotonic_ns()
        self._allow(2 / 3)
        self._display.say(f"SIGKILL of member {primary}, the primary, after {made:,} acknowledged increments")
        await self._measure_gap(since_ns, failed_ns)
        await trio.sleep(_DEAD_S)
        return primary

    async def _restart(self, member: int) -> None:
        await self._members.start(member)
        self._display.say(f"member {member} started again from its journal")
        await self._rejoined(member)

    async def _freeze_primary(self) -> None:
        load, members = self._load, self._members
        primary = await self._primary()
        await self._count_on(5 / 6)
        made, since_ns = load.acknowledged, load.waiting_since_ns
        members.freeze(primary)
        failed_ns = monotonic_ns()
        self._allow(1)
        self._display.say(f"SIGSTOP of member {primary}, the primary, after {made:,} acknowledged increments")
        await self._measure_gap(since_ns, failed_ns)
        await trio.sleep(max(0.0, _FROZEN_S - (monotonic_ns() - failed_ns) / 1e9))
        members.thaw(primary)
        self._display.say(f"SIGCONT of member {primary}: it goes on as if no time had passed")
        await self._rejoined(primary)

    async def _measure_gap(self, since_ns: int, failed_ns: int) -> None:
        """Wait until service is back and has settled, and note the longest time without it around the failure.

        Answers that were on their way come in after the failure too. So it is back when a call that was begun after
        the failure is answered.
        """
        load = self._load
        with trio.move_on_after(_SERVICE_WITHIN_S) as scope:
            await until(lambda: load.last_answered_call_ns > failed_ns or load.idle)
        if scope.cancelled_caught:
            raise DemoFailedError(f"no service within {_SERVICE_WITHIN_S:g} s: {self._complaints()}")
        with trio.move_on_after(_SETTLE_S):
            await until(lambda: load.paused)  # Clients that were told to pause are no gap in service.
        gap_ns = largest_gap_ns(load.acknowledged_ns, since_ns, monotonic_ns())
        if gap_ns is not None:
            gap_ms = round(gap_ns / _MILLISECOND, 1)
            self.gaps_ms.append(gap_ms)
            self._display.say(
                f"served again: {gap_ms:.0f} ms without service, member {await self._primary()} is primary"
            )

    async def _rejoined(self, member: int) -> None:
        """Wait until a member has caught up with what was committed when it came back."""
        target = max((status.commit for status in self.seen.values()), default=0)

        def caught_up() -> bool:
            status = self.seen.get(member)
            return status is not None and status.primary != 0 and status.applied >= target

        with trio.move_on_after(_REJOIN_WITHIN_S) as scope:
            await until(caught_up)
        if scope.cancelled_caught:
            raise DemoFailedError(f"member {member} did not come back: {self._complaints()}")
        self._display.say(f"member {member} has caught up")

    async def agree(self) -> None:
        """Wait until all members have applied the same operations, and have the same to show for it."""
        with trio.move_on_after(_AGREE_WITHIN_S):
            while True:
                seen = await poll(self._control, self._members.ids, _POLL_S)
                if len(seen) == len(self._members.ids):
                    states = {(sighting.status.applied, sighting.status.digest) for sighting in seen.values()}
                    if len(states) == 1:
                        return
                await trio.sleep(_STEP_S)
        raise DemoFailedError(f"the members did not come to agree: {self._complaints()}")

    async def values(self) -> dict[int, int | None]:
        """The counter as each member reads it from its own state; None from one that does not answer."""
        values: dict[int, int | None] = dict.fromkeys(self._members.ids)

        async def ask(member: int) -> None:
            values[member] = await self._control.read_from(member, Counter.get)

        with trio.move_on_after(_AGREE_WITHIN_S):
            async with trio.open_nursery() as nursery:
                for member in self._members.ids:
                    nursery.start_soon(ask, member)
        return values

    def _complaints(self) -> str:
        """How the members see themselves, in a line."""
        told: list[str] = []
        for member in self._members.ids:
            status = self.seen.get(member)
            if status is None:
                told.append(f"member {member}: no answer ({self._members.state[member]})")
            else:
                place = f"view {status.view}, op {status.op}, commit {status.commit}, applied {status.applied}"
                told.append(f"member {member}: {status.status} {status.role}, {place}, {status.waiting or 'content'}")
        return "; ".join(told)
