"""A bare primary: what replication costs a Python program that does nothing for the day on which something fails.

`python -m bench.bare_primary primary|backup ...` is one of three Trio processes that talk in CBOR. The primary gathers
what waits in its socket, sends it to two backups in one datagram, appends it to a file and syncs it; with its own sync
and one acknowledgement it executes each command once for each number of a client, and replies. A backup appends, syncs,
acknowledges, and executes. There are no views, no retransmission, no checks of what arrives, no catching up, and no end
to the log. What a replicated service takes beyond this is the price of its protocol.
"""

from __future__ import annotations

import sys
from random import SystemRandom

import trio
from cbor2 import dumps, loads

from bench.callers import Caller
from bench.floor import Address, Files, FloorCaller, drain, open_files
from viewstamp.cli.serve import settle_memory

_REQUEST, _PREPARE, _ACKNOWLEDGE, _REPLY = range(4)
_TURN_DATAGRAMS = 256


class BareCaller(FloorCaller):
    """A client of the bare primary that adds 1 again and again."""

    def __init__(self, primary: Address, client: int) -> None:
        super().__init__(primary)
        self._client = client
        self._number = 0

    def begin(self, now: int) -> None:
        self._number += 1
        super().begin(now)

    def receive(self, now: int) -> bool:
        _, number, _ = loads(self.socket.recv(65_536))
        return bool(number == self._number)

    def _send(self) -> None:
        self.socket.send(dumps((_REQUEST, self._client, self._number, 1)))


def bare_callers(port: int, count: int) -> list[Caller]:
    """So many clients of the bare primary that has this port."""
    return [BareCaller(("127.0.0.1", port), SystemRandom().getrandbits(62)) for _ in range(count)]


class _Counter:
    """The state machine, with the last number and reply of each client."""

    def __init__(self) -> None:
        self._value = 0
        self.replies: dict[int, tuple[int, bytes]] = {}

    def execute(self, request: bytes) -> bytes:
        """Execute a request unless it was executed before; its reply."""
        _, client, number, amount = loads(request)
        last = self.replies.get(client)
        if last is not None and number <= last[0]:
            return last[1]
        self._value += amount
        reply = dumps((_REPLY, number, self._value))
        self.replies[client] = number, reply
        return reply


async def backup(files: Files, primary: Address) -> None:
    """Append, sync, acknowledge, execute."""
    machine, bound = _Counter(), files.socket
    while True:
        await trio.lowlevel.wait_readable(bound)
        prepares = drain(bound, _TURN_DATAGRAMS)
        if not prepares:
            continue
        files.append(b"".join(prepares))
        decoded = [loads(prepare) for prepare in prepares]
        bound.sendto(dumps((_ACKNOWLEDGE, decoded[-1][1])), primary)
        for _, _, requests in decoded:
            for request in requests:
                machine.execute(request)


async def primary(files: Files, backups: tuple[Address, Address]) -> None:
    """Turn by turn: drain the socket, order what is new, sync it, execute and answer what one backup has, too."""
    machine, bound = _Counter(), files.socket
    op = acknowledged = 0
    waiting: list[tuple[int, list[tuple[bytes, Address]]]] = []
    while True:
        await trio.lowlevel.wait_readable(bound)
        ordered: list[tuple[bytes, Address]] = []
        for _ in range(_TURN_DATAGRAMS):
            try:
                datagram, sender = bound.recvfrom(65_536)
            except BlockingIOError:
                break
            if sender in backups:
                acknowledged = max(acknowledged, loads(datagram)[1])
            else:
                ordered.append((datagram, sender))
        if ordered:
            op += 1
            prepare = dumps((_PREPARE, op, [request for request, _ in ordered]))
            for address in backups:
                bound.sendto(prepare, address)
            files.append(prepare)
            waiting.append((op, ordered))
        while waiting and waiting[0][0] <= acknowledged:
            for request, client in waiting.pop(0)[1]:
                bound.sendto(machine.execute(request), client)


def main() -> None:
    """Arguments: the role (primary or backup), the journal, the own port, other ports."""
    role, journal, port, *others = sys.argv[1:]
    files = open_files(int(port), journal)
    files.socket.setblocking(False)
    addresses: list[Address] = [("127.0.0.1", int(other)) for other in others]
    settle_memory()  # as the members beside it
    print("{}", flush=True)
    if role == "backup":
        trio.run(backup, files, addresses[0])
    else:
        trio.run(primary, files, (addresses[0], addresses[1]))


if __name__ == "__main__":
    main()
