"""Saying in the log what a command or query raised that is no `CommandError`: its caller gets the name alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger("viewstamp")
_KINDS_TOLD = 100


class Defects:
    """Logs the first of each class that each command or query raises, with its traceback.

    Callers may run into the same one thousands of times a second, and a member that starts again executes its log once
    more.
    """

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def tell(self, function: Callable[..., object], error: Exception) -> None:
        """`function` raised this."""
        kind = (function.__qualname__, type(error).__name__)
        if kind in self._told or len(self._told) == _KINDS_TOLD:
            return
        self._told.add(kind)
        _log.error("%s raised %s: a defect, told here this once; its callers get the name", *kind, exc_info=error)
