"""What a replica and a client have in common for their callers: calls and reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import trio

from statemachine import (
    BoundCommand,
    Command,
    CommandTooLargeError,
    Operation,
    OutcomeUnknownError,
    Query,
    SessionExpiredError,
    StateMachine,
    UnknownReason,
    encode_list,
    result_of,
)
from viewstamp.client import Failure
from viewstamp.protocol import Viewstamp
from viewstamp.shell.idle import monotonic_ns
from viewstamp.shell.parking import Parked, Parking

P = ParamSpec("P")
R = TypeVar("R")


_EXAMPLES: Mapping[object, str] = {Command: "such as Counter.add", Query: "such as Counter.get"}


class ClosedError(OutcomeUnknownError):
    """The replica or client was closed before there was an answer.

    The outcome of a call that was under way is not known. Where `sent` is False, nothing had been sent: the command was
    certainly not executed, and will not be.
    """

    def __init__(self, *, sent: bool = True) -> None:
        super().__init__(UnknownReason.CLOSED, sent=sent)


class Callers:
    """Calls and queries of one session, by as many tasks as like."""

    def __init__(self, machine_class: type[StateMachine], maximum_body_bytes: int, parking: Parking) -> None:
        self._machine_class = machine_class
        self._maximum_body_bytes = maximum_body_bytes
        self._session = parking.session
        self._parking = parking
        self._current_time = trio.lowlevel.current_clock().current_time
        self._newest = 0
        self._renewed_after = 0
        self._view = self._op = 0  # of the newest answer

    @property
    def viewstamp(self) -> Viewstamp:
        """The newest viewstamp that any answer to this caller carried."""
        return Viewstamp(self._view, self._op)

    async def call(self, command: Command[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Have the cluster execute a command, once, and return its result.

        Waits as long as it takes: bound it with `trio.move_on_after` or `trio.fail_after`. Cancelling never means
        "it did not happen": the command may be executed, once, at any later time.

        Raises:
          CommandError: the command raised it; also CommandFailedError for any other exception it raised.
          NotExecutedError: certainly not executed, such as a command unknown to the cluster.
          OutcomeUnknownError: the session expired (SessionExpiredError), or this was closed (ClosedError), before there
            was an answer. It was certainly not executed if the error's `sent` is False.
          CommandTooLargeError, ValueEncodingError, TypeError: the arguments; nothing was sent.
        """
        body = self._encoded(Command, command, args, kwargs)
        del args, kwargs  # Tens of thousands may wait, and each would keep them.
        self._refuse_if_closed()
        parked = self._park(self._session.call(body, monotonic_ns(self._current_time)))
        await trio.lowlevel.wait_task_rescheduled(parked)
        result: R = self._result(parked)
        return result

    async def call_all(self, commands: Sequence[BoundCommand[R]]) -> list[R | Exception]:
        """Have the cluster execute a list of commands, such as `[Counter.add.bind(1), Counter.add.bind(2)]`, once.

        The list is one request and one entry of the log: its commands run one after the other, with nothing of anyone
        else in between. Returns a list with an element for each, in their order: its result, or the exception that
        `call` would have raised, as `asyncio.gather(return_exceptions=True)` does. It is no transaction: each command
        runs whatever became of those before it, and what they changed stays.

        Waits, and may be cancelled, as `call`: cancelled, all of the list or nothing of it is executed, once. An empty
        list is answered at once, without a message.

        Raises:
          NotExecutedError: certainly nothing of the list was executed.
          OutcomeUnknownError: the session expired (SessionExpiredError), or this was closed (ClosedError), before there
            was an answer. It was certainly not executed if the error's `sent` is False.
          CommandTooLargeError: together they are too large for one entry; nothing was sent.
          TypeError: they are not commands with their arguments; nothing was sent.
        """
        bodies = list(commands)
        if any(type(body) is not bytes for body in bodies):
            raise TypeError("call_all takes a list of commands with their arguments, such as [Counter.add.bind(1)]")
        body = encode_list(bodies, self._maximum_body_bytes)
        self._refuse_if_closed()
        if not bodies:
            await trio.lowlevel.checkpoint()
            return []
        parked = self._park(self._session.call(body, monotonic_ns(self._current_time), is_list=True))
        await trio.lowlevel.wait_task_rescheduled(parked)
        results: list[R | Exception] = self._result(parked)
        return results

    async def read(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Linearizable read: sees every command that was answered before the read began. Never in the log.

        Waits as long as it takes, and may be cancelled at any time without a trace.

        Raises:
          CommandError and CommandFailedError, as `call` does; ClosedError; NotExecutedError: no such query there.
          CommandTooLargeError, ValueEncodingError, TypeError: the arguments; nothing was sent.
        """
        body = self._encoded(Query, query, args, kwargs)
        self._refuse_if_closed()
        parked = self._park(self._session.query(body, monotonic_ns(self._current_time)))
        await trio.lowlevel.wait_task_rescheduled(parked)
        result: R = self._result(parked)
        return result

    def renew_session(self) -> None:
        """After SessionExpiredError: open a new session for the calls made from now on."""
        if self._session.expired:
            self._renewed_after = self._newest
            self._session.renew()

    def _encoded(
        self,
        kind: type[Operation[..., Any]],
        operation: Operation[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> bytes:
        if type(operation) is not kind:
            raise TypeError(
                f"a {kind.kind} of the state machine's class is wanted, {_EXAMPLES[kind]}: not {operation!r}"
            )
        body: bytes = operation.bind(*args, **kwargs)
        if len(body) > self._maximum_body_bytes:
            raise CommandTooLargeError(
                f"{operation.name}: {len(body)} bytes of arguments; this cluster takes at most "
                f"{self._maximum_body_bytes}"
            )
        return body

    def _park(self, handle: int) -> Parked:
        self._newest = handle
        return self._parking.park(handle)

    def _result(self, parked: Parked) -> Any:
        handle, completion = parked.handle, parked.completion
        if completion is None:
            raise ClosedError(sent=not parked.session.waits(handle))
        if completion.failure is not None:
            raise SessionExpiredError(sent=completion.failure is not Failure.NEVER_SENT)
        if completion.op > self._op:  # What is committed has its views in the order of its ops.
            self._view, self._op = completion.view, completion.op
        try:
            return result_of(completion.outcome, self._machine_class)
        except SessionExpiredError:
            # Its other calls learn the same without asking one by one. But of two that learn it in one turn, the task
            # of the first may have renewed already: the second's news is of the old session, not of the new one.
            if handle > self._renewed_after:
                self._session.expire()
                self._parking.deliver(self._session.take_completions())
            raise

    def _refuse_if_closed(self) -> None:
        if self._parking.closed:
            raise ClosedError(sent=False)
