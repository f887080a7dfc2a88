"""Clients of a simulated world that are real ones: `open_client`, and a task for each call.

Some calls are made at a replica instead, as a service beside it does: such a caller gives up after a while, since its
member can be cut off for long, and learns that the outcome is unknown when the replica is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import trio

from statemachine import (
    CommandError,
    CommandFailedError,
    NotExecutedError,
    OutcomeUnknownError,
    SessionExpiredError,
    StateMachine,
)
from statemachine.command import decode_body
from statemachine.machine import commands_of, queries_of
from transport.interface import Transport
from viewstamp.cluster import Cluster
from viewstamp.shell.callers import Callers, ClosedError
from viewstamp.shell.client import Client, open_client
from viewstamp.simulation.verdict import require

_AT_HOME_OF_TEN = 1
_PATIENCE_IN_SUSPECT_TIMEOUTS = 4
_TOLD = (CommandError, CommandFailedError, NotExecutedError, OutcomeUnknownError)


class RemoteClient:
    """One client's process. `answered` is called with a handle and what the call returned or raised.

    `services` gives the replicas that run. `failed` is called with any other exception, which ends the process.
    """

    def __init__(
        self,
        cluster: Cluster,
        machine: type[StateMachine],
        transport: Transport,
        random: Random,
        services: Callable[[], Sequence[Callers]],
        answered: Callable[[int, object], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.over = False
        self._ended = False
        self.calls: dict[int, trio.CancelScope] = {}
        self.calls_at_home = 0
        self._cluster = cluster
        self._machine = machine
        self._operations: dict[str, Any] = {**commands_of(machine), **queries_of(machine)}
        self._transport = transport
        self._random = random
        self._services = services
        self._answered = answered
        self._failed = failed
        self._scope = trio.CancelScope()
        self._client: Client | None = None
        self._opened = trio.Event()

    async def run(self) -> None:
        """The process, from start to end."""
        try:
            with self._scope:
                async with open_client(
                    self._cluster, self._machine, transport=self._transport, random=self._random
                ) as client:
                    self._client = client
                    self._opened.set()
                    await trio.sleep_forever()
        except Exception as error:  # noqa: BLE001  # any is a finding
            self._failed(error)
        finally:
            self.over = True
            self._opened.set()

    def end(self) -> None:
        """The process is stopped."""
        self._ended = True
        self._scope.cancel()

    def abandon(self, handle: int) -> None:
        """Whoever made this call goes away."""
        if handle in self.calls:
            self.calls[handle].cancel()

    def renew(self) -> None:
        """Open another session; the one before has expired."""
        if self._client is not None:
            self._client.renew_session()

    def expect(self, handle: int) -> None:
        """A call is about to be made."""
        self.calls[handle] = trio.CancelScope()

    async def call(self, handle: int, body: bytes, *, reads: bool, member: int) -> None:
        """The task of one caller."""
        try:
            with self.calls[handle]:
                await self._opened.wait()
                self._answered(handle, await self._outcome(body, reads=reads, member=member))
        except Exception as error:  # noqa: BLE001  # any is a finding
            self._failed(error)
        finally:
            del self.calls[handle]

    async def _outcome(self, body: bytes, *, reads: bool, member: int) -> object:
        operation: Any = None  # a list of commands, unless it is one
        arguments: Sequence[Any] = decode_body(body)
        if type(arguments[0]) is str:
            name, *arguments = arguments
            operation = self._operations[name]
        client = self._client
        try:
            if not member and self._random.randrange(10) < _AT_HOME_OF_TEN:
                done, value = await self._at_home(operation, arguments, reads=reads)
                if done:
                    return value
            if client is None:
                raise ClosedError
            return await self._ask(client, operation, arguments, reads=reads, member=member)
        except _TOLD as told:
            return told

    async def _ask(
        self, client: Client, operation: Any, arguments: Sequence[Any], *, reads: bool, member: int
    ) -> object:
        try:
            if operation is None:
                return await client.call_all(arguments)
            if not reads:
                return await client.call(operation, *arguments)
            if member:
                return await client.read_from(member, operation, *arguments)
            return await client.read(operation, *arguments)
        except ClosedError:
            require(self._ended, "closing", "a caller was told that its client is closed, and it is not")
            raise

    async def _at_home(self, operation: Any, arguments: Sequence[Any], *, reads: bool) -> tuple[bool, object]:
        """Call or read at some replica; (False, None) if nothing can have come of it."""
        services = self._services()
        if not services:
            return False, None
        home = services[self._random.randrange(len(services))]
        patience_s = _PATIENCE_IN_SUSPECT_TIMEOUTS * self._cluster.timeouts.suspect / 1e9
        self.calls_at_home += 1
        try:
            with trio.move_on_after(patience_s):
                if operation is None:
                    return True, await home.call_all(arguments)
                return True, await (home.read if reads else home.call)(operation, *arguments)
        except SessionExpiredError:
            home.renew_session()
            raise
        finally:
            self.calls_at_home -= 1
        if reads:
            return False, None
        raise ClosedError
