"""What the processes of a soak go through: SIGKILL, SIGSTOP, planned stops, lost disks, clients that crash."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterable
from random import Random

import trio

from viewstamp.cli.demo.members import KILLED, Members
from viewstamp.cli.soak.findings import CRASH, LIVENESS, Finding
from viewstamp.cli.soak.load import Load
from viewstamp.cli.soak.watch import Watch
from viewstamp.registry import protocol_class

_STOPS_WITHIN_S = 10.0
_DOWN_S = 1.5
_FROZEN_S = 2.5


class Failures:
    """Each failure is a coroutine that ends when the processes run again; cancelled, it may leave some down."""

    def __init__(self, members: Members, load: Load, clients: int, watch: Watch, random: Random) -> None:
        self._members = members
        self._load = load
        self._clients = clients
        self._watch = watch
        self._random = random
        self.say: Callable[[str], None] = lambda _: None
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "SIGKILL": self._kill_one,
            "SIGKILL twice": self._kill_twice,
            "SIGKILL of a minority": self._kill_minority,
            "SIGKILL of all": self._kill_all,
            "SIGSTOP": self._freeze_one,
            "SIGSTOP of all": self._freeze_all,
            "planned stop": self._stop_one,
            "rolling restart": self._restart_all,
            "client crash": self._crash_client,
        }

    @property
    def loses_disks(self) -> bool:
        """Whether this cluster can bring back a member that lost its disk, while the others are there."""
        cluster = self._members.cluster
        return protocol_class(cluster.protocol).recovers_lost_disk and len(cluster.members) > 2

    async def lose_disk(self) -> None:
        """A member is killed and starts again with an empty directory. All others must be well, and stay so."""
        member = self._anyone()
        self.say(f"the disk of {member} is lost")
        await self._kill(member)
        shutil.rmtree(self._members.data(member))
        await self._pause(_DOWN_S)
        await self._members.start(member)

    async def start_missing(self) -> None:
        """Start every member that is down, once it has really ended."""
        for member, state in self._members.state.items():
            if state == KILLED:
                await self._members.wait_ended(member)
                await self._members.start(member)

    def _anyone(self) -> int:
        primary = self._watch.primary
        return primary if primary and self._random.random() < 0.6 else self._random.choice(self._members.ids)

    async def _pause(self, longest_s: float) -> None:
        await trio.sleep(self._random.uniform(0, longest_s))

    async def _kill(self, member: int) -> None:
        self._watch.ended(member)
        await self._members.kill(member)
        self._watch.ended(member)  # Once more: an answer may have come in while it was being ended.

    async def _kill_and_start(self, some: Iterable[int]) -> None:
        chosen = list(some)
        self.say(f"SIGKILL of {chosen}")
        for member in chosen:
            await self._kill(member)
        self._random.shuffle(chosen)
        for member in chosen:
            await self._pause(_DOWN_S)
            await self._members.start(member)

    async def _kill_one(self) -> None:
        await self._kill_and_start([self._anyone()])

    async def _kill_twice(self) -> None:
        """Once more while it comes back."""
        member = self._anyone()
        await self._kill_and_start([member])
        await self._pause(0.6)
        await self._kill_and_start([member])

    async def _kill_minority(self) -> None:
        ids = self._members.ids
        await self._kill_and_start(self._random.sample(ids, max(1, (len(ids) - 1) // 2)))

    async def _kill_all(self) -> None:
        await self._kill_and_start(self._random.sample(self._members.ids, len(self._members.ids)))

    async def _freeze(self, some: Iterable[int]) -> None:
        frozen = list(some)
        self.say(f"SIGSTOP of {frozen}")
        try:
            for member in frozen:
                self._members.freeze(member)
            await self._pause(_FROZEN_S)
        finally:
            for member in frozen:
                self._members.thaw(member)

    async def _freeze_one(self) -> None:
        await self._freeze([self._anyone()])

    async def _freeze_all(self) -> None:
        await self._freeze(self._members.ids)

    async def _stop(self, member: int) -> None:
        """As an operator would: SIGTERM, and it must end soon, and well."""
        self.say(f"SIGTERM of {member}")
        self._watch.ended(member)
        self._members.terminate(member)
        with trio.move_on_after(_STOPS_WITHIN_S):
            code = await self._members.wait_ended(member)
            self._watch.ended(member)
            if code:
                raise Finding(CRASH, f"member {member} ended with code {code} when it was told to stop")
            return
        raise Finding(LIVENESS, f"member {member} did not end within {_STOPS_WITHIN_S:g} s of SIGTERM")

    async def _stop_one(self) -> None:
        member = self._anyone()
        await self._stop(member)
        await self._pause(_DOWN_S)
        await self._members.start(member)

    async def _restart_all(self) -> None:
        for member in self._random.sample(self._members.ids, len(self._members.ids)):
            await self._stop(member)
            await self._members.start(member)
            await self._pause(_DOWN_S)

    async def _crash_client(self) -> None:
        client = self._random.randrange(self._clients)
        self.say(f"client {client + 1} crashes")
        self._load.crash(client)
        await trio.lowlevel.checkpoint()
