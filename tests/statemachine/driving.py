"""Entries for an executor, without a protocol that orders them."""

from __future__ import annotations

import struct

from statemachine import Executor, Outcome, StateMachine, decode_outcome
from statemachine.executor import REGISTER, AgreedEntry

# kind, format version, view, op, session, request, mark, stamp, seed, length of the body
_HEADER = struct.Struct(">BBQQQQQqQI")


def agreed(
    op: int, kind: int, session: int, request: int, mark: int, stamp: int, seed: int, body: bytes
) -> AgreedEntry:
    """The entry that a protocol would have made of this, in view 0."""
    header = _HEADER.pack(kind, 1, 0, op, session, request, mark, stamp, seed, len(body))
    return op, 0, kind, session, request, mark, stamp, seed, 1, body, header + body


def apply(
    executor: Executor, op: int, kind: int, session: int, request: int, mark: int, stamp: int, seed: int, body: bytes
) -> bytes:
    """The reply of this one entry."""
    (reply,) = executor.apply([agreed(op, kind, session, request, mark, stamp, seed, body)])
    return reply


class Driver:
    """An executor with one session, fed one entry after the other."""

    def __init__(self, machine: StateMachine) -> None:
        self.executor = Executor(machine)
        apply(self.executor, 1, REGISTER, 0, 0, 0, 10, 11, b"")
        self.request = 0

    def entry(self, body: bytes, kind: int = 1) -> Outcome:
        self.request += 1
        op = self.executor.applied + 1
        return decode_outcome(apply(self.executor, op, kind, 1, self.request, 0, 1000 + op, 77, body))
