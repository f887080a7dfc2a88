"""Founding: only all members together, and a blank member beside a founded one is named or has lost its disk."""

from __future__ import annotations

import pytest

from tests.vsr.driven import Driven, entries
from viewstamp.protocol import Founded, Lost
from viewstamp.replica import Founding, FoundingState
from viewstamp.wire import Hello
from vsr import Prepare, PrepareOk

MEMBERS = (1, 2, 3)


def save(founding: Founding) -> None:
    while founding.unsaved:
        founding.take_record()
        founding.saved()


def tell(sender: Founding, number: int, incarnation: int, *receivers: Founding) -> None:
    save(sender)
    hello = sender.hello(0)
    assert hello is not None
    for receiver in receivers:
        receiver.receive(number, incarnation, hello)
        save(receiver)


def blank() -> tuple[Founding, Founding, Founding]:
    first, second, third = (Founding(MEMBERS, member, 100 + member, None) for member in MEMBERS)
    return first, second, third


def test_all_blank_members_found_the_cluster_with_one_vector() -> None:
    first, second, third = blank()
    for _ in range(3):
        tell(first, 1, 101, second, third)
        tell(second, 2, 102, first, third)
        tell(third, 3, 103, first, second)
    assert [f.origin for f in (first, second, third)] == [Founded((101, 102, 103))] * 3
    assert first.record == FoundingState(complete=True, vector=(101, 102, 103))


def test_a_majority_of_blank_members_never_founds() -> None:
    first, second, _ = blank()
    for _ in range(5):
        tell(first, 1, 101, second)
        tell(second, 2, 102, first)
    assert first.origin is None
    assert second.origin is None
    assert "not yet seen 3" in first.waiting


def test_who_told_something_else_keeps_all_others_from_founding() -> None:
    """Member 1 has lost its disk after a founding that member 3 has not heard of, and member 2's words of before are
    late: were two that agree enough, they would found it anew, without what was committed meanwhile."""
    first, second, third = blank()
    for _ in range(2):
        tell(first, 1, 101, second, third)
        tell(second, 2, 102, first)
        tell(third, 3, 103, first, second)
    late = second.hello(0)
    assert late == Hello(blank=True, vector=(101, 102, 103))
    replaced = Founding(MEMBERS, 1, 201, None)
    tell(replaced, 1, 201, third)
    third.receive(2, 102, late)
    replaced.receive(2, 102, late)
    for _ in range(3):
        tell(third, 3, 103, replaced)
        tell(replaced, 1, 201, third)
    assert replaced.vector == third.vector == (201, 102, 103)
    assert replaced.origin is None
    assert third.origin is None


def test_nothing_is_told_before_it_is_durable() -> None:
    first, _, _ = blank()
    assert first.hello(0) is None
    first.take_record()
    assert first.hello(0) is None
    first.saved()
    assert first.hello(0) == Hello(blank=True, vector=(101, 0, 0))


def test_what_was_learned_since_is_not_told_before_it_is_durable_either() -> None:
    """Member 1 founds the cluster first, orders op 1 and loses its disk; it founds once more, with members 2 and 3.

    Had member 2 told of the new member 1 too early, and crashed, it would have forgotten that: late messages of members
    1 and 3 would make it found with the old member 1, whose op 1 it would then acknowledge to the new one as its own.
    """
    second = Founding(MEMBERS, 2, 102, FoundingState(complete=False, vector=(101, 102, 103)))
    save(second)
    second.receive(1, 201, Hello(blank=True, vector=(201, 102, 103)))
    assert second.hello(0) == Hello(blank=True, vector=(101, 102, 103))
    second.take_record()
    assert second.hello(0) == Hello(blank=True, vector=(101, 102, 103))
    second.receive(3, 203, Hello(blank=True, vector=(201, 102, 203)))
    second.saved()
    assert second.hello(0) == Hello(blank=True, vector=(201, 102, 103))
    save(second)
    assert second.hello(0) == Hello(blank=True, vector=(201, 102, 203))


