"""Garbage at thousands of datagrams a second to every replica: nothing is raised, all is counted, service goes on."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio

from tests.end_to_end.support import WITHIN_S, open_members, values
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from transport.interface import Address
from transport.udp import UdpTransport
from viewstamp.cli.demo.load import Load
from viewstamp.cli.demo.members import Members
from viewstamp.cli.demo.result import count_duplicated, count_lost
from viewstamp.cli.poll import until
from viewstamp.cluster import Cluster
from viewstamp.shell.client import open_client
from viewstamp.wire import FIRST_CLIENT_ID

pytestmark = pytest.mark.slow

FLOOD_S = 3.0
BURST = 25
PAUSE_S = 0.004


class RecordingTransport(UdpTransport):
    """Keeps the last real datagrams of a client, in both directions."""

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound)
        self.captured: list[bytes] = []

    def _keep(self, datagram: bytes) -> None:
        if len(self.captured) < 200:
            self.captured.append(datagram)

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        arrived = super().receive(limit)
        for datagram, _ in arrived:
            self._keep(datagram)
        return arrived

    def send(self, datagram: bytes, address: Address) -> bool:
        self._keep(datagram)
        return super().send(datagram, address)


async def capture(cluster: Cluster) -> list[bytes]:
    """Real datagrams between a client and the members."""
    transport = await RecordingTransport.open("127.0.0.1", 0)
    assert isinstance(transport, RecordingTransport)
    async with open_client(cluster, transport=transport) as client:
        with trio.fail_after(WITHIN_S):
            for member in cluster.members:
                await client.status(member.id)
    return transport.captured


def of_a_stranger(cluster: Cluster) -> list[bytes]:
    """Frames that are well made, for another cluster and for another configuration of this one."""
    frames: list[bytes] = []
    for identity in (
        FrameIdentity(b"stranger", cluster.digest, 0, 0, 1, 1),
        FrameIdentity(cluster.cluster_id, b"changed!", 0, 0, 2, 1),
        FrameIdentity(cluster.cluster_id, b"changed!", 0, 0, FIRST_CLIENT_ID, 1),
    ):
        endpoint = Endpoint(identity)
        endpoint.set_peer(9, "anywhere")
        endpoint.send(9, b"a message that means nothing here")
        frames += [datagram for datagram, _ in endpoint.flush(0)]
    return frames


def garbage(draw: Random, captured: list[bytes], strangers: list[bytes]) -> bytes:
    """One datagram that no member may take."""
    kind = draw.randrange(4)
    if kind == 0:
        return draw.randbytes(draw.randrange(1, 1200))
    if kind == 1:
        return draw.choice(strangers)
    real = draw.choice(captured)
    if kind == 2:
        return real[: draw.randrange(1, len(real))]
    damaged = bytearray(real)
    damaged[draw.randrange(len(real))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


async def flood(cluster: Cluster, prepared: list[bytes]) -> int:
    """Send bursts to every member for a while; returns how many datagrams each was sent."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
        with trio.move_on_after(FLOOD_S):
            while True:
                for offset in range(BURST):
                    datagram = prepared[(sent + offset) % len(prepared)]
                    for member in cluster.members:
                        flooder.sendto(datagram, member.address)
                sent += BURST
                await trio.sleep(PAUSE_S)
    return sent


async def statuses(members: Members) -> list[dict[str, object]]:
    """What `viewstamp status --json` prints of each member."""
    command = [sys.executable, "-m", "viewstamp", "status", "--json", "--cluster", str(members.file)]
    with trio.fail_after(WITHIN_S):
        result = await trio.run_process(command, capture_stdout=True)
    rows: list[dict[str, object]] = json.loads(result.stdout)["members"]
    return rows


async def test_service_goes_on_under_a_flood(tmp_path: Path) -> None:
    draw = Random(5)
    async with open_members(tmp_path) as members:
        captured = await capture(members.cluster)
        strangers = of_a_stranger(members.cluster)
        prepared = [garbage(draw, captured, strangers) for _ in range(4000)]
        load = Load(members.cluster, clients=4, total=None)
        with trio.fail_after(2 * WITHIN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await until(lambda: load.acknowledged >= 50)
                before = load.acknowledged
                sent = await flood(members.cluster, prepared)
                during = load.acknowledged - before
                after = load.acknowledged
                await until(served_more(load, after + 50))
                load.stop()
        assert sent > 1000 * FLOOD_S, "this is no flood"
        assert during > 50, "service stopped under the flood"
        members.check()
        for row in await statuses(members):
            drops = row["drops"]
            assert isinstance(drops, dict)
            assert row["reachable"]
            # The system itself may drop some where the socket is full; what was read was counted, each for a reason.
            assert sum(drops.values()) > sent // 2, drops
            assert len(drops) >= 4, drops
        (final,) = await values(members)
        assert load.unknown == 0
        assert count_lost(load.values, final) == 0
        assert count_duplicated(load.values, 0, final) == 0
        for member in members.ids:
            assert "Traceback" not in members.log(member)


def served_more(load: Load, count: int) -> Callable[[], bool]:
    """Whether that many calls have been answered in all."""
    return lambda: load.acknowledged >= count
