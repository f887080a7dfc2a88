"""The state machine that the fuzzer replicates unless told otherwise: a counter that remembers who counted."""

from __future__ import annotations

from statemachine import StateMachine, command, query


class Ledger(StateMachine):
    """A list of tokens, each put there by one command: what is in it twice was done twice."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    @command
    def add(self, token: int, padding: bytes = b"") -> int:
        """Put a token at the end; how many there are now. The padding only makes the command large."""
        self.tokens.append(token)
        return len(self.tokens)

    @query
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.tokens)
