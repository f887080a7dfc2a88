"""What a session says of a call or query that is over."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from viewstamp.protocol import Viewstamp


class Failure(StrEnum):
    """Why a call completed without an outcome."""

    EXPIRED = "expired"
    """The session is gone: whether the command was executed is not known."""
    NEVER_SENT = "never sent"
    """The session was gone before the command was sent, or while it waited again for want of room: not executed."""


class Completion(NamedTuple):
    """A call or query is over: its recorded outcome and the viewstamp of that, or a failure."""

    handle: int
    outcome: bytes = b""
    view: int = 0
    op: int = 0
    failure: Failure | None = None

    @property
    def viewstamp(self) -> Viewstamp:
        return Viewstamp(self.view, self.op)
