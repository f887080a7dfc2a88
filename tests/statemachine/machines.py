"""Machines that misbehave in one way each, for the tests."""

from __future__ import annotations

from statemachine import CommandError, StateMachine, command, query


class RefusedError(CommandError):
    reason: str
    limits: list[int]


class UnencodableError(CommandError):
    what: object


class Restless(StateMachine):
    def __init__(self) -> None:
        self.log: list[str] = []
        self.table: dict[str, int] = {}

    @command
    def note(self, text: str, times: int = 1) -> int:
        self.log.extend([text] * times)
        return len(self.log)

    @command
    def place(self) -> list[object]:
        context = self.context
        return [
            *(context.op, context.session, context.time_ns),
            *(context.token, context.seed, context.random.getrandbits(64)),
        ]

    @command
    def refuse(self, text: str) -> None:
        self.log.append(text)
        raise RefusedError(text, [1, 2])

    @command
    def refuse_oddly(self) -> None:
        raise UnencodableError({1, 2})

    @command
    def fail(self, text: str) -> None:
        self.log.append(text)
        raise KeyError(text)

    @command(atomic=True)
    def fail_whole(self, text: str) -> None:
        self.log.append(text)
        self.table[text] = 1
        raise KeyError(text)

    @command(atomic=True)
    def grow_whole(self) -> None:
        self.later = 1
        raise KeyError("later")

    @command(atomic=True)
    def return_set_whole(self) -> set[int]:
        self.log.append("set")
        return {1}

    @command
    def return_set(self) -> set[int]:
        self.log.append("set")
        return {1}

    @command
    def return_much(self) -> bytes:
        return bytes(3_000_000)

    @command
    def recurse(self) -> None:
        self.recurse()

    @command
    def exhaust(self) -> None:
        raise MemoryError

    @command
    def leave(self) -> None:
        raise SystemExit(1)

    @command
    def many(self, *texts: str) -> int:
        return len(texts)

    @command
    def large(self, size: int) -> bytes:
        self.log.append(str(size))
        return bytes(size)

    @query
    def read(self) -> list[str]:
        return self.log

    @query
    def read_context(self) -> int:
        return self.context.op

    @query
    def read_wrong(self, key: str) -> int:
        return self.table[key]

    @query
    def read_deep(self, depth: int) -> int:
        if not depth:
            raise MemoryError
        return 1 + self._down(depth)

    def _down(self, depth: int) -> int:
        return 1 + self._down(depth - 1) if depth else 0
