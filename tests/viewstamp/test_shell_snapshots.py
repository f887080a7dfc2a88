"""Snapshots in running clusters: the log stays short, members catch up and restart by them, and bad ones are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, TypeVar, TypeVarTuple

import pytest
import trio

from statemachine import SnapshotError, StateMachine, command
from tests.viewstamp.running import Account, Running, running
from transport.network import LinkFaults
from viewstamp.cluster import ClusterOptions
from viewstamp.protocol import Limits
from viewstamp.replica import perform
from viewstamp.shell.opening import open_replica
from viewstamp.shell.parts import Parts
from vsr.messages import Recovery

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

OFTEN: ClusterOptions = {"snapshot_entries": 40, "snapshot_bytes": 1 << 20}
BOTH = pytest.mark.parametrize("protocol", ["vsr", "raft"])


async def deposit(cluster: Running, member: int, times: int) -> None:
    with trio.fail_after(60):
        for _ in range(times):
            await cluster.replicas[member].call(Account.deposit, 1)


async def wait_applied(cluster: Running, member: int, balance: int) -> None:
    with trio.fail_after(20):
        while cluster.replicas[member].machine.balance != balance:  # noqa: ASYNC110
            await trio.sleep(0.01)


@BOTH
async def test_the_log_in_memory_and_on_disk_stays_short(protocol: str, autojump_clock: trio.testing.MockClock) -> None:
    async with running(protocol=protocol, options=OFTEN) as cluster:
        await deposit(cluster, 1, 500)
        for member in cluster.ids:
            await wait_applied(cluster, member, 500)
        await trio.sleep(1)
        for replica in cluster.replicas.values():
            status = replica.status()
            assert status.snapshot.op > 400
            assert status.op - status.base <= 2 * 40


@BOTH
async def test_a_member_that_was_down_catches_up_by_snapshot_under_loss(
    protocol: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(protocol=protocol, options=OFTEN, faults=LinkFaults(loss=0.05)) as cluster:
        await deposit(cluster, 1, 10)
        down = next(member for member in cluster.ids if not cluster.replicas[member].is_primary)
        awake = next(member for member in cluster.ids if member != down)
        await cluster.stop(down)
        await deposit(cluster, awake, 300)
        restarted = await cluster.start(down)
        await wait_applied(cluster, down, 310)
        machine = restarted.machine
        assert isinstance(machine, Account)
        # What came in the snapshot was not executed here, yet it is all there.
        assert machine.balance == machine.executed == 310
        assert await restarted.call(Account.deposit, 1) == 311


@BOTH
async def test_the_whole_cluster_restarts_on_its_snapshots(
    protocol: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(protocol=protocol, options=OFTEN) as cluster:
        await deposit(cluster, 2, 205)
        for member in cluster.ids:
            await wait_applied(cluster, member, 205)
        for member in cluster.ids:
            await cluster.stop(member)
        await cluster.start_all()
        assert await cluster.replicas[1].call(Account.deposit, 1) == 206
        assert all(replica.status().snapshot.op > 0 for replica in cluster.replicas.values())


async def test_a_snapshot_on_demand(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as cluster:
        await deposit(cluster, 1, 3)
        replica = cluster.replicas[1]
        assert replica.status().snapshot.op == 0
        replica.take_snapshot()
        with trio.fail_after(5):
            while not replica.status().snapshot.op:  # noqa: ASYNC110 - it has no event
                await trio.sleep(0.01)
        assert replica.status().snapshot.op == replica.status().applied


class Unwritable(Account):
    """Its state cannot be written down after the first deposit."""

    def snapshot(self) -> Iterator[bytes]:
        if self.balance:
            raise SnapshotError("balance: a secret")
        return iter((b"",))

    def restore(self, chunks: Iterator[bytes]) -> None:
        list(chunks)


async def test_a_machine_that_cannot_be_written_down_goes_on_serving_and_says_so(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(options=OFTEN, machine=Unwritable) as cluster:
        await deposit(cluster, 1, 100)
        status = cluster.replicas[1].status().snapshot
        assert status.op == 0
        assert status.failure == "SnapshotError: balance: a secret"
    assert "no snapshot could be taken" in caplog.text
    assert 'in snapshot\n    raise SnapshotError("balance: a secret")' in caplog.text


class Mute(Account):
    """What keeps its state from being written down cannot be told: `reason` says why not."""

    reason: Callable[[], str]

    def snapshot(self) -> Iterator[bytes]:
        if self.balance:
            raise Untold(self.reason)
        return iter((b"",))


class Untold(Exception):  # noqa: N818 - as a service's own may be named
    """Its text is made when somebody asks for it."""

    def __init__(self, reason: Callable[[], str]) -> None:
        super().__init__()
        self.reason = reason

    def __str__(self) -> str:
        return self.reason()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (lambda: "no such file: \udcff", "Untold: no such file: \\udcff"),
        (lambda: f"{1 // 0}", "Untold"),
        (lambda: "too much to tell" * (1 << 18), "Untold: too much"),
    ],
    ids=["no text", "raises", "endless"],
)
async def test_why_a_machine_cannot_be_written_down_ends_nobody_who_tells_it(
    autojump_clock: trio.testing.MockClock, reason: Callable[[], str], told: str
) -> None:
    """All members fail alike, and `viewstamp status` asks all of them."""
    machine = type("Mute", (Mute,), {"reason": staticmethod(reason)})
    async with running(options=OFTEN, machine=machine) as cluster, cluster.open_client() as client:
        await deposit(cluster, 1, 60)
        for member in cluster.ids:
            with trio.fail_after(5):
                status = await client.status(member)
            assert status.snapshot.failure.startswith(told)
            assert len(status.snapshot.failure) < 1000
        await deposit(cluster, 1, 1)
        assert not cluster.failures


class Picky(StateMachine):
    """Takes no snapshot but its own."""

    trouble: ClassVar[Exception]

    def __init__(self) -> None:
        self.total = 0

    @command
    def deposit(self, amount: int) -> int:
        self.total += amount
        return self.total

    def restore(self, chunks: Iterator[bytes]) -> None:
        raise self.trouble


@pytest.mark.parametrize(
    ("trouble", "told", "logged"),
    [
        (SnapshotError("this is not mine"), "cannot be loaded: this is not mine", []),
        (ValueError("this is not mine"), "cannot be loaded: ValueError: this is not mine", []),
        (StopIteration(), "cannot be loaded: StopIteration", ["Picky.restore raised StopIteration: a defect"]),
    ],
)
async def test_a_snapshot_that_the_machine_cannot_read_ends_the_start_with_its_error(
    trouble: Exception,
    told: str,
    logged: list[str],
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Picky, "trouble", trouble, raising=False)
    async with running(options=OFTEN) as cluster:
        await deposit(cluster, 1, 100)
        await cluster.stop(2)
        caplog.clear()
        with pytest.raises(SnapshotError, match=told) as caught:
            async with cluster.open_member(2, Picky):
                pytest.fail("it started")
        assert caught.value.__cause__ is trouble
        assert caplog.messages == logged


async def test_the_log_never_fills_up_while_snapshots_can_be_taken(autojump_clock: trio.testing.MockClock) -> None:
    """The bound of the log in memory comes long before the number of entries after which a snapshot is due."""
    options: ClusterOptions = {"limits": Limits(log_bytes=1 << 20), "snapshot_bytes": 1 << 18}
    text = "x" * 4000
    async with running(options=options) as cluster:
        with trio.fail_after(60):
            for _ in range(600):
                await cluster.replicas[1].call(Account.note, text)
        for replica in cluster.replicas.values():
            assert replica.status().snapshot.op > 0


@BOTH
async def test_the_log_is_not_full_after_a_restart(protocol: str, autojump_clock: trio.testing.MockClock) -> None:
    """The journal goes by whole segments, and has far more of what lies before the snapshot than a log may hold."""
    options: ClusterOptions = {"limits": Limits(log_bytes=1 << 20), "snapshot_bytes": 1 << 18}
    async with running(protocol=protocol, options=options) as cluster:
        with trio.fail_after(60):
            for _ in range(400):
                await cluster.replicas[1].call(Account.note, "x" * 4000)
        await trio.sleep(1)
        for member in cluster.ids:
            await cluster.stop(member)
        await cluster.start_all()
        with trio.fail_after(10):
            await cluster.replicas[1].call(Account.note, "")


async def test_a_snapshot_that_succeeds_clears_the_failure_before_it(autojump_clock: trio.testing.MockClock) -> None:
    async with running(options=OFTEN, machine=Moody) as cluster:
        await deposit(cluster, 1, 60)
        assert cluster.replicas[1].status().snapshot.failure
        await deposit(cluster, 1, 200)
        status = cluster.replicas[1].status().snapshot
        assert (status.failure, status.op > 0) == ("", True)


async def test_a_recovery_that_begins_anew_forgets_the_snapshot_it_was_fetching(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A block of it is being written. The RECOVERY of an earlier life, whose clock was ahead, arrives only now: the
    present one is told of it, and takes a newer incarnation."""
    held = Held(perform)
    async with running(options=OFTEN) as cluster:
        await deposit(cluster, 1, 120)
        await trio.sleep(1)
        await cluster.stop(3)
        cluster.disks[3].wipe()
        files = cluster.disks[3].files()
        files.in_memory = False  # type: ignore[misc]  # so that its snapshot's files have a thread, which is `held`
        transport = cluster.fabric.open(cluster.address(3))
        async with open_replica(
            Account, cluster.cluster, 3, transport=transport, files=files, parts=Parts(run_sync=held)
        ) as replica:
            with trio.fail_after(10):
                await held.begun.wait()
            assert replica.status().status == "recovering"
            body = replica._loop.replica
            others = cluster.replicas[1], cluster.replicas[2]
            primary = next(other for other in others if other.is_primary)
            primary._loop.replica._dispatch(3, body.incarnation + (1 << 30), Recovery(1))
            await trio.sleep(1)
            held.may_go_on.set()
            with trio.fail_after(10):
                await replica.wait_ready()
            assert replica._loop.replica.incarnation > body.incarnation
            assert await replica.read(Account.read_balance) == replica.machine.balance == 120


class Held:
    """Stands for threads: calls of this function are made when the test lets them."""

    def __init__(self, function: object) -> None:
        self.function = function
        self.begun = trio.Event()
        self.may_go_on = trio.Event()

    async def __call__(self, sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False) -> R:
        await trio.lowlevel.checkpoint()
        if sync_fn is self.function:
            self.begun.set()
            await self.may_go_on.wait()
        return sync_fn(*args)


class Moody(Account):
    """Cannot be written down while the balance is below 100."""

    def snapshot(self) -> bytes | Iterator[bytes]:
        if 0 < self.balance < 100:
            raise SnapshotError("not now")
        return super().snapshot()
