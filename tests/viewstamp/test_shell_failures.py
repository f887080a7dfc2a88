"""The Trio shell when something fails: what ends a block, as what, and who else learns of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from errno import ENOSPC
from functools import partial
from math import inf

import pytest
import trio
from trio.testing import MockClock

from statemachine import OutcomeUnknownError, StateMachine
from tests.viewstamp.running import HOST, Account, Running, running, unstarted
from transport.fabric import Fabric, FabricTransport
from transport.interface import Address
from viewstamp.journal import JournalError, StorageFailedError
from viewstamp.journal.simulated import Operation
from viewstamp.protocol import MILLISECOND, SECOND, Time, Timeouts
from viewstamp.replica import Turn
from viewstamp.shell.callers import Callers, ClosedError
from viewstamp.shell.client import Client
from viewstamp.shell.scope import background


async def test_failover_when_a_replicas_scope_is_cancelled(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        assert await client.call(Account.deposit, 1) == 1
        primary = await cluster.wait_primary()
        await cluster.stop(primary)
        with trio.fail_after(2):
            assert await client.call(Account.deposit, 1) == 2
        again = await cluster.start(primary)
        await again.wait_ready()
        assert await again.call(Account.deposit, 1) == 3
        assert await again.read(Account.read_balance) == 3


async def test_a_primary_that_resigns_is_followed_at_once(autojump_clock: MockClock) -> None:
    async with running() as cluster, cluster.open_client() as client:
        await client.call(Account.deposit, 1)
        primary = await cluster.wait_primary()
        cluster.replicas[primary].resign()
        with trio.fail_after(0.2):
            await cluster.wait_primary(other_than=primary)
        assert await client.call(Account.deposit, 1) == 2


async def test_what_a_resigning_primary_says_is_said_again_in_time(autojump_clock: MockClock) -> None:
    """The loop sleeps until the next heartbeat, seconds away; what gets lost is due again much sooner."""
    patient = Timeouts(heartbeat=5 * SECOND, suspect=15 * SECOND, jitter=0, retry=50 * MILLISECOND)
    async with running(options={"timeouts": patient}) as cluster:
        primary = await cluster.wait_primary()
        await trio.sleep(0.5)
        cluster.fabric.network.isolate(cluster.address(primary))
        cluster.replicas[primary].resign()
        await trio.sleep(0.01)
        cluster.fabric.network.heal()
        with trio.fail_after(0.2):
            await cluster.wait_primary(other_than=primary)


async def test_an_exception_from_the_block_leaves_as_itself(autojump_clock: MockClock) -> None:
    async with running() as cluster:
        error = ValueError("the caller's own")
        with pytest.raises(ValueError, match="own") as raised:  # noqa: PT012 - it ends the block
            async with cluster.open_client() as client:
                await client.call(Account.deposit, 1)
                raise error
        assert raised.value is error
        assert raised.value.__cause__ is None
        await cluster.stop(1)
        with pytest.raises(ValueError, match="own") as raised:  # noqa: PT012 - it ends the block
            async with cluster.open_member(1) as replica:
                await replica.wait_ready()
                raise error
        assert raised.value is error
        with pytest.raises(BaseExceptionGroup) as grouped:
            async with cluster.open_client():
                raise BaseExceptionGroup("of the caller", [KeyboardInterrupt(), error])
        assert grouped.value.exceptions[1] is error


@pytest.mark.parametrize("opener", ["client", "member"])
async def test_an_exception_from_a_cancelled_block_leaves_as_itself(autojump_clock: MockClock, opener: str) -> None:
    """Nothing waits on the way out: a checkpoint there would raise the cancellation in its place."""
    async with running() as cluster:
        await cluster.stop(1)
        with pytest.raises(ValueError, match="own"), trio.CancelScope() as scope:  # noqa: PT012 - it ends the block
            async with cluster.open_client() if opener == "client" else cluster.open_member(1):
                scope.cancel()
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("the caller's own")


async def test_a_disk_that_fails_while_the_member_is_cancelled_is_told(autojump_clock: MockClock) -> None:
    async with unstarted(members=1) as cluster:
        with pytest.raises(StorageFailedError), trio.CancelScope() as scope:  # noqa: PT012 - it ends the block
            async with cluster.open_member(1) as replica, trio.open_nursery() as nursery:
                await replica.call(Account.deposit, 1)
                cluster.disks[1].fail(Operation.SYNC)
                nursery.start_soon(replica.call, Account.deposit, 1)
                try:
                    await trio.sleep_forever()
                finally:
                    scope.cancel()


async def test_a_machine_that_cannot_go_on_ends_its_own_block_alone(autojump_clock: MockClock) -> None:
    """What is no ordinary error stops the replica, as itself, and what others wait for goes on."""
    async with running() as cluster, cluster.open_client() as client:
        await client.call(Account.deposit, 100)
        await cluster.stop(2)
        results: list[int] = []

        async def work() -> None:
            results.extend([await client.call(Account.withdraw, 13), await client.call(Account.withdraw, 1)])

        async with trio.open_nursery() as nursery:
            with pytest.raises(RecursionError, match="out of stack") as raised:  # noqa: PT012 - it ends the block
                async with cluster.open_member(2, lambda: Account(fuse=13)) as replica:
                    await replica.wait_ready()
                    nursery.start_soon(work)
                    await trio.sleep_forever()
            assert raised.value.__cause__ is None
        assert results == [87, 86]
        with pytest.raises(ClosedError):
            await replica.call(Account.deposit, 1)


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC])
async def test_a_failing_disk_ends_its_own_block_alone(autojump_clock: MockClock, operation: Operation) -> None:
    async with running() as cluster, cluster.open_client() as client:
        await client.call(Account.deposit, 1)
        primary = await cluster.wait_primary()
        cluster.disks[primary].fail(operation)
        assert await client.call(Account.deposit, 1) == 2
        failure = await cluster.wait_ended(primary)
        assert isinstance(failure, StorageFailedError)
        again = await cluster.start(primary)
        await again.wait_ready()
        assert await again.call(Account.deposit, 1) == 3


async def test_the_failure_of_the_background_wins_over_what_came_of_it(autojump_clock: MockClock) -> None:
    """The block hides its cancellation behind an error of its own: the cause is told, and both are shown."""
    async with unstarted(members=1) as cluster:
        with pytest.raises(StorageFailedError) as failure:  # noqa: PT012 - it ends the block
            async with cluster.open_member(1) as replica:
                await replica.call(Account.deposit, 1)
                cluster.disks[1].fail(Operation.SYNC)
                try:
                    await replica.call(Account.deposit, 1)
                except ClosedError as error:
                    raise ValueError("what came of it") from error
        assert isinstance(failure.value.__cause__, ValueError)


async def test_a_nursery_in_the_block_does_not_hide_the_failure(autojump_clock: MockClock) -> None:
    async with unstarted(members=1) as cluster:
        with pytest.raises(StorageFailedError) as failure:  # noqa: PT012 - it ends the block
            async with cluster.open_member(1) as replica, trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await replica.wait_ready()
                cluster.disks[1].fail(Operation.SYNC)
                with trio.CancelScope(shield=True), pytest.raises(ClosedError):
                    await replica.call(Account.deposit, 1)
                await trio.sleep_forever()
        assert failure.value.__cause__ is None


async def test_a_disk_that_refuses_two_tasks_at_once_is_one_failure(autojump_clock: MockClock) -> None:
    """The loop writes to the journal while a thread writes a snapshot: a full disk ends both, in the same moment."""
    refusals = [StorageFailedError(file, "writing to", ENOSPC, "no space") for file in ("journal", "snapshot.new")]

    async def refused(error: Exception) -> None:
        raise error

    async def all_refused(errors: Sequence[Exception]) -> None:
        async with trio.open_nursery() as nursery:
            for error in errors:
                nursery.start_soon(refused, error)

    with pytest.raises(StorageFailedError) as raised:
        async with background(partial(all_refused, refusals), lambda: None):
            await trio.sleep_forever()
    assert raised.value in refusals
    with pytest.raises(ExceptionGroup) as grouped:
        async with background(partial(all_refused, [*refusals, ValueError("something else")]), lambda: None):
            await trio.sleep_forever()
    assert grouped.value.subgroup(ValueError) is not None
    assert grouped.value.subgroup(StorageFailedError) is not None


async def test_what_is_no_exception_leaves_as_itself(autojump_clock: MockClock) -> None:
    """A Ctrl-C that lands in the loop's task must look to the service as if it had landed anywhere else."""
    closed = trio.Event()

    async def interrupted() -> None:
        await trio.sleep(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with background(interrupted, closed.set):
            await trio.sleep_forever()
    assert closed.is_set()


async def _expect_closed(caller: Callers, sent: trio.Event, seen: list[str]) -> None:
    sent.set()
    for attempt in (caller.call(Account.deposit, 1), caller.read(Account.read_balance)):
        try:
            await attempt
        except ClosedError as error:
            seen.append(str(error))


async def _calls_into_nowhere(cluster: Running) -> None:
    for member in cluster.ids:
        cluster.fabric.network.isolate(cluster.address(member))


async def test_closing_with_calls_under_way(autojump_clock: MockClock) -> None:
    seen: list[str] = []
    async with running() as cluster, trio.open_nursery() as nursery:
        async with cluster.open_client() as client:
            await client.call(Account.deposit, 1)
            await _calls_into_nowhere(cluster)
            nursery.start_soon(_expect_closed, client, sent := trio.Event(), seen)
            await sent.wait()
            await trio.sleep(0.1)
        await trio.sleep(0.1)
        assert seen == ["outcome unknown: closed", "nothing was sent: closed"]
        with pytest.raises(ClosedError):
            await client.status(1)


async def test_a_call_on_what_is_closed_is_certainly_not_executed(autojump_clock: MockClock) -> None:
    """What has done its part is told from what may have happened, where it can be: it may be done elsewhere."""
    async with running() as cluster:
        async with cluster.open_client() as client:
            pass
        replica, seen = cluster.replicas[1], list[str]()
        await cluster.stop(1)
        for caller in (client, replica):
            await _expect_closed(caller, trio.Event(), seen)
        assert seen == ["nothing was sent: closed"] * 4
        with pytest.raises(OutcomeUnknownError) as refused:
            await client.call_all([])
        assert not refused.value.sent


async def test_a_primary_that_is_closed_is_none_any_more(autojump_clock: MockClock) -> None:
    """Whoever kept it, and does something as long as it is the primary, stops; another one is by now."""
    async with running() as cluster:
        primary = await cluster.wait_primary()
        replica = cluster.replicas[primary]
        await cluster.stop(primary)
        assert not replica.is_primary
        replica.resign()


async def test_a_call_that_waited_for_a_session_until_the_end_is_certainly_not_executed(
    autojump_clock: MockClock,
) -> None:
    told: list[bool] = []

    async def call(client: Client) -> None:
        with pytest.raises(ClosedError) as closed:
            await client.call(Account.deposit, 1)
        told.append(closed.value.sent)

    async with running() as cluster, trio.open_nursery() as nursery:
        await _calls_into_nowhere(cluster)
        async with cluster.open_client() as client:
            nursery.start_soon(call, client)
            await trio.sleep(5)
        await trio.testing.wait_all_tasks_blocked()
        assert told == [False]
        cluster.fabric.network.heal()
        async with cluster.open_client() as client:
            assert await client.call(Account.deposit, 1) == 1
            await _calls_into_nowhere(cluster)
            nursery.start_soon(call, client)
            await trio.sleep(5)
        await trio.testing.wait_all_tasks_blocked()
        assert told == [False, True]


async def test_cancelling_the_scope_around_releases_those_who_wait_elsewhere(autojump_clock: MockClock) -> None:
    seen: list[str] = []
    async with running() as cluster:
        cluster.fabric.network.isolate(cluster.address(1))
        async with trio.open_nursery() as nursery:
            replica = cluster.replicas[1]
            nursery.start_soon(_expect_closed, replica, sent := trio.Event(), seen)
            await sent.wait()
            await trio.sleep(0.1)
            await cluster.stop(1)
        assert seen == ["nothing was sent: closed"] * 2
        with pytest.raises(ClosedError):
            await replica.wait_ready()


async def test_waiting_for_a_replica_that_is_closed_before_it_is_ready(autojump_clock: MockClock) -> None:
    async with unstarted() as cluster, trio.open_nursery() as nursery:
        replica = await cluster.start(1)

        async def wait() -> None:
            with pytest.raises(ClosedError):
                await replica.wait_ready()

        nursery.start_soon(wait)
        await trio.sleep(1)
        await cluster.stop(1)


class FloodedTransport(FabricTransport):
    """There is always more to receive than one turn takes, and none of it is any good."""

    flooded = False

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        if self.flooded:
            return [(b"rubbish", (HOST, 1))] * limit
        return super().receive(limit)


async def test_a_flood_without_end_does_not_stop_the_timers(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[int] = []
    async with running() as cluster:
        await cluster.stop(1)
        autojump_clock.autojump_threshold = inf
        transport = FloodedTransport(cluster.fabric, cluster.address(1), 10)
        async with cluster.open_member(1, transport=transport) as replica:
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(replica._loop.replica, "tick", lambda now: ticks.append(now.monotonic))
            transport.flooded = True
            transport.arrive(b"rubbish", (HOST, 1))
            autojump_clock.jump(10)
            for _ in range(100):
                await trio.lowlevel.checkpoint()
            assert replica.statistics().transport.drops["short"] > 1000
    assert ticks


class TricklingTransport(FabricTransport):
    """Whenever it is looked at, so many datagrams of no use have come."""

    def __init__(self, fabric: Fabric, address: Address, limit: int) -> None:
        super().__init__(fabric, address, limit)
        self.comes: list[int] = []
        self.limits: list[int] = []

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        if not self.comes:
            return super().receive(limit)
        self.limits.append(limit)
        return [(b"rubbish", (HOST, 1))] * self.comes.pop(0)


async def test_what_comes_while_a_turn_takes_in_several_shares_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message and a sync for each few of those that come at once would cost more than all the rest."""
    taken: list[int] = []
    async with running() as cluster:
        await cluster.stop(1)
        autojump_clock.autojump_threshold = inf
        transport = TricklingTransport(cluster.fabric, cluster.address(1), 10)
        async with cluster.open_member(1, transport=transport) as replica:
            await trio.testing.wait_all_tasks_blocked()
            inner, before = replica._loop.replica, replica.statistics().transport.datagrams_in
            finish = inner.finish

            def counted(now: Time) -> Turn:
                taken.append(replica.statistics().transport.datagrams_in - before)
                return finish(now)

            monkeypatch.setattr(inner, "finish", counted)
            transport.comes = [3, 2, 1, 1, 200, 56, 2]
            for _ in range(5):
                replica._loop._idle.wake()
                await trio.testing.wait_all_tasks_blocked()
    assert list(dict.fromkeys(taken))[:4] == [6, 7, 263, 265]
    assert transport.limits == [256, 253, 251, 256, 256, 56, 256]


async def test_after_a_pause_all_that_arrived_is_taken_before_any_timer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped for seconds finds its socket full: among that are the heartbeats it did not miss."""
    ticks: list[int] = []
    async with running() as cluster:
        await cluster.stop(1)
        autojump_clock.autojump_threshold = inf
        transport = FloodedTransport(cluster.fabric, cluster.address(1), 5000)
        async with cluster.open_member(1, transport=transport) as replica:
            await trio.testing.wait_all_tasks_blocked()
            statistics = replica.statistics
            monkeypatch.setattr(
                replica._loop.replica, "tick", lambda _: ticks.append(statistics().transport.datagrams_in)
            )
            for _ in range(1000):
                transport.arrive(b"rubbish", (HOST, 1))
            autojump_clock.jump(10)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
    assert ticks
    assert min(ticks) == 1000


async def test_whoever_is_held_up_for_longer_than_others_are_patient_says_so(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """They have suspected it meanwhile, and take its place: nothing else tells why."""
    async with running() as cluster:
        for seconds, told in ((0.25, 0), (2.0, 3)):
            await trio.sleep(5)
            autojump_clock.jump(seconds)
            await trio.sleep(1)
            assert len(caplog.messages) == told
        assert {line.split(" for ")[0] for line in caplog.messages} == {
            f"member {member} took no turn" for member in cluster.ids
        }


@pytest.mark.parametrize("founded", [True, False])
async def test_the_data_of_a_cluster_with_more_members_is_refused(autojump_clock: MockClock, founded: bool) -> None:
    async with unstarted() as cluster:
        for member in cluster.ids if founded else (1,):
            await cluster.start(member)
        await trio.sleep(1)
        await cluster.stop(1)
        cluster.cluster = replace(cluster.cluster, members=cluster.cluster.members[:2])
        with pytest.raises(JournalError, match="is from a cluster of 3 members, and the cluster file has 2"):
            async with cluster.open_member(1):
                pytest.fail("it started")


async def test_machines_are_made_once_per_member(autojump_clock: MockClock) -> None:
    made: list[StateMachine] = []

    def make() -> Account:
        made.append(Account())
        return Account()

    async with running(machine=make) as cluster:
        assert await cluster.replicas[1].call(Account.deposit, 1) == 1
    assert len(made) == 3
