"""How much a member executes in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from statemachine import Counter, Executor, KeyValueStore, SnapshotError, StateMachine, command
from statemachine.sessions import MAXIMUM_SESSIONS, WINDOW, session_number
from tests.protocol.driven import WALL
from viewstamp.protocol import MILLISECOND, Core, Entry, Kind, Proposal, Snapshot
from viewstamp.protocol.entry import make_entry
from viewstamp.replica.applied import Applied, load

NONCE = 7
COUNT = 1000


class Clock:
    """What commands take, on a clock that only they move."""

    def __init__(self, command_ns: int) -> None:
        self.now = 0
        self.command_ns = command_ns


class Laborious(StateMachine):
    """Each of its commands takes long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @command
    def work(self) -> None:
        self._clock.now += self._clock.command_ns

    def snapshot(self) -> bytes:
        return b""


class Ordered:
    """A log: a session is opened, and makes its calls."""

    def __init__(self) -> None:
        proposals = [Proposal(Kind.REGISTER, 0, NONCE, 0, b"", 1)]
        session, body = session_number(1, NONCE), Laborious.work.bind()
        proposals += [Proposal(Kind.COMMAND, session, number, number - 1, body, 1) for number in range(1, COUNT)]
        self._entries = [make_entry(op, 0, WALL, proposal) for op, proposal in enumerate(proposals, 1)]
        self.told = 0

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        return self._entries[first - 1 : last]

    def executed(self, op: int) -> None:
        self.told = op


@pytest.mark.parametrize(
    ("command_us", "turns"),
    [(0, [1000]), (1, [1000]), (50, [201, 401, 601, 801, 1000]), (1_000, [11, 21, 31]), (10_000, [2, 3, 4])],
)
def test_what_takes_long_is_executed_in_several_turns(command_us: int, turns: list[int]) -> None:
    """A primary whose commands take a third of a millisecond was given up whenever a thousand of them had gathered."""
    clock = Clock(command_us * 1000)
    applied = Applied(Executor(Laborious(clock)), measure=lambda: clock.now)
    replied: list[int] = []

    def executed(entries: Sequence[Entry], replies: Sequence[bytes]) -> None:
        assert len(entries) == len(replies)
        replied.extend(entry.op for entry in entries)

    ordered, size = Ordered(), 0
    core = cast("Core", ordered)
    for upto in turns:
        began = clock.now
        size += applied.advance(core, COUNT, executed)
        assert applied.executor.applied == applied.viewstamp.op == ordered.told == upto
        assert replied == [*range(1, upto + 1)]
        assert clock.now - began <= 10 * MILLISECOND + clock.command_ns
    assert size == sum(len(entry.encoded) for entry in core.entries(1, turns[-1]))


def test_one_command_that_takes_long_is_the_last_of_its_turn() -> None:
    """And what took long once, because the system had another thing to do, makes no turn for each of the next."""
    clock = Clock(0)
    applied, core = Applied(Executor(Laborious(clock)), measure=lambda: clock.now), cast("Core", Ordered())
    reached = []
    for command_us in (0, 10_000, 10_000, 10_000, 1, 1):
        clock.command_ns = command_us * 1000
        applied.advance(core, min(COUNT, applied.executor.applied + 300), lambda entries, replies: None)
        reached.append(applied.executor.applied)
    assert reached == [300, 301, 302, 303, 603, 903]


def test_no_more_is_executed_than_was_asked_for() -> None:
    applied = Applied(Executor(Laborious(Clock(0))))
    applied.advance(cast("Core", Ordered()), 70, lambda entries, replies: None)
    assert applied.executor.applied == 70


def test_a_file_that_holds_another_snapshot_is_not_taken_for_the_one_that_is_wanted() -> None:
    """It is whole, and its own digest right: only the name tells."""
    wanted, other = [list(Executor(machine).snapshot()) for machine in (Counter(), KeyValueStore())]
    snapshot = Snapshot(1, 7, 0, sum(map(len, wanted)), wanted[-1])
    bounds = {"max_sessions": MAXIMUM_SESSIONS, "window": WINDOW}
    assert load(Counter, snapshot, wanted, **bounds).state_digest() == snapshot.digest
    with pytest.raises(SnapshotError, match="up to op 7 holds another"):
        load(KeyValueStore, snapshot, other, **bounds)
    with pytest.raises(SnapshotError, match="up to op 7 cannot be loaded"):
        load(Counter, snapshot, wanted[:-1], **bounds)
