"""The Trio shell in good health: calls and reads from anywhere, their errors, cancellation, what is observed."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from statemachine import (
    CommandFailedError,
    CommandTooLargeError,
    Counter,
    KeyValueStore,
    NotExecutedError,
    SessionExpiredError,
    ValueEncodingError,
)
from tests.viewstamp.running import HOST, Account, InsufficientFunds, Stranger, call_for, running, unstarted, wall_clock
from transport.interface import TransportError
from viewstamp.cli.demo.members import free_ports
from viewstamp.cluster import Cluster, UnknownMemberError
from viewstamp.journal import DirectoryInUseError
from viewstamp.protocol import Transition, Viewstamp
from viewstamp.shell.client import open_client
from viewstamp.shell.opening import open_replica, serve_replica
from viewstamp.shell.replica import RunningReplica


async def test_anyone_may_call(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        primary = await cluster.wait_primary()
        backup = next(member for member in cluster.ids if member != primary)
        assert await cluster.replicas[primary].call(Account.deposit, 5) == 5
        assert await cluster.replicas[backup].call(Account.deposit, 6) == 11
        assert await client.call(Account.deposit, amount=7) == 18
        for caller in (*cluster.replicas.values(), client):
            assert await caller.read(Account.read_balance) == 18
        for member in cluster.ids:
            assert await client.read_from(member, Account.read_balance) == 18
        assert client.viewstamp > Viewstamp(0, 1)
        machine = cluster.replicas[primary].machine
        assert isinstance(machine, Account)
        assert machine.executed == 3


async def test_each_says_what_it_is(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        assert [replica.id for replica in cluster.replicas.values()] == list(cluster.ids)
        assert client.cluster == cluster.replicas[1].cluster == cluster.cluster


@pytest.mark.parametrize("members", [1, 2, 5])
async def test_clusters_of_other_sizes(autojump_clock: MockClock, members: int) -> None:
    async with running(members=members) as cluster, cluster.open_client() as client:
        assert await client.call(Account.deposit, 1) == 1
        assert await cluster.replicas[members].read(Account.read_balance) == 1


async def test_all_members_must_be_seen_once_before_any_is_ready(autojump_clock: MockClock) -> None:
    async with unstarted() as cluster:
        first = await cluster.start(1)
        await cluster.start(2)
        with trio.move_on_after(5) as scope:
            await first.wait_ready()
        assert scope.cancelled_caught
        assert "not yet seen 3" in first.status().waiting
        await cluster.start(3)
        await cluster.wait_ready()
        assert first.status().waiting == ""


async def test_whoever_waits_is_told_why_after_a_second_and_then_each_minute(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "viewstamp")
    async with unstarted() as cluster:
        first = await cluster.start(1)
        began = trio.current_time()
        for seconds, told in ((0.9, 0), (1.1, 1), (60.9, 1), (61.1, 2)):
            with trio.move_on_after(seconds):
                caplog.clear()
                await first.wait_ready()
            assert len(caplog.messages) == told
        await cluster.start(2)
        with trio.move_on_after(1.5):
            await first.wait_ready()
        said = "member 1 is not ready: waiting for all members to be seen once: not yet seen"
        assert {*caplog.messages} == {f"{said} 2, 3", f"{said} 3"}
        caplog.clear()
        await cluster.start(3)
        await first.wait_ready()
        assert caplog.messages == []
        assert trio.current_time() - began < 130


async def test_errors_arrive_as_themselves(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client, cluster.open_client(Stranger) as stranger:
        for caller in (client, *cluster.replicas.values()):
            with pytest.raises(InsufficientFunds) as refused:
                await caller.call(Account.withdraw, 1)
            assert refused.value.balance == 0
            with pytest.raises(CommandFailedError, match="KeyError"):
                await caller.call(Account.stumble)
            with pytest.raises(CommandTooLargeError, match="arguments"):
                await caller.call(Account.note, "x" * (cluster.cluster.max_command_bytes + 1))
            with pytest.raises(ValueEncodingError):
                await caller.call(Account.deposit, object())  # type: ignore[arg-type]  # what is tested
            with pytest.raises(TypeError):
                await caller.call(Account.deposit)  # type: ignore[call-arg]  # what is tested
        with pytest.raises(NotExecutedError):
            await stranger.call(Stranger.unheard_of)
        assert await client.call(Account.note, "x" * 100_000) == 100_000
        assert await client.call(Account.deposit, 1) == 1


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
async def test_who_reads_all_the_time_does_not_go_on_calling_a_primary_that_has_left(
    autojump_clock: MockClock, protocol: str
) -> None:
    """It hands over before it stops: reads at a backup do not pause, and are no news of the one that is gone."""
    async with running(protocol=protocol) as cluster, trio.open_nursery() as nursery:
        primary = await cluster.wait_primary()
        backup = cluster.replicas[next(member for member in cluster.ids if member != primary)]
        await backup.call(Account.deposit, 1)

        async def read_on() -> None:
            while True:
                await backup.read(Account.read_balance)
                await trio.sleep(0.005)

        for _ in range(3):
            nursery.start_soon(read_on)
        await trio.sleep(0.1)
        cluster.replicas[primary].resign()
        await cluster.stop(primary)
        with trio.fail_after(1):
            assert await backup.call(Account.deposit, 1) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
async def test_a_service_calls_the_new_primary_as_soon_as_its_own_member_knows_it(
    autojump_clock: MockClock, protocol: str
) -> None:
    """It need not find it by asking around, for up to a tenth of a second."""
    for seed in range(1, 6):
        async with running(seed, protocol=protocol) as cluster, trio.open_nursery() as nursery:
            primary = await cluster.wait_primary()
            backup = cluster.replicas[next(member for member in cluster.ids if member != primary)]
            await backup.call(Account.deposit, 1)
            await cluster.stop(primary)
            nursery.start_soon(backup.call, Account.deposit, 1)
            with trio.fail_after(5):
                while backup.status().primary in (None, 0, primary):  # noqa: ASYNC110 - nobody is told
                    await trio.sleep(0.001)
            known_at = trio.current_time()
            nursery.cancel_scope.deadline = known_at + 0.005
        assert trio.current_time() < known_at + 0.005


async def test_a_cancelled_call_is_tracked_and_later_calls_work(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        assert await client.call(Account.deposit, 1) == 1
        for member in cluster.ids:
            cluster.fabric.network.isolate(cluster.address(member))
        assert not await call_for(client, 0.5, 10)
        cluster.fabric.network.heal()
        # It was sent before it was cancelled, so the session keeps asking: executed once, though nobody waits.
        assert await client.call(Account.deposit, 100) in (101, 111)
        with trio.fail_after(10):
            while await client.read(Account.read_balance) != 111:  # noqa: ASYNC110 - nobody is told
                await trio.sleep(0.05)
        assert await client.call(Account.deposit, 1) == 112


async def test_calls_and_reads_that_are_cancelled_at_once(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        for caller in cluster.replicas.values():
            with trio.CancelScope() as scope:
                scope.cancel()
                await caller.call(Account.deposit, 1)
            assert scope.cancelled_caught
            with trio.CancelScope() as scope:
                scope.cancel()
                await caller.read(Account.read_balance)
            assert scope.cancelled_caught
            assert await caller.call(Account.deposit, 1) >= 1


async def test_a_client_is_shared_by_many_tasks(autojump_clock: MockClock) -> None:
    results: list[int] = []

    async with running() as cluster, cluster.open_client() as client:

        async def work() -> None:
            for _ in range(5):
                value = await client.call(Account.deposit, 1)
                results.append(value)
                assert await client.read(Account.read_balance) >= value

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(work)
        assert sorted(results) == list(range(1, 501))
        assert client.statistics().messages_out > 500  # of the calls some travelled together


async def test_more_calls_than_the_window_holds(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        object.__setattr__(cluster.cluster, "window", 8)
        async with cluster.open_client() as client, trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(client.call, Account.deposit, 1)
        assert await cluster.replicas[1].read(Account.read_balance) == 50


async def test_a_thousand_answers_that_fit_no_datagram_all_arrive_at_once(autojump_clock: MockClock) -> None:
    """They are executed in one turn. Were more sent than are kept for repair, most of them would have to be asked for
    again, and reads be read again, for half a second."""
    async with running(machine=KeyValueStore) as cluster, cluster.open_client(KeyValueStore) as client:
        await client.call(KeyValueStore.put, "key", b"x" * 3000)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(client.read, KeyValueStore.get, "key")
                nursery.start_soon(client.call, KeyValueStore.compare_and_swap, "key", b"another", b"")
        assert trio.current_time() - began < 0.1
        for replica in cluster.replicas.values():
            assert not replica.statistics().transport.drops


async def test_events_tell_what_changes_and_end_with_the_replica(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        primary = await cluster.wait_primary()
        watched = cluster.replicas[primary % 3 + 1]
        seen: list[Transition] = []
        done = trio.Event()

        async def watch(task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            async with aclosing(watched.events()) as events:
                seen.extend([event async for event in events])
            done.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(watch)
            await cluster.stop(primary)
            await cluster.wait_primary(other_than=primary)
            await trio.sleep(1)
            await cluster.stop(watched.status().member)
            await done.wait()
        assert seen[-1].primary not in (None, primary)
        assert seen[-1].view == 1
        assert all(event.reason for event in seen)
        assert [event async for event in watched.events()] == []


async def test_a_stream_of_events_that_was_never_read_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        replica = cluster.replicas[await cluster.wait_primary()]
        async with aclosing(replica.events()):
            pass
        assert not replica._loop.announcer._watchers


async def test_a_reader_of_events_that_does_not_keep_up_keeps_none_from_others(autojump_clock: MockClock) -> None:
    async with running(members=1) as cluster, AsyncExitStack() as stack:
        replica = cluster.replicas[await cluster.wait_primary()]
        readers = [await stack.enter_async_context(aclosing(replica.events())) for _ in range(9)]
        event = Transition("normal", "primary", 7, 1, "of the test")
        quick = readers[4]
        for _ in range(1100):
            replica._loop.announcer.announce((event,))
            with trio.fail_after(1):
                assert await anext(quick) == event


async def test_events_begin_with_the_call_and_not_with_the_readers_first_step(autojump_clock: MockClock) -> None:
    """A busy member changes before a task that was just started gets its turn: its log would not say why."""
    async with running() as cluster:
        primary = await cluster.wait_primary()
        async with aclosing(cluster.replicas[primary % 3 + 1].events()) as events:
            await cluster.stop(primary)
            second = await cluster.wait_primary(other_than=primary)
            seen: list[Transition] = []
            with trio.fail_after(1):
                while not seen or seen[-1].primary != second:
                    seen.append(await anext(events))
        assert seen[0].view <= seen[-1].view


async def test_status_and_statistics(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        primary = await cluster.wait_primary()
        await client.call(Account.deposit, 1)
        cluster.fabric.open((HOST, 1)).send(b"rubbish", cluster.address(primary))
        await trio.sleep(0.5)
        status = await client.status(primary)
        assert (status.member, status.role, status.primary) == (primary, "primary", primary)
        assert status.journal_bytes > 0
        assert dict(status.drops) == {"short": 1}
        own = cluster.replicas[primary].status()
        assert (own.op, own.digest) == (status.op, status.digest)
        assert cluster.replicas[primary].is_primary
        statistics = cluster.replicas[primary].statistics()
        assert statistics.journal is not None
        assert statistics.journal.syncs >= 2
        assert statistics.journal.maximum_sync_ns >= statistics.journal.last_sync_ns > 0
        assert statistics.writes > 0
        assert statistics.transport.messages_in > 0


async def test_an_expired_session_is_told_and_renewed(autojump_clock: MockClock) -> None:
    """Two calls learn of it in one turn; one of them renews at once, and the other's news must not undo that."""
    results: list[int | str] = []
    async with unstarted() as cluster:
        object.__setattr__(cluster.cluster, "max_sessions", 2)
        await cluster.start_all()
        async with cluster.open_client() as client:
            await client.call(Account.deposit, 1)
            for _ in range(2):
                async with cluster.open_client() as other:
                    await other.call(Account.deposit, 1)

            async def work() -> None:
                try:
                    await client.call(Account.deposit, 10)
                except SessionExpiredError:
                    results.append("expired")
                    client.renew_session()
                    results.append(await client.call(Account.deposit, 100))

            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    for _ in range(2):
                        nursery.start_soon(work)
                assert results[:2] == ["expired", "expired"]
                assert set(results[2:]) == {103, 203}
                assert await client.call(Account.deposit, 1) == 204


