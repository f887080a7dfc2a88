"""A planned stop: the primary hands over, and knows when somebody has taken over."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.viewstamp.running import Account, running
from viewstamp.protocol import MILLISECOND, SECOND, Timeouts
from viewstamp.shell.callers import ClosedError

pytestmark = pytest.mark.parametrize("protocol", ["vsr", "raft"])


async def test_whoever_has_handed_over_knows_another_that_leads(autojump_clock: MockClock, protocol: str) -> None:
    async with running(protocol=protocol) as cluster, cluster.open_client() as client:
        await client.call(Account.deposit, 1)
        primary = await cluster.wait_primary()
        with trio.fail_after(0.2):
            await cluster.replicas[primary].hand_over()
        successor = cluster.replicas[primary].status().primary
        assert successor not in (0, primary)
        assert cluster.replicas[successor].is_primary
        await cluster.stop(primary)
        with trio.fail_after(0.3):
            assert await client.call(Account.deposit, 1) == 2


async def test_a_backup_has_nothing_to_hand_over(autojump_clock: MockClock, protocol: str) -> None:
    async with running(protocol=protocol) as cluster:
        primary = await cluster.wait_primary()
        await trio.sleep(1)
        for member in set(cluster.ids) - {primary}:
            before = trio.current_time()
            await cluster.replicas[member].hand_over()
            assert trio.current_time() == before
        assert await cluster.wait_primary() == primary


async def test_a_member_that_is_alone_stays_primary(autojump_clock: MockClock, protocol: str) -> None:
    async with running(members=1, protocol=protocol) as cluster:
        await cluster.wait_primary()
        with trio.fail_after(1):
            await cluster.replicas[1].hand_over()
        assert await cluster.replicas[1].call(Account.deposit, 1) == 1


async def test_handing_over_goes_on_until_there_is_somebody(autojump_clock: MockClock, protocol: str) -> None:
    """The primary is cut off: nobody can take over, and a Raft leader gives its attempt up. Then all hear each other.

    It is patient enough that the others have not chosen a primary of their own meanwhile: they are cut off from each
    other, too.
    """
    timeouts = Timeouts(heartbeat=100 * MILLISECOND, suspect=1 * SECOND)
    async with running(protocol=protocol, options={"timeouts": timeouts}) as cluster, trio.open_nursery() as nursery:
        primary = await cluster.wait_primary()
        handed = trio.Event()

        async def hand_over() -> None:
            await cluster.replicas[primary].hand_over()
            handed.set()

        for member in cluster.ids:
            cluster.fabric.network.isolate(cluster.address(member))
        nursery.start_soon(hand_over)
        await trio.sleep(5)
        assert not handed.is_set()
        cluster.fabric.network.heal()
        with trio.fail_after(5):
            await handed.wait()
        assert cluster.replicas[primary].status().primary not in (0, primary)


async def test_a_replica_that_is_closed_hands_over_no_more(autojump_clock: MockClock, protocol: str) -> None:
    async with running(protocol=protocol) as cluster, trio.open_nursery() as nursery:
        primary = await cluster.wait_primary()
        replica, seen = cluster.replicas[primary], list[bool]()

        async def hand_over() -> None:
            with pytest.raises(ClosedError):
                await replica.hand_over()
            seen.append(True)

        for member in cluster.ids:
            cluster.fabric.network.isolate(cluster.address(member))
        nursery.start_soon(hand_over)
        await wait_all_tasks_blocked()
        await cluster.stop(primary)
        with pytest.raises(ClosedError):
            await replica.hand_over()
        await wait_all_tasks_blocked()
        assert seen == [True]
