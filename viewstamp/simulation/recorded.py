"""Which replies a member keeps for its clients, as its snapshots say it."""

from __future__ import annotations

from collections.abc import Iterator

from statemachine.sessions import Sessions
from statemachine.values import decode_value


def recorded(sessions: Sessions) -> Iterator[tuple[int, int, int]]:
    """Each recorded reply as (session, request, the session's mark)."""
    pages = sessions.snapshot()
    next(pages)  # the bounds
    remaining = len(sessions)
    while remaining:
        items = iter(_numbers_and_replies(next(pages)))
        for session in items:
            mark, replies = next(items), next(items)
            for _ in range(replies):
                yield session, next(items), mark
                next(items)
            remaining -= 1


def _numbers_and_replies(page: bytes) -> list[int]:
    """A page is flat: a session, its mark, a count, and so many requests with their replies, which are 0 here."""
    values = decode_value(page)
    return [value if isinstance(value, int) else 0 for value in values] if isinstance(values, list) else []


def kept_for_ever(sessions: Sessions) -> str:
    """A reply that nobody can ask for any more: its client has it, and no mark will pass it again; empty if none."""
    for session, request, mark in recorded(sessions):
        if request <= mark:
            return f"the reply to request {request} of session {session}, whose mark is {mark}"
    return ""
