"""Calls of many tasks through the Trio shell: what travels together, and that each task hears of its own alone."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from statemachine import CommandFailedError, NotExecutedError
from tests.viewstamp.running import Account, InsufficientFunds, Running, Stranger, running


def applied(cluster: Running) -> int:
    return max(replica.status().applied for replica in cluster.replicas.values())


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
@pytest.mark.parametrize("home", [0, 1, 2])
async def test_each_of_many_tasks_has_its_own_result(protocol: str, home: int, autojump_clock: MockClock) -> None:
    """`home` is the member whose own session they share; 0 for that of a client."""
    balances: list[int] = []
    others = 0

    async with running(protocol=protocol) as cluster, cluster.open_client() as client:
        caller = cluster.replicas[home] if home else client

        async def deposit() -> None:
            for _ in range(10):
                balance = await caller.call(Account.deposit, 1)
                balances.append(balance)

        async def fail(number: int) -> None:
            nonlocal others
            for turn in range(10):
                text = "x" * (number + turn)
                assert await caller.call(Account.note, text) == len(text)
                with pytest.raises(InsufficientFunds):
                    await caller.call(Account.withdraw, 1 << 40)
                with pytest.raises(CommandFailedError, match="KeyError"):
                    await caller.call(Account.stumble)
                with pytest.raises(NotExecutedError):
                    await caller.call(Stranger.unheard_of)
                others += 4

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(deposit)
                nursery.start_soon(fail, number)
        assert sorted(balances) == list(range(1, 1001))
        assert others == 4000
        assert applied(cluster) < 3500  # of five thousand calls: more travel together once it is seen how fast they are


async def test_tasks_that_go_away_take_no_others_along(autojump_clock: MockClock) -> None:
    done: list[int] = []

    async with running() as cluster, cluster.open_client() as client:

        async def work(number: int) -> None:
            while len(done) < 2000:
                with trio.move_on_after(0.0005 * (1 + number % 7)):
                    done.append(await client.call(Account.deposit, 1))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(work, number)
        assert len(done) == len(set(done))
        assert max(done) <= await client.read(Account.read_balance)


async def test_a_primary_that_ends_leaves_no_call_of_many_twice_or_undone(autojump_clock: MockClock) -> None:
    balances: list[int] = []
    under_way = trio.Event()

    async with running() as cluster, cluster.open_client() as client:

        async def work() -> None:
            for _ in range(20):
                balance = await client.call(Account.deposit, 1)
                balances.append(balance)
                if len(balances) == 500:
                    under_way.set()

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(work)
            await under_way.wait()
            assert len(balances) < 2000
            await cluster.stop(await cluster.wait_primary())
        assert sorted(balances) == list(range(1, 2001))
