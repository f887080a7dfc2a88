"""Clusters with `storage = "memory"`: service as ever, and what a restart means, of one member and of all."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.viewstamp.running import Account, Running, running, unstarted
from viewstamp.cluster import Cluster, ClusterOptions
from viewstamp.journal import EntriesRecord, Journal, MemoryFiles
from viewstamp.replica import DataLostError
from viewstamp.shell.journal_writer import JournalWriter
from viewstamp.shell.opening import open_replica

MEMORY: ClusterOptions = {"storage": "memory"}
OFTEN: ClusterOptions = {"storage": "memory", "snapshot_entries": 40, "snapshot_bytes": 1 << 20}
BOTH = pytest.mark.parametrize("protocol", ["vsr", "raft"])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, nothing is left in the directory that the members are given."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


async def deposit(cluster: Running, member: int, times: int) -> None:
    with trio.fail_after(60):
        for _ in range(times):
            await cluster.replicas[member].call(Account.deposit, 1)


async def wait_balance(cluster: Running, member: int, balance: int) -> None:
    with trio.fail_after(60):
        while cluster.replicas[member].machine.balance != balance:  # noqa: ASYNC110
            await trio.sleep(0.01)


@BOTH
async def test_service_goes_on_when_a_member_stops(protocol: str, autojump_clock: MockClock) -> None:
    async with running(protocol=protocol, options=MEMORY) as cluster, cluster.open_client() as client:
        assert await client.call(Account.deposit, 5) == 5
        primary = await cluster.wait_primary()
        await cluster.stop(primary)
        with trio.fail_after(2):
            assert await client.call(Account.deposit, 2) == 7
        assert await client.read(Account.read_balance) == 7


async def test_members_restart_one_after_the_other_and_nothing_is_lost(autojump_clock: MockClock) -> None:
    async with running(options=MEMORY) as cluster, cluster.open_client() as client:
        for round_number in range(1, 7):
            assert await client.call(Account.deposit, 1) == round_number
            member = cluster.ids[round_number % 3]
            await cluster.stop(member)
            assert await client.read(Account.read_balance) == round_number
            again = await cluster.start(member)
            with trio.fail_after(10):
                await again.wait_ready()
            await wait_balance(cluster, member, round_number)


async def test_a_restarted_member_recovers_by_a_snapshot(autojump_clock: MockClock) -> None:
    async with running(options=OFTEN) as cluster:
        await deposit(cluster, 1, 300)
        await cluster.stop(3)
        again = await cluster.start(3)
        await wait_balance(cluster, 3, 300)
        assert again.status().snapshot.op > 200
        assert again.status().base > 200
        # It has what it recovered, and is counted: the primary and it are a majority.
        await cluster.stop(1)
        assert await again.call(Account.deposit, 1) == 301


async def test_a_restarted_raft_member_is_refused_and_told_why(autojump_clock: MockClock) -> None:
    async with running(protocol="raft", options=MEMORY) as cluster:
        await deposit(cluster, 1, 3)
        await cluster.stop(3)
        await cluster.start(3)
        failure = await cluster.wait_ended(3)
        assert isinstance(failure, DataLostError)
        assert 'member 3 was stopped, and with it went its data (storage = "memory")' in str(failure)
        assert "only when all members have been stopped" in str(failure)
        await deposit(cluster, 1, 1)
        await wait_balance(cluster, 2, 4)


@BOTH
async def test_all_members_down_is_all_lost_and_they_found_the_cluster_anew(
    protocol: str, autojump_clock: MockClock
) -> None:
    async with running(protocol=protocol, options=OFTEN) as cluster:
        await deposit(cluster, 1, 100)
        for member in cluster.ids:
            await cluster.stop(member)
        await cluster.start_all()
        assert await cluster.replicas[1].read(Account.read_balance) == 0
        await deposit(cluster, 2, 50)
        for member in cluster.ids:
            await wait_balance(cluster, member, 50)


async def test_what_a_majority_lost_is_not_replaced_by_a_cluster_with_nothing_in_it(autojump_clock: MockClock) -> None:
    """One member still has everything: the two others must not begin anew beside it, nor with it."""
    async with running(options=MEMORY) as cluster:
        await deposit(cluster, 1, 10)
        await wait_balance(cluster, 3, 10)
        for member in (1, 2):
            await cluster.stop(member)
        for member in (1, 2):
            await cluster.start(member)
        await trio.sleep(30)
        assert [replica.is_primary for replica in cluster.replicas.values()] == [False] * 3
        assert cluster.replicas[3].machine.balance == 10


async def test_a_cluster_of_one(autojump_clock: MockClock) -> None:
    async with unstarted(members=1, options=MEMORY) as cluster:
        for _ in range(2):
            async with cluster.open_member(1) as replica:
                assert await replica.call(Account.deposit, 1) == 1


@BOTH
async def test_memory_does_not_grow_with_the_number_of_commands(protocol: str, autojump_clock: MockClock) -> None:
    options: ClusterOptions = {"storage": "memory", "snapshot_entries": 100, "snapshot_bytes": 1 << 18}
    async with running(members=1, protocol=protocol, options=options) as cluster:
        replica = cluster.replicas[1]

        async def grow(times: int) -> int:
            for _ in range(times):
                await replica.call(Account.note, "x" * 1000)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = await grow(500)
            after = await grow(1500)
        finally:
            tracemalloc.stop()
        assert after - before < 400_000
        assert replica.status().journal_bytes < 1000
        assert replica.status().snapshot.op > 1000


async def test_nothing_is_written_to_a_journal_that_nobody_will_read() -> None:
    files = MemoryFiles()
    journal = Journal.open(files, cluster=b"in-store", replica=1, protocol="vsr", create_incarnation=lambda: 1)
    storage = JournalWriter(journal, lambda: None)
    before = storage.journal_bytes()
    assert storage.write([(7, (EntriesRecord(1, 1, b"entry"),)), (8, (EntriesRecord(2, 1, b"entry"),))]) == 8
    storage.release(1)
    with trio.fail_after(1):
        await storage.settle()
    assert (storage.take_finished(), storage.journal_bytes(), journal.statistics().syncs) == (0, before, 0)
    journal.close()


async def test_a_cluster_on_disk_needs_a_directory() -> None:
    cluster = Cluster.make("orders", "vsr", [("127.0.0.1", 1)])
    with pytest.raises(ValueError, match="needs a directory for each member"):
        async with open_replica(Account, cluster, 1):
            pytest.fail("it started")
