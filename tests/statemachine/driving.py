"""Entries for an executor, without a protocol that orders them."""

from __future__ import annotations

import struct

from statemachine import Executor, Outcome, StateMachine, decode_outcome
from statemachine.executor import COMMAND, REGISTER, AgreedEntry
from statemachine.sessions import MAXIMUM_REPLIES_BYTES

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


def opened(machine: StateMachine, max_reply_bytes: int = MAXIMUM_REPLIES_BYTES) -> Executor:
    """An executor with one session, which is number 1."""
    executor = Executor(machine, max_reply_bytes=max_reply_bytes)
    apply(executor, 1, REGISTER, 0, 0, 0, 10, 11, b"")
    return executor


def execute(executor: Executor, body: bytes) -> bytes:
    """The reply of the next entry: a request of that session, which has all answers before it."""
    op = executor.applied + 1
    return apply(executor, op, COMMAND, 1, op, op - 1, 1000 + op, 77, body)


class Driver:
    """An executor with one session, fed one entry after the other."""

    def __init__(self, machine: StateMachine) -> None:
        self.executor = opened(machine)
        self.request = 0

    def entry(self, body: bytes, kind: int = 1) -> Outcome:
        self.request += 1
        op = self.executor.applied + 1
        return decode_outcome(apply(self.executor, op, kind, 1, self.request, 0, 1000 + op, 77, body))
