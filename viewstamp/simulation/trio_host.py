"""Trio as a guest of the simulation: stepped from outside, in one thread, with a clock that moves only when told."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from random import Random
from typing import Any

import trio
from outcome import Outcome

from viewstamp.protocol import NEVER
from viewstamp.simulation.verdict import Kind, ViolationError

_MODULE = "trio._core._run"
_SWITCH, _GENERATOR = "_ALLOW_DETERMINISTIC_SCHEDULING", "_r"
_MOST_STEPS = 100_000


class UnfitTrioError(RuntimeError):
    """This version of Trio cannot be made to run its tasks in an order that a seed fixes."""


class _Clock(trio.abc.Clock):
    """Shows what the simulation says. Trio asks how long to sleep exactly when no task can run: then it is `idle`."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.idle = False
        self.next_deadline = inf
        self._now_ns = now_ns

    def start_clock(self) -> None:
        """Nothing runs by itself."""

    def current_time(self) -> float:
        return self._now_ns() / 1e9

    def deadline_to_sleep_time(self, deadline: float) -> float:
        self.idle = True
        self.next_deadline = deadline
        return 0.0  # Never wait: whoever steps it decides when it is later.


class TrioHost:
    """A Trio run in guest mode. `settle` lets its tasks run until all wait; between two calls time may pass.

    Trio shuffles the tasks that are ready, on purpose, and has no public way to fix the order. Its Hypothesis plugin
    uses a private switch and a private generator, and so does this; without them there is an UnfitTrioError.
    """

    def __init__(self, seed: int, now_ns: Callable[[], int], main: Callable[[], Awaitable[None]]) -> None:
        self._steps: deque[Callable[[], object]] = deque()
        self._clock = _Clock(now_ns)
        self._now_ns = now_ns
        self._outcome: Outcome[Any] | None = None
        self._order = _Order(seed)
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=self._steps.append,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
            clock=self._clock,
        )

    def _done(self, outcome: Outcome[Any]) -> None:
        self._outcome = outcome
        self._order.restore()

    @property
    def next_deadline(self) -> int:
        """When a task wants to be woken next, in nanoseconds."""
        deadline = self._clock.next_deadline
        if deadline >= NEVER / 1e9:
            return NEVER
        when = round(deadline * 1e9)
        return when if when / 1e9 >= deadline else when + 1

    def settle(self) -> None:
        """Let tasks run until each waits for something that is not there yet.

        Raises:
          ViolationError: they are busy without end, and no time passes.
          Exception: what ended the run, if anything did.
        """
        clock = self._clock
        for _ in range(_MOST_STEPS):
            if self._outcome is not None:
                self._outcome.unwrap()
                return
            clock.idle = False
            self._steps.popleft()()
            if clock.idle and clock.next_deadline > clock.current_time():
                return
        raise ViolationError("bounds", f"tasks took {_MOST_STEPS} steps, and no time has passed", Kind.LIVENESS)

    def finish(self) -> None:
        """Let tasks run until the run is over; what ended it does not matter any more.

        Raises:
          RuntimeError: it does not end, though everything in it was cancelled.
        """
        for _ in range(_MOST_STEPS):
            if self._outcome is not None:
                return
            self._steps.popleft()()
        raise RuntimeError("tasks of a simulated run go on though they were cancelled")


class _Order:
    """The order in which Trio runs tasks that are ready, drawn from a seed until it is restored."""

    def __init__(self, seed: int) -> None:
        self._module = importlib.import_module(_MODULE)
        generator, switch = getattr(self._module, _GENERATOR, None), getattr(self._module, _SWITCH, None)
        if not isinstance(generator, Random) or not isinstance(switch, bool):
            raise UnfitTrioError(
                f"Trio {trio.__version__} has no {_MODULE}.{_GENERATOR} or no {_SWITCH} any more, which fix the order "
                "of its tasks; runs could not be replayed"
            )
        self._generator, self._switch = generator, switch
        self._state = generator.getstate()
        generator.seed(seed)
        setattr(self._module, _SWITCH, True)

    def restore(self) -> None:
        """As it was before."""
        self._generator.setstate(self._state)
        setattr(self._module, _SWITCH, self._switch)
