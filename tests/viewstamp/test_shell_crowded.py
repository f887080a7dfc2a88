"""More callers than a primary has room for, through the Trio shell: each is served in its turn."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from tests.viewstamp.running import Account, running
from viewstamp.protocol import Limits
from viewstamp.shell.client import Client


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
@pytest.mark.parametrize("room", [1, 4])
async def test_callers_beyond_what_the_pipeline_holds_are_served_in_turn(
    protocol: str, room: int, autojump_clock: MockClock
) -> None:
    """Where their requests are dropped and come again by the clients' clocks, some wait for seconds."""
    waits: list[float] = []

    async def work(client: Client) -> None:
        for _ in range(10):
            began = trio.current_time()
            await client.call(Account.deposit, 1)
            waits.append(trio.current_time() - began)

    async with (
        running(protocol=protocol, options={"limits": Limits(pipeline_entries=room)}) as cluster,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(cluster.open_client()) for _ in range(32)]
        for client in clients:
            await client.call(Account.deposit, 1)  # It has a session, and knows the primary.
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(work, client)
    assert len(waits) == 320
    assert max(waits) < 0.1
    assert max(waits) < 4 * sorted(waits)[160]
