"""What a person sees while the demo runs: a live table at a terminal, plain lines elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from time import monotonic_ns

import trio
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from viewstamp.cli.demo.load import Load
from viewstamp.cli.demo.members import FROZEN, KILLED, RUNNING, Members
from viewstamp.status import Status

_FRAME_S = 0.1
_SECOND = 1_000_000_000
_EVENTS_SHOWN = 14
_STYLES = {RUNNING: "", KILLED: "bold red", FROZEN: "bold cyan"}


class Display(ABC):
    """Where the demo's events go. `began_ns` is when the demo began."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began_ns = monotonic_ns()

    def _stamped(self, text: str) -> str:
        return f"{(monotonic_ns() - self.began_ns) / _SECOND:5.1f} s  {text}"

    @abstractmethod
    def say(self, text: str) -> None:
        """Something happened."""

    @abstractmethod
    async def run(self, members: Members, load: Load, seen: Mapping[int, Status]) -> None:
        """Show the members and the load until cancelled."""


class PlainDisplay(Display):
    """A line for each event."""

    def say(self, text: str) -> None:
        """Print the line at once."""
        self.console.print(self._stamped(text), markup=False, highlight=False, soft_wrap=True)

    async def run(self, members: Members, load: Load, seen: Mapping[int, Status]) -> None:
        """Nothing beside the events."""
        await trio.sleep_forever()


class LiveDisplay(Display):
    """A table of the members that is drawn anew again and again, above the latest events."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._events: deque[str] = deque(maxlen=_EVENTS_SHOWN)

    def say(self, text: str) -> None:
        """Shown with the next frame."""
        self._events.append(self._stamped(text))

    async def run(self, members: Members, load: Load, seen: Mapping[int, Status]) -> None:
        """Draw until cancelled; the last picture stays."""
        with Live(self._picture(members, load, seen), console=self.console, auto_refresh=False) as live:
            try:
                while True:
                    await trio.sleep(_FRAME_S)
                    live.update(self._picture(members, load, seen), refresh=True)
            finally:
                live.update(self._picture(members, load, seen), refresh=True)

    def _picture(self, members: Members, load: Load, seen: Mapping[int, Status]) -> Group:
        table = Table(box=SIMPLE_HEAD)
        for name in ("member", "process", "role", "status"):
            table.add_column(name, min_width=9)
        for name in ("view", "op", "commit", "applied"):
            table.add_column(name, justify="right", min_width=8)
        for member in members.ids:
            state = members.state[member]
            status = seen.get(member)
            if status is None or state != RUNNING:
                table.add_row(str(member), Text(state, _STYLES[state]), *[""] * 6)
                continue
            numbers = [str(number) for number in (status.view, status.op, status.commit, status.applied)]
            role = Text(status.role, "bold green" if status.primary == member else "")
            table.add_row(str(member), state, role, status.status, *numbers)
        recent = load.acknowledged - bisect_left(load.acknowledged_ns, monotonic_ns() - _SECOND)
        rate = Text(f"  {load.acknowledged:>9,} increments acknowledged, {recent:>6,} in the last second")
        return Group(table, rate, Text(), *(Text(event) for event in self._events))
