"""How hand-made bugs change the real code: a function that does something more, or a promise that leaves too early."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from viewstamp.protocol import Effects, SendAfter
from viewstamp.protocol.member import Member

Change = tuple[Any, str, object]
"""Where, which name, and what is there instead."""


@contextmanager
def applied(changes: Iterable[Change]) -> Iterator[None]:
    """The code with these changes; without them again afterwards."""
    with ExitStack() as stack:
        for owner, name, replacement in changes:
            stack.enter_context(patch.object(owner, name, replacement))
        yield


def early(kind: type[object]) -> Change:
    """Promises of this kind leave without waiting for their write."""
    original = Member.take_effects

    def take_effects(self: Member) -> Effects:
        effects = original(self)
        effects.promises = [
            SendAfter(0, promise.to, promise.message) if isinstance(promise.message, kind) else promise
            for promise in effects.promises
        ]
        return effects

    return Member, "take_effects", take_effects


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