async def test_an_expired_session_stays_so_until_renewed(autojump_clock: MockClock) -> None:
    async with unstarted() as cluster:
        object.__setattr__(cluster.cluster, "max_sessions", 1)
        await cluster.start_all()
        async with cluster.open_client() as client, cluster.open_client() as other:
            await client.call(Account.deposit, 1)
            await other.call(Account.deposit, 1)
            for may_have_happened in (True, False):
                with pytest.raises(SessionExpiredError) as expired:
                    await client.call(Account.deposit, 10)
                assert expired.value.sent is may_have_happened
            assert await client.read(Account.read_balance) == 2
            client.renew_session()
            assert await client.call(Account.deposit, 1) == 3
            client.renew_session()  # Not expired: nothing changes.
            assert await client.call(Account.deposit, 1) == 4


async def test_renewing_a_session_for_nothing_keeps_no_later_news_from_it(autojump_clock: MockClock) -> None:
    """A call was in flight then, and finds that the session has expired: whoever renews it after that has a new one."""
    async with unstarted() as cluster:
        object.__setattr__(cluster.cluster, "max_sessions", 1)
        await cluster.start_all()
        transport = cluster.fabric.open((HOST, 8000))
        async with cluster.open_client(transport=transport) as client, cluster.open_client() as other:
            await client.call(Account.deposit, 1)
            cluster.fabric.network.isolate(transport.address)

            async def work() -> None:
                with pytest.raises(SessionExpiredError):
                    await client.call(Account.deposit, 10)
                client.renew_session()
                assert await client.call(Account.deposit, 100) == 102

            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                await trio.testing.wait_all_tasks_blocked()
                client.renew_session()  # Not expired, for all it knows: nothing changes.
                await other.call(Account.deposit, 1)
                cluster.fabric.network.heal()


