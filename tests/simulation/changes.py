"""How hand-made bugs change the real code: a function that does something more, or a promise that leaves too early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Change = tuple[Any, str, object]
"""Where, which name, and what is there instead."""


def early(owner: type[Any], kind: type[object]) -> Change:
    """Messages of one kind leave before what they promise is durable."""
    promise = owner.promise

    def at_once(self: Any, to: int, message: Any) -> None:
        if isinstance(message, kind):
            self.send(to, message)
        else:
            promise(self, to, message)

    return owner, "promise", at_once


def after(owner: Any, name: str, then: Callable[..., None]) -> Change:
    """A function, and then something more with the same arguments."""
    function = getattr(owner, name)

    def both(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        then(*arguments)
        return result

    return owner, name, both


def before(owner: Any, name: str, first: Callable[..., None]) -> Change:
    """Something with the same arguments, and then the function."""
    function = getattr(owner, name)

    def both(*arguments: Any, **named: Any) -> Any:
        first(*arguments)
        return function(*arguments, **named)

    return owner, name, both
