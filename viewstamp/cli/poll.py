"""Asking every member how it sees itself, for `status` and for the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter_ns, time_ns

import trio

from viewstamp.shell.client import Client
from viewstamp.status import Status

_STEP_S = 0.02


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds. Bound it with `trio.move_on_after`."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes, without an event here
        await trio.sleep(_STEP_S)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A member's status, how long the question took, and how far its wall clock is ahead of ours."""

    status: Status
    round_trip_ns: int
    clock_skew_ns: int


async def poll(client: Client, members: Iterable[int], timeout_s: float) -> dict[int, Sighting]:
    """Ask these members at once; those that do not answer in time are missing from the result."""
    seen: dict[int, Sighting] = {}

    async def ask(member: int) -> None:
        asked_wall_ns, asked_ns = time_ns(), perf_counter_ns()
        status = await client.status(member)
        round_trip_ns = perf_counter_ns() - asked_ns
        # The member read its clock about half way between question and answer.
        skew_ns = status.wall_ns - (asked_wall_ns + round_trip_ns // 2)
        seen[member] = Sighting(status, round_trip_ns, skew_ns)

    with trio.move_on_after(timeout_s):
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(ask, member)
    return dict(sorted(seen.items()))


def primary_of(seen: Iterable[Status]) -> Status | None:
    """The member that orders commands, by its own account; the one of the highest view should two think so."""
    claims = [status for status in seen if status.primary == status.member and not status.waiting]
    return max(claims, key=lambda status: status.view, default=None)