async def test_a_blank_member_with_a_clock_in_the_past_takes_a_newer_incarnation(autojump_clock: MockClock) -> None:
    """Its directory was lost before the cluster was founded, and the clock of the machine in its place is behind."""
    async with unstarted() as cluster:
        await cluster.start(1)
        await cluster.start(3)
        await trio.sleep(1)
        await cluster.stop(3)
        cluster.disks[3].wipe()
        cluster.wall_clock = lambda: 1_000_000_000_000_000
        replaced = await cluster.start(3)
        await trio.sleep(1)
        await cluster.start(2)
        await cluster.wait_ready()
        assert await replaced.call(Account.deposit, 1) == 1
        assert cluster.failures == {}


async def test_the_arguments_are_checked_at_once(autojump_clock: MockClock) -> None:
    async with unstarted() as cluster:
        with pytest.raises(UnknownMemberError):
            async with open_replica(Account, cluster.cluster, 4, "unused"):
                pytest.fail("there is no member 4")
        async with cluster.open_client() as client:
            with trio.fail_after(5), pytest.raises(UnknownMemberError):
                await client.status(4)
            with trio.fail_after(5), pytest.raises(UnknownMemberError):
                await client.read_from(4, Account.read_balance)
        async with cluster.open_member(1):
            with pytest.raises(TransportError, match="in use"):
                cluster.open_member(1)
            with pytest.raises(DirectoryInUseError):
                async with cluster.open_member(1, transport=cluster.fabric.open((HOST, 1))):
                    pytest.fail("another has the directory")


