"""What a member knows of requests under way, with a protocol that is told when it leads and what is in its log."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import cast

from statemachine import Counter, Executor
from viewstamp.protocol import Core, Entry, Kind, Proposal, Standing, Time, make_entry
from viewstamp.replica.applied import Applied
from viewstamp.replica.requests import ClientAnswer, Requests

NOW = Time(0, 0)
NONCE = 77
CLIENT = 1 << 20


class Ordering:
    """A protocol that leads `leading`, holds `log`, and takes everything it is asked to order."""

    def __init__(self) -> None:
        self.leading = -1
        self.log: list[Entry] = []
        self.ordered: list[int] = []

    @property
    def standing(self) -> Standing:
        return Standing("normal", "primary", self.leading, 1, self.leading >= 0, len(self.log), 0)

    def propose(self, proposals: Sequence[Proposal], now: Time) -> int:
        self.ordered += [proposal.request for proposal in proposals]
        return 1

    def entry(self, op: int) -> Entry:
        return self.log[op - 1]


def member() -> tuple[Ordering, Requests, list[ClientAnswer]]:
    ordering, answers = Ordering(), []
    executor = Executor(Counter(), max_sessions=8, window=8)
    requests = Requests(
        cast("Core", ordering), Applied(executor), lambda source, answer: answers.append(answer), Random(1), 1024
    )
    return ordering, requests, answers


def lead(ordering: Ordering, requests: Requests, view: int) -> None:
    ordering.leading = view
    requests.follow_standing()


def ask(requests: Requests) -> None:
    """A client asks for a session, or asks again."""
    requests._order(CLIENT, (0, NONCE), Kind.REGISTER, 0, b"")
    requests.propose(NOW)


def test_a_request_is_ordered_once_however_often_it_comes() -> None:
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ask(requests)
    ask(requests)
    assert ordering.ordered == [NONCE]


def test_a_request_that_a_view_change_has_dropped_is_ordered_when_it_comes_again() -> None:
    """Counted as under way for good, its client would be answered never."""
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ask(requests)
    lead(ordering, requests, -1)
    lead(ordering, requests, 3)
    ask(requests)
    assert ordering.ordered == [NONCE, NONCE]


def test_a_new_primary_knows_the_requests_of_the_log_that_it_takes_over() -> None:
    ordering, requests, _ = member()
    ordering.log = [make_entry(1, 0, 0, Proposal(Kind.REGISTER, 0, NONCE, 0, b"", 0))]
    lead(ordering, requests, 3)
    ask(requests)
    assert ordering.ordered == []


def test_who_does_not_lead_says_so() -> None:
    ordering, requests, answers = member()
    ask(requests)
    assert ordering.ordered == []
    assert [type(answer).__name__ for answer in answers] == ["NotPrimary"]
