"""What services test themselves with: `open_test_cluster`, and what may happen to its members."""

from __future__ import annotations

from errno import ENOSPC

import pytest
import trio
from trio.testing import MockClock

from statemachine import StateMachine, command, query
from tests.viewstamp.running import Account, InsufficientFunds
from viewstamp import ClosedError, DataLostError, RunningReplica, StorageFailedError, UnknownMemberError
from viewstamp.testing import Crash, LinkFaults, Operation, SimulatedCrashError, TestCluster, open_test_cluster

PROTOCOLS = pytest.mark.parametrize("protocol", ["vsr", "raft"])


class Watch(StateMachine):
    """When a command was executed, by the time that all agree on."""

    @command
    def look(self) -> int:
        return self.context.time_ns

    @query
    def nothing(self) -> None:
        return None


async def backup_of(cluster: TestCluster[Account]) -> RunningReplica[Account]:
    """One that does not lead."""
    primary = await cluster.wait_primary()
    return next(replica for replica in cluster.replicas.values() if replica.id != primary.id)


@PROTOCOLS
async def test_a_killed_primary_is_replaced_and_comes_back(autojump_clock: MockClock, protocol: str) -> None:
    async with open_test_cluster(Account, protocol=protocol) as cluster, cluster.open_client() as client:
        assert await client.call(Account.deposit, 5) == 5
        killed = (await cluster.wait_primary()).id
        await cluster.kill(killed)
        assert killed not in cluster.replicas
        assert (await cluster.wait_primary()).id != killed
        with pytest.raises(InsufficientFunds):
            await client.call(Account.withdraw, 10)
        again = await cluster.start(killed)
        await again.wait_ready()
        assert await client.read_from(killed, Account.read_balance) == 5
        assert again.machine.balance == 5


@PROTOCOLS
@pytest.mark.parametrize("how", ["kill", "lose_power", "stop"])
async def test_what_was_acknowledged_outlives_all_members(autojump_clock: MockClock, protocol: str, how: str) -> None:
    async with open_test_cluster(Account, protocol=protocol, members=5) as cluster, cluster.open_client() as client:
        for _ in range(20):
            await client.call(Account.deposit, 1)
        for member in list(cluster.replicas):
            await getattr(cluster, how)(member)
        assert not cluster.replicas
        for member in cluster.disks:
            await cluster.start(member)
        assert await client.call(Account.deposit, 1) == 21


async def test_memory_is_lost_with_its_process(autojump_clock: MockClock) -> None:
    """A VSR member recovers from the others; a Raft member that has lost what it promised may not go on."""
    async with open_test_cluster(Account, storage="memory") as cluster:
        backup = await backup_of(cluster)
        await backup.call(Account.deposit, 3)
        await cluster.kill(backup.id)
        again = await cluster.start(backup.id)
        await again.wait_ready()
        assert await again.read(Account.read_balance) == 3
        for disk in cluster.disks.values():
            assert not disk.names()
    with pytest.raises(DataLostError):  # noqa: PT012 - it ends the block
        async with open_test_cluster(Account, protocol="raft", storage="memory") as cluster:
            backup = await backup_of(cluster)
            await backup.call(Account.deposit, 3)
            await cluster.kill(backup.id)
            await cluster.start(backup.id)
            await trio.sleep_forever()


async def test_a_lost_disk(autojump_clock: MockClock) -> None:
    async with open_test_cluster(Account) as cluster:
        backup = await backup_of(cluster)
        await backup.call(Account.deposit, 3)
        await cluster.lose_disk(backup.id)
        again = await cluster.start(backup.id)
        assert await again.read(Account.read_balance) == 3
    with pytest.raises(DataLostError):  # noqa: PT012 - it ends the block
        async with open_test_cluster(Account, protocol="raft") as cluster:
            backup = await backup_of(cluster)
            await backup.call(Account.deposit, 3)
            await cluster.lose_disk(backup.id)
            await cluster.start(backup.id)
            await trio.sleep_forever()


async def test_what_ends_a_member_ends_the_block_as_itself(autojump_clock: MockClock) -> None:
    with pytest.raises(StorageFailedError, match="disk-2"):  # noqa: PT012 - it ends the block
        async with open_test_cluster(Account) as cluster:
            cluster.disks[2].fail(Operation.WRITE, errno=ENOSPC)
            await cluster.replicas[1].call(Account.deposit, 1)
            await trio.sleep_forever()
    error = LookupError("the test's own")
    with pytest.raises(LookupError) as raised:
        async with open_test_cluster(Account):
            raise error
    assert raised.value is error


async def test_a_crash_that_was_planned_ends_a_member_as_kill_does(autojump_clock: MockClock) -> None:
    async with open_test_cluster(Account) as cluster, cluster.open_client() as client:
        backup = await backup_of(cluster)
        cluster.disks[backup.id].plan_crash(1, Crash.POWER_LOST)
        await client.call(Account.deposit, 1)
        await trio.sleep(1)
        assert backup.id not in cluster.replicas
        with pytest.raises(ClosedError):
            await backup.call(Account.deposit, 1)
        await cluster.kill(backup.id)  # It does not run.
        cluster.disks[backup.id].plan_crash(1, Crash.KILLED)
        with pytest.raises(SimulatedCrashError):
            await cluster.start(backup.id)
        await (await cluster.start(backup.id)).wait_ready()
        assert await client.read_from(backup.id, Account.read_balance) == 1


