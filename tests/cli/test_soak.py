"""The parts of the soak: its checks on made-up histories, its proxy between two sockets, its machine."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
import trio

from statemachine import SnapshotError, Value, encode_value
from statemachine.counter import NotAnIntegerError
from transport import UdpTransport
from viewstamp.cli.soak.checks import check_all, check_counters, check_linearizable, check_tokens
from viewstamp.cli.soak.findings import CRASH, LIVENESS, SAFETY, Finding
from viewstamp.cli.soak.machine import SoakStore
from viewstamp.cli.soak.proxy import CONTROL, KeptTransport, Proxy, open_proxy
from viewstamp.cli.soak.result import Result
from viewstamp.cli.soak.watch import Watch
from viewstamp.cli.soak.weather import CALM, Parties, Weather
from viewstamp.simulation.history import Operation
from viewstamp.status import Status


def add(out: int | None, *, ok: bool | None = True, key: str = "counter-0-0") -> Operation:
    return Operation(1, "add", key, 1, None, 1, 2 if ok else None, out, ok)


def append(token: str, *, ok: bool | None = True, version: int = 1) -> Operation:
    return Operation(1, "append", "log-0", token, None, 1, 2 if ok else None, version if ok else None, ok)


@pytest.mark.parametrize("final", [2, 3])
def test_an_increment_of_unknown_outcome_may_be_there_or_not(final: int) -> None:
    assert check_counters([add(1), add(None, ok=None), add(2)], {"counter-0-0": final}) == ""


@pytest.mark.parametrize(
    ("answers", "final", "said"),
    [
        ([1, 2, 3], 2, "is 2 in the end, after 3 acknowledged"),
        ([1, 2], 3, "is 3 in the end, after 2 acknowledged"),
        ([1, 1], 2, "both answered 1"),
        ([1], None, "is None in the end"),
    ],
)
def test_a_counter_that_lost_or_repeated_an_increment(answers: list[int], final: Value, said: str) -> None:
    assert said in check_counters([add(answer) for answer in answers], {"counter-0-0": final})


def test_tokens_are_there_once() -> None:
    operations = [append("a;"), append("b;"), append("c;", ok=None), append("d;", ok=None), append("e;", ok=False)]
    assert check_tokens(operations, {"log-0": "b;a;d;"}) == ""


@pytest.mark.parametrize(
    ("final", "said"),
    [
        ("b;", "'a;', acknowledged, is there 0 times"),
        (None, "'a;', acknowledged, is there 0 times"),
        ("a;b;a;", "'a;', acknowledged, is there 2 times"),
        ("a;b;c;c;", "'c;', of unknown outcome, is there 2 times"),
        ("a;b;e;", "'e;', refused, is there 1 times"),
        ("a;b;z;", "'z;' is there in the end, and nobody appended it"),
    ],
)
def test_tokens_that_are_missing_or_there_twice(final: Value, said: str) -> None:
    operations = [append("a;"), append("b;"), append("c;", ok=None), append("e;", ok=False)]
    assert said in check_tokens(operations, {"log-0": final})


def test_counters_and_values_are_checked_for_linearizability() -> None:
    late_read = Operation(2, "read", "counter-0-0", None, None, 5, 6, 0, ok=True)
    with pytest.raises(Finding, match="not linearizable at key 'counter-0-0'") as caught:
        check_linearizable([add(1), append("a;"), late_read])
    assert caught.value.kind == SAFETY
    late_get = Operation(2, "get", "log-0", None, None, 5, 6, None, ok=True)
    with pytest.raises(Finding, match="not linearizable at key 'log-0'"):
        check_linearizable([add(1), append("a;"), late_get])
    check_linearizable([add(1), append("a;")])


def test_members_that_hold_different_values() -> None:
    with pytest.raises(Finding, match="log-0 is 'a;' at member 1 and 'b;' at member 2") as caught:
        check_all([append("a;")], {1: {"log-0": "a;"}, 2: {"log-0": "b;"}})
    assert caught.value.kind == SAFETY
    check_all([append("a;")], {1: {"log-0": "a;"}, 2: {"log-0": "a;"}})


def test_the_machine_counts_and_stores() -> None:
    store = SoakStore()
    assert store.read("c") == 0
    assert [store.add("c", 1), store.add("c", 2), store.read("c")] == [1, 3, 3]
    assert store.put("k", "v") == 1, "counters take no part in versions"
    with pytest.raises(NotAnIntegerError):
        store.add("c", True)
    again = SoakStore()
    again.restore(store.snapshot())
    assert again.read("c") == 3
    assert again.get("k") == {"value": "v", "version": 1}
    with pytest.raises(SnapshotError):
        again.restore(iter([encode_value(5)]))


def result(verdict: str) -> Result:
    return Result("vsr", 3, 1, 0, 1.0, 0, 0, 0, 0, 0, {}, {}, 0.0, 0.0, verdict)


def test_exit_codes_tell_what_was_found() -> None:
    assert [result(verdict).exit_code for verdict in ("good", SAFETY, LIVENESS, CRASH)] == [0, 3, 4, 5]


async def join(proxy: Proxy, name: str) -> tuple[KeptTransport, tuple[str, int]]:
    """A party's own socket, and where others reach it."""
    transport = await KeptTransport.open_kept()
    public = await proxy.admit(name)
    proxy.locate(name, transport.address)
    return transport, public


