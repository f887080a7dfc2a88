"""Invariants: states that only a defect of ours can bring about, never a peer or a user."""

from __future__ import annotations


class InvariantError(Exception):
    """A replica found itself in a state that its protocol forbids; it must stop rather than go on.

    Not an AssertionError, so that `python -O` keeps it and no test framework takes it for its own.
    """


def check(condition: bool, message: str, *values: object) -> None:
    """Raise InvariantError unless `condition` holds. `message` is a format string for `values`."""
    if not condition:
        raise InvariantError(message.format(*values))
