"""Quorums, checked by counting every set of members, and what a configuration refuses."""

from __future__ import annotations

from itertools import combinations

import pytest

from viewstamp.protocol import MILLISECOND, Configuration, Timeouts

SIZES = range(1, 9)


def configuration(size: int) -> Configuration:
    return Configuration(tuple(range(1, size + 1)))


@pytest.mark.parametrize("size", SIZES)
def test_any_two_quorums_share_a_member(size: int) -> None:
    config = configuration(size)
    quorums = [set(quorum) for quorum in combinations(config.members, config.quorum)]
    assert all(one & other for one in quorums for other in quorums)


@pytest.mark.parametrize("size", SIZES)
def test_no_smaller_set_would_do(size: int) -> None:
    config = configuration(size)
    smaller = [set(few) for few in combinations(config.members, config.quorum - 1)]
    assert any(not one & other for one in smaller for other in smaller)


@pytest.mark.parametrize("size", [size for size in SIZES if size > 1])
def test_recovery_answers_meet_every_quorum_that_the_lost_member_was_part_of(size: int) -> None:
    config = configuration(size)
    for lost in config.members:
        others = config.others(lost)
        was_part = [set(rest) for rest in combinations(others, config.quorum - 1)]
        answers = [set(few) for few in combinations(others, config.recovery_quorum)]
        assert answers
        assert all(rest & few for rest in was_part for few in answers if rest) or config.quorum == 1


@pytest.mark.parametrize("size", [size for size in SIZES if size > 2])
def test_one_recovery_answer_less_would_miss_one(size: int) -> None:
    config = configuration(size)
    others = config.others(1)
    was_part = [set(rest) for rest in combinations(others, config.quorum - 1)]
    fewer = [set(few) for few in combinations(others, config.recovery_quorum - 1)]
    assert any(not rest & few for rest in was_part for few in fewer)


def test_others_are_all_but_one() -> None:
    assert Configuration((2, 5, 9)).others(5) == (2, 9)


@pytest.mark.parametrize("members", [(), (0, 1), (-1,), (2, 1), (1, 1), (1, 2, 2)])
def test_members_are_distinct_positive_and_ascending(members: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="members"):
        Configuration(members)


@pytest.mark.parametrize("name", ["heartbeat", "suspect", "retry"])
def test_timeouts_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Timeouts(**{name: 0})


def test_jitter_may_be_none_but_not_negative() -> None:
    assert Timeouts(jitter=0).jitter == 0
    with pytest.raises(ValueError, match="jitter"):
        Timeouts(jitter=-1)


def test_one_lost_heartbeat_may_not_depose_a_primary() -> None:
    with pytest.raises(ValueError, match="twice heartbeat"):
        Timeouts(heartbeat=100 * MILLISECOND, suspect=199 * MILLISECOND)