def test_a_member_that_was_replaced_meanwhile_is_not_founded_with_its_old_incarnation() -> None:
    """Member 2 loses its disk between two rounds: what it told before must not complete a vector that names it."""
    first, second, third = blank()
    tell(second, 2, 102, first, third)
    tell(third, 3, 103, first)
    tell(first, 1, 101, second, third)
    tell(second, 2, 102, first)  # tells (101, 102, 0): not what member 1 holds
    assert first.origin is None
    replaced = Founding(MEMBERS, 2, 202, None)
    tell(replaced, 2, 202, first, third)
    assert first.vector == (101, 202, 103)
    tell(first, 1, 101, replaced, third)
    tell(third, 3, 103, replaced, first)
    tell(replaced, 2, 202, first, third)
    assert first.origin == Founded((101, 202, 103))


def test_an_older_incarnation_is_not_taken_back() -> None:
    first, second, third = blank()
    tell(third, 3, 103, first)
    replaced = Founding(MEMBERS, 2, 202, None)
    tell(replaced, 2, 202, first)
    tell(second, 2, 102, first)
    assert first.vector == (101, 202, 103)


def test_a_blank_member_named_in_the_founding_record_starts_as_normal() -> None:
    first, _, _ = blank()
    first.receive(2, 102, Hello(blank=False, vector=(101, 102, 103)))
    assert first.origin == Founded((101, 102, 103))


def test_a_blank_member_that_is_not_named_has_lost_its_disk() -> None:
    first, _, _ = blank()
    first.receive(2, 102, Hello(blank=False, vector=(55, 102, 103)))
    assert first.origin == Lost(101)
    assert first.record == FoundingState(complete=True, vector=(101, 102, 103))


def test_a_member_whose_clock_went_back_takes_a_larger_incarnation() -> None:
    first, _, _ = blank()
    first.receive(2, 102, Hello(blank=True, vector=(999, 102, 0)))
    assert first.superseded_by == 999


def test_a_restarted_blank_member_remembers_whom_it_has_told_of() -> None:
    first = Founding(MEMBERS, 1, 101, FoundingState(complete=False, vector=(101, 202, 0)))
    second = Founding(MEMBERS, 2, 102, None)
    tell(second, 2, 102, first)
    assert first.vector == (101, 202, 0)


def test_what_a_replaced_member_ordered_before_is_not_acknowledged_to_the_one_in_its_place() -> None:
    """Member 1 founds the cluster first, orders op 1 and loses its disk; all found it once more, with another op 1.

    Member 2 has told of the new member 1. Late news of the first founding make it start; were it to know the old member
    1 again, it would take the late PREPARE, and acknowledge the old op 1 to the new member 1, which counts it for its
    own: two histories.
    """
    second = Founding(MEMBERS, 2, 102, FoundingState(complete=False, vector=(201, 102, 103)))
    save(second)
    second.receive(3, 103, Hello(blank=False, vector=(101, 102, 103)))  # member 3 has crashed since, and forgotten it
    assert second.origin == Founded((201, 102, 103))
    assert second.record == FoundingState(complete=True, vector=(101, 102, 103))  # whom it tells that they were named

    backup = Driven(2, origin=second.origin)
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0), incarnation=101)
    assert {(to, answer.op) for to, answer in backup.sent(PrepareOk)} == {(1, 0)}  # as it was founded: it holds nothing


def test_what_a_replaced_member_says_of_a_founding_is_not_believed() -> None:
    """Nobody else has that founding: taken for one, it would keep the others from founding the cluster anew."""
    second = Founding(MEMBERS, 2, 102, FoundingState(complete=False, vector=(201, 102, 103)))
    save(second)
    second.receive(1, 101, Hello(blank=False, vector=(101, 102, 103)))
    assert second.origin is None
    for number, incarnation in ((1, 201), (3, 103)):
        second.receive(number, incarnation, Hello(blank=True, vector=(201, 102, 103)))
    assert second.origin == Founded((201, 102, 103))


def test_a_single_member_founds_itself() -> None:
    alone = Founding((1,), 1, 7, None)
    save(alone)
    assert alone.origin == Founded((7,))


@pytest.mark.parametrize("message", [Hello(blank=True, vector=(1,)), Hello(blank=False, vector=())])
def test_a_vector_of_another_size_changes_nothing(message: Hello) -> None:
    first, _, _ = blank()
    first.receive(2, 102, message)
    first.receive(9, 102, Hello(blank=True, vector=(1, 2, 3)))
    assert first.origin is None
    assert first.vector == (101, 0, 0)


def test_record_round_trip() -> None:
    record = FoundingState(complete=True, vector=(1, 2**64 - 1, 0))
    assert FoundingState.decode(record.encode()) == record
