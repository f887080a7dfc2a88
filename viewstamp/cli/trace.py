"""`viewstamp trace`: look at a recorded run, a column for each member."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import isfinite
from pathlib import Path

import click
import trio
from rich.console import Console
from rich.text import Text

from viewstamp.cli.errors import Failed, Misused
from viewstamp.cli.trace_lines import Line, Lines, Wanted
from viewstamp.registry import protocol_class, protocol_names
from viewstamp.simulation.trace_reader import TraceError, TraceHeader, TraceParser, TraceRecord
from viewstamp.wire import BODY_MESSAGES

_MILLISECOND = 1_000_000
_CHUNK_BYTES = 1 << 18
_LOOK_AGAIN_S = 0.2
_TIME_WIDTH = 12
_NARROWEST = 16
_PLAIN_COLUMN = 36


@click.command("trace", short_help="Show a recorded run, a column for each member.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--watch", is_flag=True, help="Go on as the file grows, until its run ends.")
@click.option("--member", "members", type=int, multiple=True, metavar="N", help="Only this member; may be repeated.")
@click.option(
    "--message",
    "messages",
    multiple=True,
    metavar="TYPE",
    help="Where messages of this type are sent, received or lost, such as Prepare; may be repeated.",
)
@click.option("--from", "from_ms", type=float, metavar="T", help="From this time on, in milliseconds as shown.")
@click.option("--to", "to_ms", type=float, metavar="T", help="Up to this time, in milliseconds as shown.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many lines.")
def trace_command(
    file: Path,
    watch: bool,
    members: tuple[int, ...],
    messages: tuple[str, ...],
    from_ms: float | None,
    to_ms: float | None,
    limit: int | None,
) -> None:
    """Show the run recorded in FILE: a line for each step that changed a member, and in it only what changed.

    With --message the lines are instead the steps that sent or received such messages, and what the network did to
    them.

    \b
    Example:
      viewstamp trace run.trace --member 1 --member 2 --from 1200 --message StartViewChange
    """
    for option, time_ms in (("--from", from_ms), ("--to", to_ms)):
        if time_ms is not None and not isfinite(time_ms):
            raise Misused(f"{option} {time_ms:g} is no time of a run")
    if from_ms is not None and to_ms is not None and to_ms < from_ms:
        raise Misused(f"--to {to_ms:g} lies before --from {from_ms:g}: nothing can be between them")

    def wanted(header: TraceHeader) -> Wanted:
        _require_known(header, members, messages)
        return Wanted(
            members=members or header.members,
            messages=frozenset(message.lower() for message in messages),
            from_ns=0 if from_ms is None else round(from_ms * _MILLISECOND),
            to_ns=None if to_ms is None else round(to_ms * _MILLISECOND),
        )

    async def show() -> None:
        parser, lines, screen = TraceParser(), None, None
        async with aclosing(follow(file, parser, watch=watch)) as pieces:
            async for records in pieces:
                if parser.header is None:
                    continue
                if lines is None or screen is None:
                    lines = Lines(wanted(parser.header))
                    screen = _Screen(parser.header, lines.wanted, limit)
                for record in records:
                    if lines.wanted.is_over(record["t"]):
                        return
                    line = lines.line(record)
                    if line is not None and not screen.show(line):
                        return
        if parser.finish():
            click.echo(f"viewstamp: {file}: the last line is cut off, and left out", err=True)

    try:
        trio.run(show)
    except TraceError as error:
        raise Failed(f"{file}: {error}") from error


async def follow(file: Path, parser: TraceParser, *, watch: bool) -> AsyncGenerator[list[TraceRecord], None]:
    """What the file holds, piece by piece; to watch it is to wait for more until the run ends.

    Raises:
      TraceError: it is no trace.
      Failed: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            while True:
                data = opened.read(_CHUNK_BYTES)
                if data:
                    yield parser.feed(data)
                elif parser.ended or not watch:
                    return
                else:
                    await trio.sleep(_LOOK_AGAIN_S)
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error


def _require_known(header: TraceHeader, members: tuple[int, ...], messages: tuple[str, ...]) -> None:
    """What is not there would show nothing, and leave people wondering."""
    for member in members:
        if member not in header.members:
            raise Misused(f"--member: expected one of {', '.join(map(str, header.members))}, found {member}")
    if header.protocol in protocol_names():
        classes = (*protocol_class(header.protocol).messages.values(), *BODY_MESSAGES.values())
        names = [each.__name__ for each in classes]
        for message in messages:
            if message.lower() not in (name.lower() for name in names):
                raise Misused(f"--message: expected one of {', '.join(names)}, found {message!r}")


class _Screen:
    """Lines side by side, each in its member's column."""

    def __init__(self, header: TraceHeader, wanted: Wanted, limit: int | None) -> None:
        self._members = [member for member in header.members if member in wanted.members]
        self._left = limit
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_TIME_WIDTH + 1 + _PLAIN_COLUMN * len(self._members))
        self._console = console
        self._width = max(_NARROWEST, (console.width - _TIME_WIDTH - 1) // len(self._members))
        members = ", ".join(map(str, header.members))
        self._print(f"{header.protocol}, seed {header.seed}, members {members}, quorum {header.quorum}", "")
        titles = "".join(f"member {member}".ljust(self._width) for member in self._members)
        self._print(f"{'ms':>{_TIME_WIDTH}} {titles}".rstrip(), "bold")

    def show(self, line: Line) -> bool:
        """Print it; False if no more are wanted."""
        if line.member is None:
            self._print(f"{line.time:>{_TIME_WIDTH}} {line.text}", line.style)
        else:
            before = " " * (self._width * self._members.index(line.member))
            rows = textwrap.wrap(line.text, self._width - 2, subsequent_indent="  ", break_on_hyphens=False)
            for row, text in enumerate(rows):
                self._print(f"{'' if row else line.time:>{_TIME_WIDTH}} {before}{text}", line.style)
        if self._left is not None:
            self._left -= 1
        return self._left != 0

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)
