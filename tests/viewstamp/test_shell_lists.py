"""Lists of commands through the Trio shell: one request, one entry, a result or an exception for each command."""

from __future__ import annotations

from typing import assert_type

import pytest
import trio
from trio.testing import MockClock

from statemachine import (
    CommandFailedError,
    CommandTooLargeError,
    Counter,
    NotExecutedError,
    NotExecutedReason,
)
from tests.viewstamp.running import Account, InsufficientFunds, Running, Stranger, running
from viewstamp.shell.callers import ClosedError
from viewstamp.shell.replica import RunningReplica


def applied(cluster: Running) -> int:
    return max(replica.status().applied for replica in cluster.replicas.values())


async def test_a_list_from_anyone_is_one_entry(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        await client.call(Account.deposit, 0)
        for caller in (client, *cluster.replicas.values()):
            await caller.call(Account.deposit, 0)  # its session is open now
            before, balance = applied(cluster), await caller.read(Account.read_balance)
            results = await caller.call_all([Account.deposit.bind(1), Account.deposit.bind(amount=2)])
            assert_type(results, list[int | Exception])
            assert results == [balance + 1, balance + 3]
            assert applied(cluster) == before + 1


async def test_each_command_runs_whatever_became_of_those_before(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        results = await client.call_all(
            [
                Account.withdraw.bind(5),
                Account.stumble.bind(),
                Stranger.unheard_of.bind(),
                Account.deposit.bind(7),
                Account.withdraw.bind(5),
            ]
        )
        refused, failed, unknown, *others = results
        assert isinstance(refused, InsufficientFunds)
        assert refused.balance == 0
        assert isinstance(failed, CommandFailedError)
        assert failed.name == "KeyError"
        assert isinstance(unknown, NotExecutedError)
        assert unknown.reason is NotExecutedReason.UNKNOWN_COMMAND
        assert others == [7, 2]
        assert await client.read(Account.read_balance) == 2


async def test_an_empty_list_is_answered_without_a_message(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        assert await client.call(Account.deposit, 1) == 1
        before = client.statistics().datagrams_out, applied(cluster)
        assert await client.call_all([]) == []
        assert (client.statistics().datagrams_out, applied(cluster)) == before


async def test_what_is_no_list_of_commands_or_too_large_is_refused_at_the_caller(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        large = [Account.note.bind("x" * 1000)] * (cluster.cluster.max_command_bytes // 1000)
        for caller in (client, cluster.replicas[1]):
            with pytest.raises(CommandTooLargeError, match=r"list of 262 commands of 265\d{3} bytes"):
                await caller.call_all(large)
            for wrong in (Account.deposit.bind(1), [Account.deposit], ["deposit"]):
                with pytest.raises(TypeError, match="call_all takes a list of commands"):
                    await caller.call_all(wrong)  # type: ignore[arg-type]  # what is tested
        assert await client.call_all(large[:250]) == [1000] * 250


async def test_a_reply_of_many_datagrams_arrives(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        results = await client.call_all([Account.deposit.bind(1)] * 20_000)
        assert results == list(range(1, 20_001))
        for replica in cluster.replicas.values():
            assert await replica.read(Account.read_balance) == 20_000


async def test_nothing_of_others_comes_between_and_a_loss_repeats_nothing(autojump_clock: MockClock) -> None:
    sums: list[list[int | Exception]] = []

    async with running() as cluster, cluster.open_client() as client:

        async def loop(caller: RunningReplica[Account]) -> None:
            for _ in range(10):
                results = await caller.call_all([Account.deposit.bind(1)] * 5)
                sums.append(results)

        async def cut() -> None:
            for _ in range(3):
                primary = await cluster.wait_primary()
                cluster.fabric.network.isolate(cluster.address(primary))
                await trio.sleep(1.0)
                cluster.fabric.network.heal()
                await trio.sleep(0.5)

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cut)
                for replica in cluster.replicas.values():
                    nursery.start_soon(loop, replica)
        assert await client.read(Account.read_balance) == 150
    assert sorted(sums, key=str) == sorted(([n + 1, n + 2, n + 3, n + 4, n + 5] for n in range(0, 150, 5)), key=str)


async def test_a_cancelled_list_is_executed_whole_or_not_at_all(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        assert await client.call(Account.deposit, 1) == 1
        for member in cluster.ids:
            cluster.fabric.network.isolate(cluster.address(member))
        with trio.move_on_after(0.5) as scope:
            await client.call_all([Account.deposit.bind(10)] * 3)
        assert scope.cancelled_caught
        cluster.fabric.network.heal()
        assert await client.call(Account.deposit, 100) in (101, 131)
        with trio.fail_after(10):
            while await client.read(Account.read_balance) != 131:  # noqa: ASYNC110 - nobody is told
                await trio.sleep(0.05)


async def test_after_the_end_nothing_is_taken(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        async with cluster.open_client() as client:
            pass
        for commands in ([], [Counter.add.bind(1)]):
            with pytest.raises(ClosedError):
                await client.call_all(commands)
