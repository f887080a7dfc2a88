"""Making a failing run small: the shortest script to be found that violates the same property.

A run that is changed a little goes on otherwise, so whether something was needed is only known by trying, and what
fails no more may fail with other luck. So everything simpler is tried as it is, until nothing helps; then again with
other draws, a few times each, then more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from viewstamp.simulation.reduce import reduce_items
from viewstamp.simulation.run import Report
from viewstamp.simulation.script import Act, Script
from viewstamp.simulation.simplify import SIMPLER, Edit, drawn_again, with_shorter_acts
from viewstamp.simulation.timeline import MOST_EVENTS
from viewstamp.simulation.verdict import Kind, Violation

_PATIENCE = (0, 2, 8)
"""How often what did not fail is tried again with other draws, round by round."""


_COARSE = 8
_LEAST_EVENTS = 1000
_MORE_IF_BOLD = 4
"""So many times more where it would save much: a quarter of the acts."""


class End(StrEnum):
    """Why no more was tried."""

    SMALLEST = "nothing that was tried makes it smaller"
    RUNS = "as many runs were tried as should be"
    TIME = "the time for it is over"
    INTERRUPTED = "it was interrupted"


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest failing run that was found, as it went, and after how many runs."""

    script: Script
    report: Report
    runs: int
    end: End


class _OverError(Exception):
    """No more is to be tried."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


def same_failure(one: Violation, other: Violation | None) -> bool:
    """Whether both violate the same property; crashes with other exceptions or invariants do not."""
    return other is not None and _signature(one) == _signature(other)


def _signature(violation: Violation) -> tuple[Kind, str, str]:
    sentence = violation.sentence if violation.kind is Kind.CRASH else ""
    return violation.kind, violation.property, re.sub(r"[0-9]+", "N", sentence.partition(":")[0])


class Shrinker:
    """Tries simpler scripts with `play`, and keeps the simplest that fails as the first did.

    `report` is what `play` made of `script`; it is also told after how many events to give up. `enough` is asked before
    each run whether to stop; `progress` is told of each try.
    """

    def __init__(
        self,
        script: Script,
        report: Report,
        play: Callable[[Script, int], Report],
        *,
        most_runs: int = 1 << 40,
        enough: Callable[[], bool] = lambda: False,
        progress: Callable[[Shrinker], None] = lambda shrinker: None,
    ) -> None:
        if report.violation is None:
            raise ValueError("a run that did not fail cannot be made smaller")
        self.script = _as_far_as_it_came(script, report)
        self.report = report
        self.runs = 0
        self._violation = report.violation
        self._play = play
        self._most_runs = most_runs
        self._enough = enough
        self._progress = progress
        self._patience = 0
        self._tried: set[Script] = set()

    def shrink(self) -> Shrunk:
        """Make it as small as it gets. Ctrl-C ends it, and keeps what was found."""
        end = End.SMALLEST
        try:
            for patience in _PATIENCE:
                self._patience = patience
                while self._simplify():
                    pass
        except _OverError as over:
            end = over.end
        except KeyboardInterrupt:
            end = End.INTERRUPTED
        return Shrunk(self.script, self.report, self.runs, end)

    def _simplify(self) -> bool:
        """Try everything once, what may save much first; whether anything helped."""
        before = self.script
        reduce_items(before.acts, self._with_acts, max(1, len(before.acts) // _COARSE))
        for edits in SIMPLER:
            self._edit(edits)
        reduce_items(self.script.acts, self._with_acts)
        self._edit(with_shorter_acts)
        return self.script != before

    def _edit(self, edits: Callable[[Script], Iterator[Edit]]) -> None:
        for edit in edits(self.script):
            self._attempt(edit(self.script))

    def _with_acts(self, acts: tuple[Act, ...]) -> tuple[Act, ...] | None:
        return self.script.acts if self._attempt(replace(self.script, acts=acts)) else None

    def _attempt(self, script: Script) -> bool:
        """Whether it fails as the first did: then it is the smallest from now on."""
        if script == self.script:
            return False
        bold = 4 * len(script.acts) <= 3 * len(self.script.acts)
        times = 1 + self._patience + (_MORE_IF_BOLD if bold else 0)
        return any(self._try(script if again == 0 else drawn_again(script, again)) for again in range(times))

    @property
    def _most_events(self) -> int:
        """What goes on for much longer than the smallest so far is no smaller; nor does a reader want it."""
        return MOST_EVENTS if self._violation.property == "bounds" else _LEAST_EVENTS + 2 * self.report.events

    def _try(self, script: Script) -> bool:
        if script in self._tried:
            return False
        self._tried.add(script)
        if self.runs >= self._most_runs:
            raise _OverError(End.RUNS)
        if self._enough():
            raise _OverError(End.TIME)
        report = self._play(script, self._most_events)
        self.runs += 1
        if same_failure(self._violation, report.violation):
            self.script, self.report = _as_far_as_it_came(script, report), report
            self._tried.add(self.script)
        self._progress(self)
        return self.report is report


def _as_far_as_it_came(script: Script, report: Report) -> Script:
    """Without the acts that were never begun: nothing else changes."""
    return replace(script, acts=script.acts[: len(report.begun_ns)])
