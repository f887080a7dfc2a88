"""When a primary that waits for its snapshot files gives way, and what shows that there is no need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from viewstamp.protocol import Core, Snapshot, Standing, Time
from viewstamp.replica.standstill import Standstill

SUSPECT = 100


@dataclass
class Waiting:
    """A member that has ordered up to `op`, executed up to `applied`, and waits for `block` and for `loading`."""

    leading: int = 3
    op: int = 9
    applied: int = 5
    block: object = "block 0"
    loading: Snapshot | None = None
    now: int = 1_000
    gave_way: list[str] = field(default_factory=list)
    standstill: Standstill = field(default_factory=lambda: Standstill(SUSPECT))

    @property
    def standing(self) -> Standing:
        return Standing("normal", "primary", self.leading, 1, self.leading >= 0, self.op, self.applied)

    def give_way(self, reason: str, now: Time) -> None:
        self.gave_way.append(reason)

    def turn(self, after: int) -> bool:
        """Whether it gives way in a turn so much later."""
        self.now += after
        core, now = cast("Core", self), Time(self.now, 0)
        return self.standstill.gives_way(core, self.block, self.loading, self.applied, now)


def test_who_leads_and_executes_nothing_for_four_suspect_time_outs_gives_way_once() -> None:
    member = Waiting()
    assert [member.turn(after) for after in (0, 2 * SUSPECT, 2 * SUSPECT)] == [False, False, False]
    assert member.turn(1)
    assert len(member.gave_way) == 1
    assert not member.turn(1)
    assert not member.turn(4 * SUSPECT)


def test_a_member_that_waits_for_its_state_to_go_on_from_gives_way_too() -> None:
    member = Waiting(block=None, loading=Snapshot(1, 7, 0, 100, bytes(32)))
    assert [member.turn(0), member.turn(4 * SUSPECT + 1)] == [False, True]


def reigns_anew(member: Waiting) -> None:
    member.leading += 3


def executes(member: Waiting) -> None:
    member.applied += 1


def reads_another_block(member: Waiting) -> None:
    """Two members fetch, in turn: some block is always waited for, and each comes."""
    member.block = f"block {member.now}"


def loads_another(member: Waiting) -> None:
    member.loading = Snapshot(1, member.now, 0, 100, bytes(32))


@pytest.mark.parametrize("happens", [reigns_anew, executes, reads_another_block, loads_another])
def test_what_goes_on_however_slowly_is_no_standstill(happens: Callable[[Waiting], None]) -> None:
    member = Waiting(op=1_000)
    for _ in range(8):
        assert not member.turn(3 * SUSPECT)
        happens(member)
    assert member.gave_way == []
    assert not member.turn(SUSPECT)
    assert member.turn(4 * SUSPECT + 1)


@pytest.mark.parametrize(("leading", "op"), [(-1, 9), (3, 5)])
def test_who_does_not_lead_or_has_ordered_nothing_more_has_nothing_to_give(leading: int, op: int) -> None:
    member = Waiting(leading=leading, op=op)
    assert not any(member.turn(3 * SUSPECT) for _ in range(8))
    member.leading, member.op = 3, 9
    assert not member.turn(3 * SUSPECT)
    assert not member.turn(4 * SUSPECT)
    assert member.turn(1)


def test_who_has_waited_for_no_file_meanwhile_begins_anew() -> None:
    member = Waiting()
    member.turn(0)
    member.standstill.over()
    assert [member.turn(3 * SUSPECT), member.turn(3 * SUSPECT), member.turn(2 * SUSPECT)] == [False, False, True]
