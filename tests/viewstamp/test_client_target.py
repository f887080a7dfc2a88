"""Whom a session asks, and what it asks again, without a session."""

from __future__ import annotations

from random import Random

from viewstamp.client.target import Probe, Resend, Target
from viewstamp.protocol import MILLISECOND, NEVER, SECOND

RETRY = 100 * MILLISECOND


def asked(*members: int) -> Target:
    """Of a session of member 1, which has asked that for something at time 0."""
    target = Target(members or (1, 2, 3), random=Random(1), home=1, retry_ns=RETRY)
    assert target.deadline == NEVER
    target.asked(0)
    assert (target.member, target.deadline) == (1, RETRY)
    return target


def test_a_silent_target_is_asked_again_and_the_others_are_probed_in_turn() -> None:
    target = asked()
    now = target.deadline
    assert target.tick(now, 0, 0) == [Resend(1, now, now), Probe(2)]
    assert target.tick(target.deadline, now, 0) == [Probe(3)]


def test_who_is_alone_is_asked_again_and_there_is_nobody_to_probe() -> None:
    target = asked(1)
    now = target.deadline
    assert target.tick(now, 0, 0) == [Resend(1, now, now)]


def test_a_probed_member_that_answers_is_the_target_and_is_asked_for_what_another_was() -> None:
    target = asked()
    now = target.deadline
    target.tick(now, 0, 0)
    assert target.heard(2, now + 5) == (Resend(2, now + 5, now + 5),)
    assert target.member == 2
    assert target.heard(2, now + 6) == ()


def test_who_is_named_is_asked_for_everything_at_once_and_who_is_next_for_one_thing_soon() -> None:
    target = asked()
    assert target.redirected(1, 3, 5) == (Resend(3, 5, 5),)
    assert target.redirected(3, 0, 6) == ()
    assert target.member == 2
    assert target.deadline <= 6 + RETRY // 2
    assert target.tick(target.deadline, 5, 0) == (Probe(2),)


def test_an_answer_to_an_earlier_attempt_changes_nothing() -> None:
    target = asked()
    assert target.heard(2, 5) == ()
    assert target.redirected(2, 3, 5) == ()
    assert (target.member, target.deadline) == (1, RETRY)
    target.rest()
    assert target.deadline == NEVER


def forwarding(home: int | None = None) -> tuple[Target, int]:
    """Of a session whose primary, member 1, is silent, and for which member 2 answers; and when."""
    target = Target((1, 2, 3), random=Random(1), home=home, retry_ns=RETRY)
    if home is None:
        target.member = target.primary = 1
        target.asked(0)
    else:
        target.asked(0)
        target.redirected(home, 1, 0)
    now = RETRY * 3 // 2
    again: list[Resend | Probe] = []
    while Probe(2, forward=True) not in again:
        now = max(now, target.deadline)
        again += target.tick(now, 0, 0)
    target.heard(2, now)
    assert (target.member, target.primary) == (2, 1)
    return target, now


def test_who_answers_for_a_silent_primary_is_asked_to_forward_and_a_second_later_the_primary_is_tried() -> None:
    target, now = forwarding()
    target.calling(now + SECOND - 1)
    assert target.member == 2
    target.calling(now + SECOND)
    assert (target.member, target.primary) == (1, 1)


