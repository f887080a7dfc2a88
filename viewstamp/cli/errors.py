"""How the command line fails: one line on standard error, and an exit code a script can tell apart."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from resource import RLIMIT_NOFILE, getrlimit
from typing import IO, Any

import click

from statemachine import DefinitionError, SnapshotError
from transport.interface import TransportError
from viewstamp.clash import PackageClashError
from viewstamp.cluster import ClusterError
from viewstamp.journal import JournalError
from viewstamp.registry import UnknownProtocolError
from viewstamp.replica import DataLostError, SupersededError

FAILED = 1
USAGE = 2
SAFETY = 3  # fuzz and soak: something wrong was done, told or stored
LIVENESS = 4  # something promised was not done in time
CRASH = 5  # the code under test stopped by itself
INTERRUPTED = 130

# What a person can mend. Anything else is a defect of ours or of their machine, and its traceback is wanted.
EXPECTED = (
    ClusterError,
    DataLostError,
    DefinitionError,
    JournalError,
    PackageClashError,
    SnapshotError,
    SupersededError,
    UnknownProtocolError,
)
# Of the errors that the system reports by themselves, those that say what to do.
_MENDABLE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class Failed(click.ClickException):
    """The thing asked for failed."""

    exit_code = FAILED

    def show(self, file: IO[Any] | None = None) -> None:
        """One line, on standard error."""
        click.echo(f"viewstamp: error: {self.format_message()}", file=file or sys.stderr)


class Misused(Failed):
    """The command was typed in a way that cannot be understood."""

    exit_code = USAGE


class Interrupted(Failed):
    """Ctrl-C, or a signal that asks to end. `behind` is what whoever pressed it does not know."""

    exit_code = INTERRUPTED

    def __init__(self, behind: str = "") -> None:
        super().__init__(f"interrupted: {behind}" if behind else "interrupted")

    def show(self, file: IO[Any] | None = None) -> None:
        """No error: whoever pressed it wanted that."""
        click.echo(f"viewstamp: {self.format_message()}", file=file or sys.stderr)


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """While this lasts SIGTERM does what Ctrl-C does: whoever waits for what was found so far gets it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn every expected error into one line and its exit code."""
    try:
        yield
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "viewstamp"
        raise Misused(f"{error.format_message()} (see '{where} --help')") from error
    except EXPECTED as error:
        raise Failed(str(error) + _limit_behind(error)) from error
    except OSError as error:
        if not isinstance(error, TransportError) and error.errno not in _MENDABLE:
            raise
        # Without the number that an OSError begins with.
        raise Failed((error.strerror or str(error)) + _limit_behind(error)) from error
    except KeyboardInterrupt as error:
        raise Interrupted from error
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        raise Interrupted from group  # It landed in a nursery, and left that in a group.


def _limit_behind(error: Exception) -> str:
    """What the limit is, where there were too many open files."""
    if getattr(error, "errno", None) != errno.EMFILE:
        return ""
    return f" (this process may have {getrlimit(RLIMIT_NOFILE)[0]}: ulimit -n, or LimitNOFILE of systemd)"
