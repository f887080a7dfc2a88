"""Simulated seeds through the Trio shell: what the simulator decides for a heap of events holds under Trio as well."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import pytest
import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from tests.viewstamp.running import Account, Running, running
from transport.interface import Address
from transport.network import LinkFaults
from viewstamp.shell.client import Client

UNEASY = LinkFaults(loss=0.03, duplicate=0.03, reorder=0.05, corrupt=0.01, replay=0.02)
CALLS = 40


def make_scheduling_deterministic(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio shuffles its tasks on purpose; its private switch and generator make that a seed's."""
    scheduler = trio_run._r
    assert isinstance(scheduler, Random)
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True, raising=True)
    scheduler.seed(seed)


class Trace:
    """A digest of every datagram that arrives anywhere, and when."""

    def __init__(self, cluster: Running) -> None:
        self._digest = blake2b(digest_size=16)
        self.datagrams = 0
        decide = cluster.fabric.network.transmit

        def transmit(source: Address, destination: Address, datagram: bytes, now_ns: int) -> list[tuple[int, bytes]]:
            arrivals = decide(source, destination, datagram, now_ns)
            for arrival_ns, arriving in arrivals:
                self.datagrams += 1
                self._digest.update(repr((source, destination, arrival_ns, arriving)).encode())
            return arrivals

        cluster.fabric.network.transmit = transmit  # type: ignore[method-assign]  # looking, not changing

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


async def disturb(cluster: Running, random: Random) -> None:
    """Isolate members and stop and start them, one at a time, again and again."""
    while True:
        await trio.sleep(random.randrange(300) / 1000)
        victim = random.choice(cluster.ids)
        if random.randrange(2):
            cluster.fabric.network.isolate(cluster.address(victim), inbound=bool(random.randrange(4)))
            await trio.sleep(random.randrange(600) / 1000)
            cluster.fabric.network.heal()
        else:
            await cluster.stop(victim)
            await trio.sleep(random.randrange(600) / 1000)
            await cluster.start(victim)


async def one_run(seed: int) -> tuple[str, int]:
    """A cluster under load and faults. Every deposit is of 1, so the results must be 1, 2, 3, ... each once."""
    random = Random(seed)
    results: list[int] = []

    async def work(client: Client) -> None:
        for _ in range(CALLS):
            value = await client.call(Account.deposit, 1)
            results.append(value)
            assert await client.read(Account.read_balance) >= value
            await trio.sleep(random.randrange(30) / 1000)

    with trio.fail_after(60):
        async with running(seed, faults=UNEASY) as cluster, cluster.open_client() as one, cluster.open_client() as two:
            trace = Trace(cluster)
            async with trio.open_nursery() as disturbing:
                disturbing.start_soon(disturb, cluster, random)
                async with trio.open_nursery() as working:
                    working.start_soon(work, one)
                    working.start_soon(work, two)
                disturbing.cancel_scope.cancel()
            assert sorted(results) == list(range(1, 2 * CALLS + 1))
            cluster.fabric.network.heal()
            await cluster.start_all()
            for member in cluster.ids:
                assert await one.read_from(member, Account.read_balance) == 2 * CALLS
            assert cluster.failures == {}
            return trace.digest, trace.datagrams


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_gives_the_same_run_twice(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for _ in range(2):
        make_scheduling_deterministic(seed, monkeypatch)
        runs.append(trio.run(one_run, seed, clock=MockClock(autojump_threshold=0)))
    assert runs[0] == runs[1]
    assert runs[0][1] > 500


def test_seeds_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for seed in (100, 101):
        make_scheduling_deterministic(seed, monkeypatch)
        digests.add(trio.run(one_run, seed, clock=MockClock(autojump_threshold=0))[0])
    assert len(digests) == 2
