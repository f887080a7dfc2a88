"""Many runs of the fuzzer on several processes, and what they came to, for people and for programs."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import active_children, get_context, resource_tracker

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from viewstamp.cli.fuzz_result import Job, Outcome, Tally, play, versions

_AT_ONCE_PER_JOB = 4


_ENDING = {signal.SIGINT, signal.SIGTERM}


def _end_when_told() -> None:
    """A process that plays has nothing to tidy up, and nothing to say about it."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


@contextmanager
def _not_told_to_end() -> Iterator[None]:
    """For a moment, and for the processes begun in it until they are ready: at once, an interpreter that has hardly
    begun would print how it failed to.
    """
    told: list[int] = []  # By way of another thread, which blocks nothing: its signals are handled in this one.
    handlers = {number: signal.signal(number, lambda number, _: told.append(number)) for number in _ENDING}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if told:
            signal.raise_signal(told[0])


class Campaign:
    """Plays jobs until they, or the time, or the luck runs out: the first failure ends it."""

    def __init__(self, console: Console, jobs: int) -> None:
        self.tally = Tally()
        self._console = console
        self._jobs = jobs
        self._seconds = 0.0

    def run(self, pending: Iterator[Job], seconds: float | None, total: int | None) -> None:
        """Play them for at most so many seconds, or all, of which there are `total`."""
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        began = time.monotonic()
        under_way: set[Future[Outcome]] = set()
        resource_tracker.ensure_running()  # Begun with a pool's first process, it would let Ctrl-C through to that.
        with (
            Progress(*columns, console=self._console, transient=True) as progress,
            ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn"), initializer=_end_when_told) as pool,
            self._giving_up(pool),
        ):
            task = progress.add_task("starting", total=total if total is not None else seconds)
            while True:
                elapsed = time.monotonic() - began
                while (seconds is None or elapsed < seconds) and len(under_way) < _AT_ONCE_PER_JOB * self._jobs:
                    job = next(pending, None)
                    if job is None:
                        break
                    with _not_told_to_end():
                        under_way.add(pool.submit(play, job))
                if not under_way:
                    break
                done, under_way = wait(under_way, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    self.tally.add(future.result())
                played = len(self.tally.outcomes)
                progress.update(task, completed=played if total is not None else elapsed, description=f"{played} runs")
                if self.tally.failure is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
        self._seconds = time.monotonic() - began

    @contextmanager
    def _giving_up(self, pool: ProcessPoolExecutor) -> Iterator[None]:
        """Ctrl-C or SIGTERM: what has not begun never will, and what was played is told."""
        try:
            yield
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()  # A signal to this process alone has not reached those that play.
            self._console.print(f"{len(self.tally.outcomes)} runs were played before, and nothing was wrong")
            raise

    def as_json(self) -> dict[str, object]:
        """Everything, for programs."""
        failure = self.tally.failure
        return {
            **self.tally.summary(self._seconds),
            "coverage": self.tally.coverage(),
            "failure": failure.as_json() if failure is not None else None,
            "versions": versions(),
        }

    def show(self) -> None:
        """Everything, for people."""
        table = Table("reached", "in runs", title="Coverage", title_justify="left")
        for name, runs in self.tally.coverage().items():
            table.add_row(name, str(runs) if runs else "[yellow]never[/]")
        self._console.print(table)
        for name, value in self.tally.summary(self._seconds).items():
            self._console.print(f"{name.replace('_', ' '):38} {value}")


def replay_command(outcome: Outcome, machine: str) -> str:
    """The one command that plays this run again."""
    words = ["viewstamp", "fuzz", "--protocol", outcome.protocol, "--seed", str(outcome.seed)]
    if outcome.shell != "heap":
        words += ["--shell", outcome.shell]
    return shlex.join([*words, "--machine", machine] if machine else words)


def show_failure(console: Console, outcome: Outcome, replay: str) -> None:
    """Which property, in a sentence; what led to it; how to see it again, with the command `replay`."""
    if outcome.violation is None:
        return
    lines = ["", f"FAILED: seed {outcome.seed} of {outcome.protocol}: {outcome.plan}", f"  {outcome.violation}"]
    lines += ["The last events:", *(f"  {line}" for line in outcome.story[-30:])]
    if outcome.traceback:
        lines.append(outcome.traceback)
    lines.append("with " + ", ".join(f"{name} {number}" for name, number in versions().items()))
    lines.append(f"Replay: {replay}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
