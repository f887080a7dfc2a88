"""The state machine that the fuzzer replicates unless told otherwise: a counter that remembers who counted."""

from __future__ import annotations

from typing import TypedDict
from zlib import crc32

from statemachine import CommandError, StateMachine, command, query


class NotInTurnError(CommandError):
    """It was not this token's turn: nothing was changed."""

    count: int


class UndoneError(CommandError):
    """The token was put there and taken back; how many there were before, and are."""

    count: int


class KeptError(CommandError):
    """The token is there all the same, the last of so many."""

    count: int
    shown: bytes


class DefectError(Exception):
    """Of no class that a command may raise."""


class Shown(TypedDict):
    """How many tokens there are, and as many bytes as were asked for."""

    count: int
    shown: bytes


class Ledger(StateMachine):
    """A list of tokens, each put there by one command: what is in it twice was done twice.

    What the context says of each command is agreed, too, and part of the state: a member to which it says anything else
    differs from the others for good.

    There is a command for each way to fail. Whether it does depends on how many tokens there are, so that what failed
    once would pass at another time.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.agreed = bytes(4)

    @command
    def add(self, token: int, padding: bytes = b"") -> int:
        """Put a token at the end; how many there are now. The padding only makes the command large."""
        self._append(token)
        return len(self.tokens)

    @command
    def add_in_turn(self, token: int) -> int:
        """Likewise, but raises before anything is changed if it is not in turn (NotInTurnError)."""
        if not in_turn(token, len(self.tokens)):
            raise NotInTurnError(len(self.tokens))
        self._append(token)
        return len(self.tokens)

    @command(atomic=True)
    def add_or_undo(self, token: int, size: int = 0) -> Shown:
        """Likewise, but raises after the change, which is undone (UndoneError); so it is if the reply is too large."""
        before = len(self.tokens)
        self._append(token)
        if not in_turn(token, before):
            raise UndoneError(before)
        return {"count": before + 1, "shown": shown(token, size)}

    @command
    def add_and_complain(self, token: int, size: int = 0) -> Shown:
        """Likewise, but raises after the change, which stays (KeptError)."""
        before = len(self.tokens)
        self._append(token)
        if not in_turn(token, before):
            raise KeptError(before + 1, shown(token, size))
        return {"count": before + 1, "shown": shown(token, size)}

    @command
    def add_and_fail(self, token: int) -> int:
        """Likewise, but raises after the change, which stays, what its caller learns only the name of (DefectError)."""
        before = len(self.tokens)
        self._append(token)
        if not in_turn(token, before):
            raise DefectError
        return before + 1

    def _append(self, token: int) -> None:
        self.tokens.append(token)
        context = self.context
        said = f"{context.token} {context.session} {context.time_ns} {context.seed}"
        self.agreed = crc32(said.encode(), int.from_bytes(self.agreed, "big")).to_bytes(4, "big")

    @query
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.tokens)


def in_turn(token: int, count: int) -> bool:
    """Whether it is this token's turn when there are so many."""
    return (token + count) % 3 > 0


def shown(token: int, size: int) -> bytes:
    """So many bytes that are this token's alone, for a large reply."""
    word = b"%d " % token
    return (word * (size // len(word) + 1))[:size]
