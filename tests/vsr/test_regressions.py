"""What the protocol fuzzer and its author found wrong: each told as the smallest story that shows it."""

from __future__ import annotations

from tests.vsr.driven import Driven
from viewstamp.protocol import Lost
from vsr import Prepare, Recovery, RecoveryResponse, StartViewChange


def test_the_first_primary_orders_nothing_before_its_founding_is_durable() -> None:
    """Its backups acknowledge op 1 of view 0, it commits by their two disks, answers, and crashes.

    Its own disk is still blank, so it is founded once more, leads view 0 again and puts another op in that place.
    """
    primary = Driven(1, eager=False)
    assert primary.propose("a") == 0
    assert primary.sent(Prepare) == []

    primary.finish_writes()
    assert primary.core.standing.leads
    assert primary.propose("a") == 1


def test_a_single_member_orders_once_its_founding_is_durable() -> None:
    alone = Driven(1, members=1, eager=False)
    assert alone.propose("a") == 0
    alone.finish_writes()
    assert alone.propose("a") == 1
    alone.finish_writes()
    assert alone.commit == 1


def test_a_first_primary_whose_disk_hangs_goes_along_with_others() -> None:
    """Waiting for its founding it is no obstacle: a majority that proposes view 1 takes it there."""
    primary = Driven(1, eager=False)
    primary.receive(2, StartViewChange(1, 0, primary.vector))
    primary.receive(3, StartViewChange(1, 0, primary.vector))
    assert primary.core.standing.view == 1


def test_a_superseded_incarnation_does_not_come_back() -> None:
    """A new directory got a smaller incarnation than the lost one (a clock went back); a peer's vector says so.

    With that peer's answer the count would be full: it would come back at once, and every peer ignore it as stale.
    """
    blank = Driven(3, origin=Lost(1))
    blank.tick()
    nonce = blank.last(Recovery).nonce
    blank.receive(2, RecoveryResponse(0, nonce, 0, 0, (1, 1, 1)))
    blank.receive(1, RecoveryResponse(0, nonce, 0, 0, (1, 1, 9)))
    assert blank.supersede == 9
    assert blank.core.standing.status == "recovering"