async def receive(transport: UdpTransport, within_s: float = 5.0) -> list[tuple[bytes, object]]:
    with trio.move_on_after(within_s):
        while True:
            await transport.wait_readable()
            arrived = transport.receive(10)
            if arrived:
                return list(arrived)
    return []


async def test_the_proxy_translates_both_ways_and_cuts_one() -> None:
    async with open_proxy(1, CALM) as proxy:
        (a, public_a), (b, public_b) = await join(proxy, "a"), await join(proxy, "b")
        control, _ = await join(proxy, CONTROL)
        try:
            a.send(b"question", public_b)
            assert await receive(b) == [(b"question", public_a)]
            b.send(b"answer", public_a)
            assert await receive(a) == [(b"answer", public_b)]

            proxy.network.cut("a", "b")
            a.send(b"lost", public_b)
            b.send(b"heard", public_a)
            assert await receive(a) == [(b"heard", public_b)]
            assert await receive(b, 0.1) == []
            assert proxy.network.statistics()["cut"] == 1

            proxy.network.isolate("b")
            control.send(b"how are you", public_b)
            assert [data for data, _ in await receive(b)] == [b"how are you"]
            proxy.network.heal()
            a.send(b"healed", public_b)
            assert await receive(b) == [(b"healed", public_a)]
        finally:
            for transport in (a, b, control):
                transport.give_up()


class Scripted:
    """A control client whose members say what the test wants."""

    def __init__(self, told: Sequence[Status]) -> None:
        self._told = iter(told)

    async def status(self, member: int) -> Status:
        await trio.lowlevel.checkpoint()
        status = next(self._told, None)
        if status is None:
            await trio.sleep_forever()
            raise AssertionError
        return status


def status(member: int, *, view: int = 1, primary: int = 1, applied: int = 5, digest: bytes = b"same") -> Status:
    return Status(member, "vsr", "normal", "backup", view, primary, 5, 5, applied, "", {}, 0, 0, digest)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([status(1, view=3, primary=2), status(1, view=2, primary=2)], "member 1's view went back from 3 to 2"),
        ([status(1, digest=b"one"), status(1, digest=b"other")], "with different digests"),
    ],
)
async def test_what_a_member_says_must_fit_what_was_said_before(
    told: list[Status], said: str, autojump_clock: trio.testing.MockClock
) -> None:
    watch = Watch(Scripted(told), [1])  # type: ignore[arg-type]  # the one method that is used
    with pytest.raises(ExceptionGroup) as caught:
        await watch.run()
    assert said in repr(caught.value.exceptions)


async def test_a_view_is_led_by_one_member_in_one_life(autojump_clock: trio.testing.MockClock) -> None:
    watch = Watch(Scripted([status(1), status(1)]), [1])  # type: ignore[arg-type]  # the one method that is used

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            await trio.sleep(0.05)
            watch.ended(1)

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert "view 1 is led by (member, life) (1, 0) and by (1, 1), too" in repr(caught.value.exceptions)


@pytest.mark.parametrize("members", [1, 2, 3, 4, 5])
async def test_every_cut_is_possible_at_every_size_and_ends(members: int) -> None:
    async with open_proxy(1, CALM) as proxy:
        parties = Parties(range(1, members + 1), ["client 1"])
        weather = Weather(proxy.network, parties, lambda: 1, Random(members))
        seen = set()
        for _ in range(200):
            seen.add(weather.cut()[0])
            seen.add(weather.turn_bad()[0])
        assert len(seen) == 15
        weather.clear()
        assert proxy.network.transmit(1, "client 1", b"x", 0) == [(0, b"x")]
