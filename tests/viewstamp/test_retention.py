"""What is kept of snapshots, and for whom, without the rest of a replica."""

from __future__ import annotations

from tests.viewstamp.test_snapshot_order import PEER, Taker
from viewstamp.protocol import Snapshot
from viewstamp.replica.retention import Retention
from viewstamp.replica.serving import Serving
from viewstamp.wire import GetChunk

FIRST, SECOND = (Snapshot(0, op, 0, 100, bytes(32)) for op in (100, 200))
PIN = 10


def retention(*under_way: Snapshot) -> tuple[Retention, Serving]:
    """Of a member that has taken the first, and then the second, whose record went with write 2."""
    serving = Serving(lambda to, message: None, PIN)
    kept = Retention(Taker().cluster, None, serving, lambda: under_way)
    assert kept.recorded(FIRST, 1)
    assert kept.recorded(SECOND, 2)
    return kept, serving


def test_a_file_stays_until_the_journal_names_the_next_for_certain() -> None:
    kept, _ = retention()
    kept.durable_write = 1
    assert kept.let_go(0) == []
    kept.durable_write = 2
    assert kept.let_go(0) == [FIRST]
    assert kept.let_go(0) == []
    assert not kept.keeps_more


def test_a_file_stays_while_a_member_fetches_it() -> None:
    kept, serving = retention()
    kept.durable_write = 2
    serving.ask(PEER, GetChunk(FIRST.op, FIRST.digest, 0), kept.offered, 0)
    assert kept.let_go(PIN - 1) == []
    assert kept.let_go(PIN) == [FIRST]


def test_a_file_whose_name_another_gets_stays_although_it_is_let_go() -> None:
    """One of that place and content is being finished again: what is removed then would be that."""
    kept, _ = retention(FIRST)
    kept.durable_write = 2
    assert kept.let_go(0) == []
    assert FIRST not in kept.offered


def test_one_that_came_to_nothing_goes_unless_it_is_one_that_is_kept() -> None:
    kept, _ = retention()
    assert kept.may_go(Snapshot(0, 150, 0, 100, bytes(32)))
    assert not kept.may_go(FIRST)
    assert not kept.may_go(SECOND)


def test_a_damaged_one_is_offered_to_nobody_until_it_is_taken_again() -> None:
    """Whoever fetched it would find at the end that it is another."""
    kept, _ = retention()
    kept.decayed = True
    assert kept.offered == [FIRST]
    assert not kept.recorded(SECOND, 3)
    assert kept.offered == [FIRST, SECOND]
