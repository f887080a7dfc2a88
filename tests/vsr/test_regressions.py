"""What the protocol fuzzer and its author found wrong: each told as the smallest story that shows it."""

from __future__ import annotations

from tests.protocol.driven import snapshot
from tests.vsr.driven import Driven, entries
from viewstamp.protocol import MILLISECOND, Configuration, Limits, Lost, Wanted
from vsr import (
    Commit,
    DoViewChange,
    GetState,
    NewSnapshot,
    NewState,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    StartView,
    StartViewChange,
)


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


def test_an_old_copy_of_a_directory_is_told_that_its_member_has_a_newer_one() -> None:
    """A backup of the current view heard nothing that carries a vector: it stayed, ignored by all, and nobody knew."""
    primary = Driven(1)
    primary.receive(3, PrepareOk(0, 0, 0, 0, (1, 2, 1)))
    for message in (PrepareOk(0, 0, 0, 0, (1, 1, 1)), GetState(0, 0, 7)):
        primary.forget()
        primary.receive(2, message, 1)
        told = primary.last(RecoveryResponse)
        assert told.vector == (1, 2, 1)
    old = Driven(2)
    old.receive(1, told)
    assert old.supersede == 2


def test_only_a_normal_member_tells_an_old_copy_of_a_directory() -> None:
    backup = Driven(3)
    backup.receive(1, StartViewChange(1, 1, (1, 2, 1)))
    assert backup.status == "view-change"
    backup.receive(2, GetState(1, 0, 7), 1)
    assert backup.core.ignored["a superseded incarnation"] == 1
    assert not backup.sent(RecoveryResponse)


def test_what_an_old_copy_is_told_is_no_answer_to_a_member_that_has_not_asked_yet() -> None:
    """It was told so in its last life, and lost its disk again: the views it was told of may be over since."""
    blank = Driven(2, origin=Lost(incarnation=3))
    for sender in (1, 3):
        blank.receive(sender, RecoveryResponse(0, 0, 0, 0, (1, 2, 1)))
    assert blank.core.standing.status == "recovering"
    assert not blank.sent(GetState)
    blank.tick()
    assert "has 0 of 2" in blank.core.standing.waiting


def test_a_log_that_is_compacted_in_the_middle_of_a_transfer_is_fetched_by_its_snapshot() -> None:
    """Some pages are staged when the source drops from its log what comes next, and offers its snapshot instead.

    Passed over because pages were staged, the offer would come again at every retry, for ever.
    """
    backup = Driven(3)
    backup.receive(2, StartView(1, 30, 30))
    asked = backup.last(GetState)
    backup.receive(2, NewState(1, asked.nonce, 0, entries(1, 10), 30, 30))
    assert backup.last(GetState).after == 10
    offered = snapshot(25)
    name = offered.view, offered.op, offered.stamp, offered.size, offered.digest
    backup.receive(2, NewSnapshot(1, asked.nonce, *name, 30, 30))
    assert backup.wanted == Wanted(2, offered)

    backup.fetched(offered)
    assert backup.last(GetState).after == 25
    backup.receive(2, NewState(1, asked.nonce, 25, entries(26, 30), 30, 30))
    assert (backup.status, backup.view, backup.op, backup.commit) == ("normal", 1, 30, 30)
    assert backup.restored == [offered]


_VIEWS_OF_OTHERS = (1, 3, 4, 5, 8, 9)  # of five, as member 3 sees it; member 2, who tells it of them, leads the first


def waits_for_views(backup: Driven, *, heard: bool) -> list[float]:
    """Suspect time-outs that pass from one view, which does not begin, to the next; are their primaries heard?"""
    waits: list[float] = []
    for view in _VIEWS_OF_OTHERS:
        primary = backup.configuration.members[view % 5]
        backup.receive(2, StartViewChange(view, view, backup.vector))
        entered = backup.now.monotonic
        backup.forget()
        for _ in range(200):
            backup.tick()
            if backup.sent(StartViewChange):
                break
            if heard:
                backup.receive(primary, StartViewChange(view, view, backup.vector))
        waits.append((backup.now.monotonic - entered) / backup.configuration.timeouts.suspect)
    return waits


def test_views_that_do_not_begin_are_waited_for_longer_and_longer() -> None:
    """On slow disks a view change takes longer than the suspect time-out: at a constant pace no view ever began."""
    waits = waits_for_views(Driven(3, members=5), heard=True)
    assert [int(2 * wait) / 2 for wait in waits] == [1, 2, 4, 8, 8, 8]


def test_a_view_whose_primary_is_not_heard_is_not_waited_for_longer() -> None:
    """With three of seven members away, the views of two of them were waited for eight times as long as the first."""
    waits = waits_for_views(Driven(3, members=5), heard=False)
    assert [int(2 * wait) / 2 for wait in waits] == [1, 1, 1, 1, 1, 1]