def test_a_primary_that_stays_silent_is_tried_after_twice_as_long_each_time_up_to_a_minute() -> None:
    target, now = forwarding()
    waits = []
    for _ in range(9):
        due = target._forwarded_until
        waits.append((due - now) // SECOND)
        target.calling(due - 1)
        assert target.member == 2
        target.calling(due)
        assert target.member == 1
        target.asked(due)
        now = due
        while target.member == 1:
            now = max(now, target.deadline)
            if Probe(2, forward=True) in target.tick(now, due, 0):
                target.heard(2, now)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_a_call_that_tries_the_primary_leaves_a_deadline_at_which_that_is_found_silent() -> None:
    target, now = forwarding()
    target.rest()
    tried = now + SECOND
    target.calling(tried)
    target.asked(tried)
    probed: list[Resend | Probe] = []
    while Probe(2, forward=True) not in probed:
        assert target.deadline < tried + 4 * RETRY
        probed += target.tick(target.deadline, tried, 0)


def test_a_primary_that_is_heard_again_is_asked_for_everything_and_not_taken_for_cut_off_longer_than_before() -> None:
    """It answers what reached it before the silence, or what reached it by way of another."""
    target, now = forwarding()
    assert target.heard(1, now + 5) == (Resend(1, now + 5, now + 5),)
    assert (target.member, target.primary) == (1, 1)
    due = now + 10 * RETRY
    while target.member == 1:
        due = max(due, target.deadline)
        if Probe(2, forward=True) in target.tick(due, now + 5, 0):
            target.heard(2, due)
    target.calling(due + SECOND)
    assert target.member == 1


def test_who_forwards_and_names_another_one_is_believed() -> None:
    target, now = forwarding()
    assert target.redirected(2, 1, now + 5) == ()
    assert (target.member, target.primary) == (2, 1)
    assert target.redirected(2, 3, now + RETRY) == (Resend(3, now + RETRY, now + RETRY),)
    assert (target.member, target.primary) == (3, 3)


def test_who_forwards_and_is_the_primary_by_now_is_asked_as_one() -> None:
    target, now = forwarding()
    target.redirected(2, 2, now + 5)
    assert (target.member, target.primary) == (2, 2)
    target.calling(now + 2 * SECOND)
    assert target.member == 2


def test_who_forwards_and_knows_of_no_primary_is_left() -> None:
    target, now = forwarding()
    assert target.redirected(2, 0, now + 5) == ()
    assert target.member == target.primary != 2
    assert target.deadline <= now + 5 + RETRY // 2


def test_a_member_does_not_forward_for_itself() -> None:
    """It remembers what was executed and answers that, but to the primary it has no other way than its own session."""
    target = Target((1, 2, 3), random=Random(1), home=3, retry_ns=RETRY)
    target.asked(0)
    target.redirected(3, 1, 0)
    while target.deadline < 4 * RETRY:
        target.tick(target.deadline, 0, 0)
    assert target.heard(3, target.deadline) == ()
    assert (target.member, target.primary) == (1, 1)
    assert target._probed  # The primary is as silent as before.


def test_of_many_calls_that_try_the_primary_together_none_is_sent_to_it_twice() -> None:
    """What was sent to the member that forwards, before, is: that one may be gone."""
    target, now = forwarding()
    tried = now + SECOND
    target.calling(tried)
    assert target.heard(1, tried + 5) == (Resend(1, tried - 1, tried - 1),)


def test_who_is_slow_for_the_first_time_is_given_longer_before_others_are_asked_to_forward() -> None:
    """It may have much to do. All members would ask it for what its clients have asked for, again and again."""
    target = Target((1, 2, 3), random=Random(1), home=None, retry_ns=RETRY)
    target.member = target.primary = 1
    target.asked(0)
    probes: list[tuple[int, bool]] = []
    while target.deadline < 5 * RETRY:
        now = target.deadline
        probes += [(now, each.forward) for each in target.tick(now, 0, 0) if isinstance(each, Probe) and each.to != 1]
    assert len(probes) > 5
    assert all(forward == (now >= 3 * RETRY) for now, forward in probes)


def test_who_is_probed_and_answers_without_having_been_asked_to_forward_is_the_primary() -> None:
    target = Target((1, 2, 3), random=Random(1), home=None, retry_ns=RETRY)
    target.member = target.primary = 1
    target.asked(0)
    assert Probe(2) in target.tick(target.deadline, 0, 0)
    target.heard(2, 2 * RETRY)
    assert (target.member, target.primary, target.forwards) == (2, 2, False)


def test_each_silence_begins_with_the_member_after_the_one_that_was_probed_last() -> None:
    """Member 2 hears nobody and names 3, of long ago; 3 names the present primary, which this client does not hear.

    Were 2 always the first, no other would be asked while the primary is silent, and none to forward.
    """
    target = Target((1, 2, 3, 4), random=Random(1), home=None, retry_ns=RETRY)
    target.member = target.primary = target._probed_last = 1
    target.asked(0)
    first: list[int] = []
    for _ in range(3):
        now = target.deadline
        first += [each.to for each in target.tick(now, 0, 0) if isinstance(each, Probe) and each.to != 1]
        target.redirected(first[-1], 3, now)
        target.redirected(3, 1, now + RETRY)
        target.deadline = max(target.deadline, now + 3 * RETRY)
    assert first == [2, 3, 4]


def test_who_answers_a_read_may_be_the_primary_by_now_and_is_asked_for_calls_as_one() -> None:
    """The old one may be dead. Taken for one that forwards to it, it would be left for it again a second later."""
    target = Target((1, 2, 3), random=Random(1), home=None, retry_ns=RETRY)
    target.member = target.primary = 1
    target.asked(0)
    while target.deadline < 4 * RETRY:
        target.tick(target.deadline, 0, 0)
    target.heard(2, target.deadline, reads=True)
    assert (target.member, target.primary) == (2, 2)
