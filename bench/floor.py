"""The floor: the datagrams and the syncs of a replicated command between three processes, and no protocol.

`python -m bench.floor primary|backup ...` is one of the three. The primary takes clients' datagrams, forwards them to
two backups, appends them to a file and syncs it; a backup appends, syncs and acknowledges; the primary replies after
its own sync and the first acknowledgement. Nothing is checked, retried, ordered, remembered or decoded.

Batched: all that waits in the socket shares one datagram to each backup and one sync. Unbatched: one at a time, with
blocking calls.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from struct import Struct
from typing import NamedTuple

from bench.callers import Caller

REQUEST_BYTES = 77
REPLY_BYTES = 77
ENTRY_BYTES = 64
FRAME_BYTES = 72
_REQUEST = b"R" * REQUEST_BYTES
_REPLY = b"A" * REPLY_BYTES
_FRAME = b"P" * FRAME_BYTES
_ACKNOWLEDGED = Struct(">Q")
_ACK_PADDING = b"K" * (FRAME_BYTES - _ACKNOWLEDGED.size)
_BATCH = 256
_BUFFER_BYTES = 4 << 20
_RETRY_NS = 200_000_000

Address = tuple[str, int]
_sync = getattr(os, "fdatasync", os.fsync)


class FloorCaller(Caller):
    """A client of the floor."""

    def __init__(self, primary: Address) -> None:
        super().__init__()
        self.socket.connect(primary)

    def begin(self, now: int) -> None:
        self.began_at = now
        self._send()

    def receive(self, now: int) -> bool:
        return bool(self.socket.recv(65_536))

    def tick(self, now: int) -> None:
        if self.began_at and now - self.began_at > _RETRY_NS:
            self._send()

    def _send(self) -> None:
        self.socket.send(_REQUEST)

    def sent(self) -> tuple[int, int]:
        return 0, 0


def floor_callers(port: int, count: int) -> list[Caller]:
    """So many clients of the floor whose primary has this port."""
    return [FloorCaller(("127.0.0.1", port)) for _ in range(count)]


class Files(NamedTuple):
    """What one process of a chain writes to: its socket, and the journal as a file descriptor."""

    socket: socket.socket
    journal: int

    def append(self, batch: bytes) -> None:
        """Write and sync."""
        os.write(self.journal, batch)
        _sync(self.journal)


def open_files(port: int, journal: str) -> Files:
    """The socket and the journal of one process."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        bound.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    bound.bind(("127.0.0.1", port))
    return Files(bound, os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND))


def backup(files: Files, primary: Address) -> None:
    """Append, sync, acknowledge; all that waits at once."""
    bound = files.socket
    while True:
        waiting = [bound.recv(65_536)]
        waiting += drain(bound, _BATCH)
        files.append(b"".join(waiting))
        bound.sendto(waiting[-1][: _ACKNOWLEDGED.size] + _ACK_PADDING, primary)


def drain(bound: socket.socket, limit: int) -> list[bytes]:
    """What waits in the socket, without blocking."""
    found: list[bytes] = []
    while len(found) < limit:
        try:
            found.append(bound.recv(65_536, socket.MSG_DONTWAIT))
        except BlockingIOError:
            break
    return found


def primary_unbatched(files: Files, backups: tuple[Address, Address]) -> None:
    """One request at a time."""
    bound = files.socket
    number = 0
    while True:
        request, client = bound.recvfrom(65_536)
        if client in backups:
            continue  # the second acknowledgement of the request before
        number += 1
        entry = _ACKNOWLEDGED.pack(number) + _FRAME[8:] + request[:ENTRY_BYTES]
        for address in backups:
            bound.sendto(entry, address)
        files.append(entry)
        while True:
            acknowledgement, sender = bound.recvfrom(65_536)
            if sender in backups and _ACKNOWLEDGED.unpack_from(acknowledgement)[0] >= number:
                break
        bound.sendto(_REPLY, client)


def primary_batched(files: Files, backups: tuple[Address, Address]) -> None:
    """Turn by turn: drain the socket, forward, sync, reply to all that one backup has acknowledged."""
    bound = files.socket
    bound.setblocking(False)
    poll = select.poll()
    poll.register(bound, select.POLLIN)
    number = acknowledged = 0
    waiting: list[tuple[int, list[Address]]] = []
    while True:
        poll.poll()
        clients: list[Address] = []
        entries: list[bytes] = []
        for _ in range(_BATCH):
            try:
                datagram, sender = bound.recvfrom(65_536)
            except BlockingIOError:
                break
            if sender in backups:
                acknowledged = max(acknowledged, _ACKNOWLEDGED.unpack_from(datagram)[0])
            else:
                clients.append(sender)
                entries.append(datagram[:ENTRY_BYTES])
        if entries:
            number += 1
            blob = _ACKNOWLEDGED.pack(number) + _FRAME[8:] + b"".join(entries)
            for address in backups:
                bound.sendto(blob, address)
            files.append(blob)
            waiting.append((number, clients))
        while waiting and waiting[0][0] <= acknowledged:
            for client in waiting.pop(0)[1]:
                bound.sendto(_REPLY, client)


def main() -> None:
    """Arguments: the role (primary-batched, primary-unbatched, backup), the journal, the own port, other ports."""
    role, journal, port, *others = sys.argv[1:]
    files = open_files(int(port), journal)
    addresses = [("127.0.0.1", int(other)) for other in others]
    print("{}", flush=True)
    match role:
        case "backup":
            backup(files, addresses[0])
        case "primary-batched":
            primary_batched(files, (addresses[0], addresses[1]))
        case _:
            primary_unbatched(files, (addresses[0], addresses[1]))


if __name__ == "__main__":
    main()
