"""Whom a session asks, and what it asks again, without a session."""

from __future__ import annotations

from random import Random

from viewstamp.client.target import Probe, Resend, Target
from viewstamp.protocol import MILLISECOND, NEVER

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