async def test_only_what_a_call_can_take_is_taken(autojump_clock: MockClock) -> None:
    """A name, the method of an instance, and a query where a command belongs: each is told by what it is."""
    async with unstarted() as cluster, cluster.open_client() as client:
        for given in ("deposit", Account().deposit, Account.read_balance):
            with trio.fail_after(5), pytest.raises(TypeError, match=r"a command of .* such as Counter\.add"):
                await client.call(given, 1)  # type: ignore[arg-type]  # that is what is tested
        for wrong in ("read_balance", Account().read_balance, Account.deposit):
            with trio.fail_after(5), pytest.raises(TypeError, match=r"a query of .* such as Counter\.get"):
                await client.read(wrong)  # type: ignore[arg-type]  # as above
            with trio.fail_after(5), pytest.raises(TypeError, match=r"a query of .* such as Counter\.get"):
                await client.read_from(1, wrong)  # type: ignore[arg-type]  # as above


async def test_serve_replica_in_the_world_that_it_is_given(autojump_clock: MockClock) -> None:
    async with unstarted() as cluster, trio.open_nursery() as nursery:
        for member in cluster.ids:
            transport, files = cluster.fabric.open(cluster.address(member)), cluster.disks[member].files()
            served = partial(serve_replica, transport=transport, files=files, wall_clock=cluster.wall_clock)
            replica: RunningReplica[Account] = await nursery.start(served, Account, cluster.cluster, member)
        assert await replica.call(Account.deposit, 5) == 5
        assert await replica.read(Account.read_balance) == replica.machine.balance == 5
        assert replica.status().wall_ns == wall_clock()
        nursery.cancel_scope.cancel()


async def test_serve_replica_on_real_sockets_and_files(tmp_path: Path) -> None:
    cluster = Cluster.make("served", "vsr", [(HOST, port) for port in free_ports(3)])
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for member in cluster.members:
                replica: RunningReplica[Counter] = await nursery.start(
                    serve_replica, Counter, cluster, member.id, tmp_path / str(member.id)
                )
            await replica.wait_ready()
            async with open_client(cluster, Counter, random=Random(1)) as client:
                assert await client.call(Counter.add, 2) == 2
            assert await replica.call(Counter.add, 3) == 5
            nursery.cancel_scope.cancel()
