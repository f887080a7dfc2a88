"""Where tasks wait for their calls and queries, each parked until it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from viewstamp.client import ClientSession, Completion
from viewstamp.shell.idle import Idle


@dataclass(slots=True, eq=False)
class Parked:
    """A task that waits until its call is over, and then what came of it. Calling this ends the wait: Trio does, when
    the task is cancelled.

    With what it holds, a function in its place would be four objects, and tens of thousands may wait: the garbage
    collector looks at them all.
    """

    task: trio.lowlevel.Task
    handle: int
    session: ClientSession
    parked: dict[int, Parked]
    completion: Completion | None = None

    def __call__(self, raise_cancel: object) -> trio.lowlevel.Abort:
        del self.parked[self.handle]
        self.session.abandon(self.handle)
        return trio.lowlevel.Abort.SUCCEEDED


class Parking:
    """Tasks that wait for calls and queries of one session, whose loop sleeps in `idle`.

    The loop delivers what came of them, and closes this in the end.
    """

    def __init__(self, session: ClientSession, idle: Idle) -> None:
        self.session = session
        self.idle = idle
        self.closed = False
        self._parked: dict[int, Parked] = {}

    def park(self, handle: int) -> Parked:
        """What the running task is to wait with for this call or query, which it has just made."""
        self.idle.wake()
        parked = self._parked[handle] = Parked(trio.lowlevel.current_task(), handle, self.session, self._parked)
        return parked

    def deliver(self, completions: Sequence[Completion]) -> None:
        """These calls and queries are over. Whoever made one may have gone."""
        for completion in completions:
            parked = self._parked.pop(completion.handle, None)
            if parked is not None:
                parked.completion = completion
                trio.lowlevel.reschedule(parked.task)

    def close(self) -> None:
        """Whoever still waits learns that its outcome is not known."""
        self.closed = True
        parked, self._parked = self._parked, {}
        for each in parked.values():
            trio.lowlevel.reschedule(each.task)
