"""The replica processes of the demo and of the soak: started, killed, frozen, and never left behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import trio

from viewstamp.cluster import Cluster, ClusterOptions

_HOST = "127.0.0.1"
_WATCH_S = 0.05
_STOP_S = 1.5
_LOG_LINES = 20

RUNNING = "running"
KILLED = "killed"
FROZEN = "frozen"


class MemberEndedError(Exception):
    """A replica process ended by itself. `log` is the end of what it wrote to standard error."""

    def __init__(self, member: int, code: int, log: str) -> None:
        super().__init__(f"member {member} ended by itself with code {code}")
        self.member = member
        self.code = code
        self.log = log


def free_ports(count: int) -> list[int]:
    """UDP ports of this machine that nobody used a moment ago; held together, so that all differ."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind((_HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Members:
    """One process for each member, with its journal and its log under `folder`.

    `machine` is what they replicate, as `serve --machine` takes it. `advertised` are the (host, port) addresses where
    the members are reached, if they are not reached directly: one for each. `options` are those of `Cluster.make`.
    """

    def __init__(
        self,
        folder: Path,
        protocol: str,
        replicas: int,
        *,
        machine: str = "counter",
        advertised: Sequence[tuple[str, int]] = (),
        **options: Unpack[ClusterOptions],
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._machine = machine
        bound = [(_HOST, port) for port in free_ports(replicas)]
        cluster = Cluster.make("demo", protocol, advertised or bound, **options)
        if advertised:
            pairs = zip(cluster.members, bound, strict=True)
            cluster = replace(
                cluster, members=tuple(replace(each, bind_host=host, bind_port=port) for each, (host, port) in pairs)
            )
        self.cluster = cluster
        self.file = folder / "cluster.toml"
        self.file.write_text(self.cluster.to_toml(), encoding="utf-8")
        self.ids = tuple(member.id for member in self.cluster.members)
        self.state = dict.fromkeys(self.ids, KILLED)
        self._processes: dict[int, trio.Process] = {}

    def data(self, member: int) -> Path:
        """A member's own directory."""
        return self._folder / f"data-{member}"

    async def start(self, member: int) -> None:
        """Start a member on its journal, which is made if it is not there."""
        command = [sys.executable, "-m", "viewstamp", "serve", "--cluster", str(self.file)]
        command += ["--id", str(member), "--data", str(self.data(member)), "--machine", self._machine]
        with self.log_file(member).open("ab") as log:
            # A process group of its own: a Ctrl-C at the terminal is for the demo, which then ends its members.
            self._processes[member] = await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, process_group=0
            )
        self.state[member] = RUNNING

    async def kill(self, member: int) -> None:
        """SIGKILL: it has no time to say or write anything."""
        self.state[member] = KILLED
        process = self._processes[member]
        process.kill()
        await process.wait()

    def terminate(self, member: int) -> None:
        """SIGTERM: it is asked to end."""
        self.state[member] = KILLED
        self._processes[member].terminate()

    async def wait_ended(self, member: int) -> int:
        """Wait until a member's process has ended; returns its exit code."""
        return await self._processes[member].wait()

    def freeze(self, member: int) -> None:
        """SIGSTOP: the process is there, and does nothing."""
        self._processes[member].send_signal(signal.SIGSTOP)
        self.state[member] = FROZEN

    def thaw(self, member: int) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._processes[member].send_signal(signal.SIGCONT)
        self.state[member] = RUNNING

    def check(self) -> None:
        """Raises MemberEndedError if a member ended that was not killed."""
        for member, process in self._processes.items():
            code = process.returncode
            if code is not None and self.state[member] != KILLED:
                raise MemberEndedError(member, code, self.log(member))

    async def watch(self) -> None:
        """Check again and again, until cancelled or a member ends by itself."""
        while True:
            self.check()
            await trio.sleep(_WATCH_S)

    def log(self, member: int) -> str:
        """The last lines of a member's standard error."""
        try:
            text = self.log_file(member).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-_LOG_LINES:])

    def log_file(self, member: int) -> Path:
        """What a member writes to standard error, in all its lives."""
        return self._folder / f"member-{member}.log"

    async def stop_all(self) -> None:
        """End every process, whatever state it is in, and wait for it; cancellation does not keep it from that."""
        alive = [process for process in self._processes.values() if process.returncode is None]
        self.state = dict.fromkeys(self.ids, KILLED)
        with trio.CancelScope(shield=True):
            for process in alive:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            with trio.move_on_after(_STOP_S):
                for process in alive:
                    await process.wait()
            for process in alive:
                if process.returncode is None:
                    process.kill()
                await process.wait()