@PROTOCOLS
async def test_a_primary_that_is_cut_off_is_not_waited_for(autojump_clock: MockClock, protocol: str) -> None:
    async with open_test_cluster(Account, protocol=protocol, members=5) as cluster, cluster.open_client() as client:
        old = await cluster.wait_primary()
        cluster.isolate(old.id)
        new = await cluster.wait_primary()
        assert new.id != old.id
        assert await client.call(Account.deposit, 1) == 1
        cluster.heal()
        minority = [new.id, old.id]
        cluster.partition(minority)
        third = await cluster.wait_primary()
        assert third.id not in minority
        assert await client.call(Account.deposit, 1) == 2
        cluster.partition([1], [2], [3], [4])  # Every member alone now, with what was cut before.
        with trio.move_on_after(5) as waited:
            await cluster.wait_primary()
        assert waited.cancelled_caught
        cluster.heal()
        assert await client.call(Account.deposit, 1) == 3


async def test_a_planned_stop_hands_over(autojump_clock: MockClock) -> None:
    async with open_test_cluster(Account) as cluster, cluster.open_client() as client:
        primary = await cluster.wait_primary()
        await client.call(Account.deposit, 1)
        with trio.fail_after(0.2):
            await cluster.stop(primary.id)
            await client.call(Account.deposit, 1)
        await cluster.stop((await cluster.wait_primary()).id)
        last = next(iter(cluster.replicas))
        with trio.fail_after(1):
            await cluster.stop(last)  # Nobody is there to take over.
        assert not cluster.replicas


async def test_time_goes_as_the_mock_clock_does(autojump_clock: MockClock) -> None:
    async with open_test_cluster(Watch) as cluster:
        first = await cluster.replicas[1].call(Watch.look)
        await trio.sleep(30)
        assert await cluster.replicas[1].call(Watch.look) - first >= 30_000_000_000


async def test_faults_and_snapshots(autojump_clock: MockClock) -> None:
    faults = LinkFaults(loss=0.2, duplicate=0.1, corrupt=0.1)
    async with open_test_cluster(Account, seed=5, faults=faults, snapshot_entries=10) as cluster:
        async with cluster.open_client() as client:
            for number in range(1, 51):
                assert await client.call(Account.deposit, 1) == number
        assert cluster.network.statistics()["lost"] > 50
        assert all(any("snapshot" in name for name in disk.names()) for disk in cluster.disks.values())


async def test_wrong_use_is_told(autojump_clock: MockClock) -> None:
    async with open_test_cluster(Account) as cluster:
        with pytest.raises(UnknownMemberError):
            await cluster.start(4)
        with pytest.raises(UnknownMemberError):
            await cluster.kill(4)
        with pytest.raises(UnknownMemberError):
            cluster.partition([4])
        with pytest.raises(ValueError, match="member 1 is in two groups"):
            cluster.partition([1], [2, 1])
        with pytest.raises(ValueError, match="member 1 runs already"):
            await cluster.start(1)
        assert await cluster.replicas[1].call(Account.deposit, 1) == 1


async def test_without_a_mock_clock_it_runs_in_real_time() -> None:
    async with open_test_cluster(Account) as cluster:
        assert await cluster.replicas[2].call(Account.deposit, 1) == 1


@pytest.mark.parametrize("how", ["kill", "stop", "lose_power", "lose_disk"])
@pytest.mark.parametrize("steps", range(5))
async def test_a_member_that_is_ended_while_it_starts_does_not_run(
    autojump_clock: MockClock, how: str, steps: int
) -> None:
    started = "not"

    async def start() -> None:
        nonlocal started
        started = "under way"
        try:
            await cluster.start(1)
            started = "done"
        except SimulatedCrashError:
            started = "ended"

    async with open_test_cluster(Account) as cluster, trio.open_nursery() as nursery:
        await cluster.kill(1)
        nursery.start_soon(start)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        was_under_way = started == "under way"
        await getattr(cluster, how)(1)
        await trio.sleep(1)
        assert started in ("ended", "done")
        assert (1 in cluster.replicas) != was_under_way
        if was_under_way:
            await cluster.start(1)
        await cluster.replicas[1].wait_ready()


async def test_two_tasks_that_start_one_member(autojump_clock: MockClock) -> None:
    refused: list[str] = []

    async def start() -> None:
        try:
            await cluster.start(1)
        except ValueError as error:
            refused.append(str(error))

    async with open_test_cluster(Account) as cluster:
        await cluster.kill(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            nursery.start_soon(start)
        assert refused == ["member 1 runs already"]
        await cluster.kill(1)
        assert 1 not in cluster.replicas
        await (await cluster.start(1)).wait_ready()
        await cluster.kill(1)
        with trio.CancelScope() as scope:  # One that is given up leaves nothing behind.
            scope.cancel()
            await cluster.start(1)
        await (await cluster.start(1)).wait_ready()


@pytest.mark.parametrize("other", ["stop", "kill", "crash"])
async def test_a_planned_stop_of_a_member_that_ends_meanwhile(autojump_clock: MockClock, other: str) -> None:
    async with open_test_cluster(Account) as cluster:
        primary = (await cluster.wait_primary()).id
        if other == "crash":
            cluster.disks[primary].plan_crash(1, Crash.KILLED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.stop, primary)
            if other != "crash":
                nursery.start_soon(getattr(cluster, other), primary)
        assert primary not in cluster.replicas
        await (await cluster.start(primary)).wait_ready()


async def test_use_after_the_end_of_the_block_is_told(autojump_clock: MockClock) -> None:
    async with open_test_cluster(Account) as cluster:
        pass
    with pytest.raises(trio.ClosedResourceError, match="has ended"):
        await cluster.start(1)
    with pytest.raises(trio.ClosedResourceError, match="has ended"):
        await cluster.wait_primary()
    with pytest.raises(trio.ClosedResourceError, match="has ended"):
        cluster.open_client()
    with trio.fail_after(1):
        await cluster.stop(1)
        await cluster.kill(1)
    assert not cluster.replicas
