"""Saying in the log what its callers alone would learn: a defect, or a command that this class does not have."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger("viewstamp")
_KINDS_TOLD = 100
_NAME_AT_MOST = 64


class Defects:
    """Logs the first of each class that each command or query raises, with its traceback, and once what is no command.

    Callers may run into the same one thousands of times a second, and a member that starts again executes its log once
    more.
    """

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def tell(self, function: Callable[..., object], error: Exception, fault: Exception | None = None) -> None:
        """`function` raised this; `fault`, raised while that was handled, is why it cannot be told."""
        kind = (function.__qualname__, type(error).__name__)
        if self._is_new(kind):
            _log.error(
                "%s raised %s: a defect, told here this once; its callers get the name", *kind, exc_info=fault or error
            )

    def tell_unlisted(
        self,
        function: Callable[..., object],
        error_class: type[Exception],
        machine_class: type,
        known: type[Exception] | None,
    ) -> None:
        """`function` raised this, and callers know nothing of this name, or something else: that is what they get."""
        kind = (function.__qualname__, error_class.__name__)
        if not self._is_new(kind):
            return
        if known is None:
            _log.warning(
                "%s raised %s, which callers get as RemoteCommandError: it is neither defined in nor imported into the "
                "module of %s; list it in %s.errors. Told here this once",
                *kind,
                machine_class.__name__,
                machine_class.__name__,
            )
        else:
            names = [f"{each.__module__}.{each.__qualname__}" for each in (error_class, known)]
            _log.warning(
                "%s raised %s, and callers get %s, as errors travel by name: rename one of them. Told here this once",
                kind[0],
                *names,
            )

    def tell_unknown(self, machine: str, command: str) -> None:
        """The cluster ordered a command that this class has not, or not with these arguments.

        It may be the caller's mistake alone. But a member that was started with another class than the others, or an
        older one, is the only one that can tell: it answers that nothing was executed, and the others have done it.
        """
        name = command[:_NAME_AT_MOST]
        if self._is_new((machine, name)):
            _log.warning(
                "%s has no command %r, or with other arguments: nothing was executed here. If the other members run "
                "another class, their state differs from this one's; told here this once",
                machine,
                name,
            )

    def _is_new(self, kind: tuple[str, str]) -> bool:
        if kind in self._told or len(self._told) == _KINDS_TOLD:
            return False
        self._told.add(kind)
        return True