def test_whoever_is_to_lead_is_heard_by_all_until_its_view_begins() -> None:
    """Its disk is slow, say. The others would take its silence for absence, and pass over one view after the other."""
    primary = Driven(2, eager=False)
    primary.finish_writes()
    primary.receive(3, DoViewChange(1, 0, 0, 0, primary.vector))
    assert primary.status == "view-change"
    primary.forget()
    primary.wait(primary.configuration.timeouts.suspect // 2)
    said = {(to, message.view) for to, message in primary.sent(StartViewChange)}
    assert said == {(1, 1), (3, 1)}
    primary.finish_writes()
    assert primary.status == "normal"
    primary.forget()
    primary.wait(primary.configuration.timeouts.suspect // 2)
    assert not primary.sent(StartViewChange)


def test_whoever_is_to_lead_and_has_a_disk_that_hangs_lets_others_pass_it_over() -> None:
    """It begins no view, and keeps no other from theirs: heard all the while, each was waited for 8 suspect time-outs.

    With two such members of five, whose turns follow one another, three that were well did nothing for 14 of them.
    """
    primary = Driven(2, eager=False)
    suspect = primary.configuration.timeouts.suspect
    primary.finish_writes()
    for view in (2, 3, 4):
        primary.receive(3, StartViewChange(view, view, primary.vector))
    for hangs_for, said in ((suspect, {4}), (2 * suspect, set[int]())):
        primary.wait(hangs_for)
        assert {message.view for _, message in primary.sent(StartViewChange)} == said
        primary.wait(suspect // 4)
        primary.forget()
    primary.finish_writes()
    primary.wait(suspect // 4)
    assert {message.view for _, message in primary.sent(StartViewChange)} == {4}


def test_a_primary_that_gives_way_proposes_the_next_view() -> None:
    """Its snapshot files hang, which its protocol does not see."""
    primary, backup = Driven(1), Driven(2)
    primary.core.give_way("its files hang", primary.now)
    assert not primary.leads
    primary.tick()
    assert primary.last(StartViewChange).view == 1
    backup.core.give_way("its files hang", backup.now)
    backup.wait(backup.configuration.timeouts.suspect // 2)
    assert not backup.sent(StartViewChange)


def test_a_snapshot_in_hand_that_is_given_up_for_a_newer_one_leaves_no_gap() -> None:
    """The source compacts beyond a snapshot that is in hand, and its newer one is not to be had either.

    Asked for from where the first one ended, the pages that then come would not join the log that is still here.
    """
    backup = Driven(3)
    backup.receive(2, StartView(1, 30, 30))
    asked = backup.last(GetState)
    for op in (10, 20):
        offered = snapshot(op)
        name = offered.view, offered.op, offered.stamp, offered.size, offered.digest
        backup.receive(2, NewSnapshot(1, asked.nonce, *name, 30, 30))
        if op == 10:
            backup.fetched(offered)
            assert backup.last(GetState).after == 10
    backup.core.fetch_failed(snapshot(20), backup.now)
    backup.core.tick(backup.now)
    backup.fetched(snapshot(10))  # a turn's end
    assert backup.last(GetState).after == 0


def test_a_page_that_comes_twice_is_answered_with_one_question() -> None:
    backup = Driven(3)
    backup.receive(1, Commit(0, 30, 0, 0))
    backup.wait(100_000_000)
    asked = backup.last(GetState)
    page = NewState(0, asked.nonce, 0, entries(1, 10), 30, 0)
    backup.receive(1, page)
    assert len(backup.sent(GetState)) == 1
    backup.receive(1, page)
    assert backup.sent(GetState) == []


def backup_that_holds_little() -> Driven:
    """A backup whose disk does not answer unless told to, and whose pipeline takes ten small entries or so."""
    limits = Limits(pipeline_bytes=10 * len(entries(1, 1)[0].encoded))
    backup = Driven(2, configuration=Configuration((1, 2, 3), limits=limits), eager=False)
    backup.finish_writes()
    return backup


def heartbeats(backup: Driven, op: int, commit: int) -> None:
    """The primary's, for a while, while it orders nothing."""
    for _ in range(4):
        backup.receive(1, Commit(0, op, commit, 1))
        backup.wait(50 * MILLISECOND)


def test_a_backup_whose_disk_hangs_does_not_fill_its_memory() -> None:
    """The others go on without it, at full speed; all that it took waited for its disk, gigabytes after minutes."""
    backup = backup_that_holds_little()
    for op in range(1, 101):
        backup.receive(1, Prepare(0, entries(op, op), op - 1, 0))
    held = backup.op
    assert 10 <= held < 15
    assert backup.core.standing.waiting == ""
    assert backup.commit == held
    heartbeats(backup, 100, 100)
    assert backup.sent(GetState) == []
    assert backup.sent(StartViewChange) == []
    heartbeats(backup, 100, 100)
    assert backup.core.standing.waiting == "its disk has not finished a write"

    backup.finish_writes()
    heartbeats(backup, 100, 100)
    question = backup.last(GetState)
    assert question.after == held
    backup.receive(1, NewState(0, question.nonce, held, entries(held + 1, 100), 100, 100))
    backup.finish_writes()
    assert (backup.op, backup.commit) == (100, 100)
    assert backup.core.standing.waiting == ""
    assert backup.last(PrepareOk).op == 100


def test_a_backup_that_catches_up_takes_no_more_pages_than_its_disk() -> None:
    backup = backup_that_holds_little()
    heartbeats(backup, 60, 60)
    question = backup.last(GetState)
    backup.receive(1, NewState(0, question.nonce, 0, entries(1, 20), 60, 60))
    question = backup.last(GetState)
    backup.receive(1, NewState(0, question.nonce, 20, entries(21, 40), 60, 60))
    assert backup.op == 20
    heartbeats(backup, 60, 60)
    assert backup.sent(GetState) == []

    backup.finish_writes()
    heartbeats(backup, 60, 60)
    assert backup.last(GetState).after == 20
