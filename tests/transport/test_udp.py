"""UDP on the loopback interface."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.transport.conformance import TransportConformance, receive_some
from transport import Transport, TransportError, UdpTransport


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


LOOPBACKS = ["127.0.0.1", "localhost", *(["::1"] if _has_ipv6() else [])]


@asynccontextmanager
async def _pair(host: str = "127.0.0.1") -> AsyncGenerator[tuple[UdpTransport, UdpTransport], None]:
    one, two = await UdpTransport.open(host, 0), await UdpTransport.open(host, 0)
    try:
        yield one, two
    finally:
        one.close()
        two.close()


class TestUdpConformance(TransportConformance):
    @asynccontextmanager
    async def pair(self) -> AsyncGenerator[tuple[Transport, Transport], None]:
        async with _pair() as (one, two):
            yield one, two


def _port(transport: UdpTransport) -> int:
    address = transport.address
    assert isinstance(address, tuple)
    port: int = address[1]
    return port


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_addresses_and_names_of_each_family(host: str) -> None:
    async with _pair(host) as (one, two):
        assert await one.resolve(host, _port(two)) == two.address
        one.send(b"hello", await one.resolve(host, _port(two)))
        assert await receive_some(two, 1) == [(b"hello", one.address)]


async def test_bound_to_all_addresses_of_both_families() -> None:
    if not _has_ipv6():
        return
    async with _pair("127.0.0.1") as (four, _):
        every = await UdpTransport.open("::", 0)
        try:
            assert every.send(b"hello", await every.resolve("127.0.0.1", _port(four)))
            ((datagram, source),) = await receive_some(four, 1)
            assert (datagram, source) == (b"hello", ("127.0.0.1", _port(every)))
            four.send(b"answer", source)
            assert (await receive_some(every, 1))[0][0] == b"answer"
        finally:
            every.close()


async def test_a_taken_port_is_an_error_at_once_that_names_it() -> None:
    async with _pair() as (one, _):
        with pytest.raises(TransportError, match=rf"cannot bind to 127\.0\.0\.1:{_port(one)}: .*in use") as caught:
            await UdpTransport.open("127.0.0.1", _port(one))
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("not a host", 0), ("127.0.0.1", 70_000), ("", -1)])
async def test_an_address_that_cannot_be_bound_is_named(host: str, port: int) -> None:
    with pytest.raises(TransportError, match=f"cannot bind to {host}:{port}: "):
        await UdpTransport.open(host, port)


async def test_a_name_that_does_not_resolve_is_an_error() -> None:
    async with _pair() as (one, _):
        with pytest.raises(TransportError, match="cannot resolve no host:5: "):
            await one.resolve("no host", 5)
        with pytest.raises(TransportError, match=r"cannot resolve \[::1\]:5: "):
            await one.resolve("::1", 5)


class _NoThreads(trio.abc.HostnameResolver):
    """As where none can be started to ask in."""

    async def getaddrinfo(self, *arguments: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_a_name_that_nobody_can_be_asked_for_is_one_that_does_not_resolve() -> None:
    async with _pair() as (one, _):
        trio.socket.set_custom_hostname_resolver(_NoThreads())
        with pytest.raises(TransportError, match="cannot resolve localhost:5: can't start new thread"):
            await one.resolve("localhost", 5)
        with pytest.raises(TransportError, match="cannot bind to localhost:5: can't start new thread"):
            await UdpTransport.open("localhost", 5)


async def test_what_cannot_be_sent_is_counted_by_reason() -> None:
    async with _pair() as (one, two):
        assert one.send(bytes(65_508), two.address) is False
        assert one.send(b"to port 0", ("127.0.0.1", 0)) is False
        assert dict(one.statistics().drops) == {"too_large": 1, "other": 1}
        assert one.send(bytes(65_507), two.address) is True
        assert await receive_some(two, 1) == [(bytes(65_507), one.address)]


class _FailingSocket:
    """A socket whose calls fail as told, then behave."""

    def __init__(self, real: socket.socket, failures: list[int]) -> None:
        self._real = real
        self._failures = failures

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, object]:
        self._fail()
        return self._real.recvfrom_into(buffer)

    def sendto(self, datagram: bytes, address: tuple[str, int]) -> int:
        self._fail()
        return self._real.sendto(datagram, address)

    def _fail(self) -> None:
        if self._failures:
            number = self._failures.pop(0)
            raise OSError(number, "told to fail")

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


async def test_errors_about_single_datagrams_are_counted_and_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _pair() as (one, two):
        failing = _FailingSocket(two._socket, [errno.ECONNREFUSED, errno.EHOSTUNREACH])
        one.send(b"hello", two.address)
        with trio.fail_after(5):
            await two.wait_readable()
        with monkeypatch.context() as patch:
            patch.setattr(two, "_socket", failing)
            assert two.receive(10) == [(b"hello", one.address)]
        assert dict(two.statistics().drops) == {"receive_refused": 1, "receive_unreachable": 1}
        monkeypatch.setattr(
            one, "_send_to", _FailingSocket(one._socket, [errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED]).sendto
        )
        assert [one.send(b"x", two.address) for _ in range(4)] == [False, False, False, True]
        assert dict(one.statistics().drops) == {"full": 2, "refused": 1}


async def test_a_flood_is_survived_and_drained_in_bounded_steps() -> None:
    async with _pair() as (one, two):
        for _ in range(20_000):
            one.send(bytes(1000), two.address)
        total = 0
        while arrived := two.receive(64):
            assert len(arrived) <= 64
            total += len(arrived)
        assert 0 < total <= 20_000
        one.send(b"after", two.address)
        assert await receive_some(two, 1) == [(b"after", one.address)]
