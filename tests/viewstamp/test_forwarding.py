"""What a member forwards to the primary for others, and to whom it hands the answers on, without a protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from viewstamp.protocol import Core, Standing
from viewstamp.replica import forwarding
from viewstamp.replica.answers import Answers
from viewstamp.replica.forwarding import Forwarding
from viewstamp.replica.requests import Requests
from viewstamp.wire import FIRST_CLIENT_ID, Forward, Register, Reply, Request

ME, PRIMARY, OTHER = 1, 2, 3
CLIENT, ANOTHER = FIRST_CLIENT_ID + 1, FIRST_CLIENT_ID + 2
CALL = Forward(PRIMARY, 77, 5, 4, b"add")
REGISTRATION = Forward(PRIMARY, 0, 99, 0, b"")


@dataclass
class Surroundings:
    """A protocol that takes `primary` for that, and what the member asks for, sends and answers."""

    primary: int | None = PRIMARY
    largest: int = 10
    redirected: list[int] = field(default_factory=list)
    executed: list[tuple[object, ...]] = field(default_factory=list)
    sent: list[tuple[int, object]] = field(default_factory=list)
    answered: list[tuple[int, Reply]] = field(default_factory=list)

    @property
    def standing(self) -> Standing:
        return Standing("normal", "backup", 0, self.primary, False, 0, 0, base=0)

    def redirect(self, source: int) -> None:
        self.redirected.append(source)

    def fits(self, body: bytes) -> bool:
        return len(body) <= self.largest

    def request(self, *fields: object) -> None:
        self.executed.append(fields)

    def register(self, source: int, message: Register) -> None:
        self.executed.append((source, message))

    def reply(self, source: int, *fields: Any) -> None:
        self.answered.append((source, Reply(*fields)))

    def send(self, to: int, message: object) -> None:
        self.sent.append((to, message))


def forwards(**given: Any) -> tuple[Surroundings, Forwarding]:
    around = Surroundings(**given)
    return around, Forwarding(ME, cast("Core", around), cast("Requests", around), cast("Answers", around), around.send)


def test_a_request_and_a_registration_go_to_the_primary_and_the_answers_to_who_asked() -> None:
    around, forwarding = forwards()
    forwarding.forward(CLIENT, CALL)
    forwarding.forward(OTHER, REGISTRATION)  # Of another member's own session.
    assert around.sent == [(PRIMARY, Request(77, 5, 4, b"add")), (PRIMARY, Register(99))]
    assert (around.redirected, around.executed, forwarding.forwarded) == ([], [], 2)
    replies = [Reply(0, 99, 3, 8, b""), Reply(77, 5, 3, 9, b"done")]
    for reply in replies:
        forwarding.replied(PRIMARY, reply)
        forwarding.replied(PRIMARY, reply)  # Nobody waits for it any more.
    assert around.answered == [(OTHER, replies[0]), (CLIENT, replies[1])]


@pytest.mark.parametrize("sender", [OTHER, CLIENT, 0])
def test_only_the_answer_of_the_primary_that_was_asked_is_handed_on(sender: int) -> None:
    around, forwarding = forwards()
    forwarding.forward(CLIENT, CALL)
    forwarding.replied(sender, Reply(77, 5, 3, 9, b"invented"))
    assert around.answered == []
    forwarding.replied(PRIMARY, Reply(77, 6, 3, 9, b"of another request"))
    assert around.answered == []
    forwarding.replied(PRIMARY, Reply(77, 5, 3, 9, b"done"))
    assert around.answered == [(CLIENT, Reply(77, 5, 3, 9, b"done"))]


@pytest.mark.parametrize("primary", [OTHER, None])
def test_who_takes_another_one_for_the_primary_is_told_and_nothing_is_forwarded(primary: int | None) -> None:
    around, forwarding = forwards(primary=primary)
    forwarding.forward(CLIENT, CALL)
    assert (around.redirected, around.sent, around.executed) == ([CLIENT], [], [])


def test_nothing_is_forwarded_to_nobody() -> None:
    """No client takes member 0 for the primary, but anyone can write so, to a member that knows of none."""
    around, forwarding = forwards(primary=None)
    forwarding.forward(CLIENT, Forward(0, 77, 5, 4, b"add"))
    assert (around.redirected, around.sent, forwarding.forwarded) == ([CLIENT], [], 0)


@pytest.mark.parametrize("named", [ME, PRIMARY])
def test_a_primary_executes_what_it_is_to_forward_and_says_that_it_is_one(named: int) -> None:
    around, forwarding = forwards(primary=ME)
    forwarding.forward(CLIENT, Forward(named, 77, 5, 4, b"add"))
    forwarding.forward(CLIENT, Forward(named, 0, 99, 0, b""))
    assert around.executed == [(CLIENT, 77, 5, 4, b"add"), (CLIENT, Register(99))]
    assert around.redirected == ([] if named == ME else [CLIENT, CLIENT])
    assert around.sent == []


def test_what_is_longer_than_a_command_may_be_is_not_forwarded() -> None:
    around, forwarding = forwards(largest=2)
    forwarding.forward(CLIENT, CALL)
    assert (around.sent, forwarding.forwarded) == ([], 0)


def test_the_answer_goes_where_the_request_came_from_last() -> None:
    """A client's number does not change with its address; a member's session may be asked for by way of two."""
    around, forwarding = forwards()
    forwarding.forward(CLIENT, CALL)
    forwarding.forward(ANOTHER, CALL)
    forwarding.replied(PRIMARY, Reply(77, 5, 3, 9, b"done"))
    assert [source for source, _ in around.answered] == [ANOTHER]


def test_whoever_waits_for_a_primary_that_is_one_no_more_is_forgotten_when_the_next_is_asked() -> None:
    around, forwarding = forwards()
    forwarding.forward(CLIENT, CALL)
    around.primary = OTHER
    forwarding.replied(PRIMARY, Reply(77, 6, 3, 9, b""))
    forwarding.forward(ANOTHER, Forward(OTHER, 78, 1, 0, b"add"))
    forwarding.replied(PRIMARY, Reply(77, 5, 3, 9, b"late"))
    forwarding.replied(PRIMARY, Reply(78, 1, 3, 9, b"not asked"))
    forwarding.replied(OTHER, Reply(77, 5, 4, 9, b"not asked"))
    assert around.answered == []
    forwarding.replied(OTHER, Reply(78, 1, 4, 10, b"done"))
    assert [source for source, _ in around.answered] == [ANOTHER]


def test_a_former_primary_still_answers_what_it_was_asked() -> None:
    """It had it in order before it was replaced, and no one has asked the new one for anything yet."""
    around, forwarding = forwards()
    forwarding.forward(CLIENT, CALL)
    around.primary = OTHER
    forwarding.replied(PRIMARY, Reply(77, 5, 3, 9, b"done"))
    assert [source for source, _ in around.answered] == [CLIENT]


def test_of_too_many_that_wait_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "_WAITING_AT_MOST", 3)
    around, forwards_for = forwards()
    for request in range(1, 6):
        forwards_for.forward(CLIENT, Forward(PRIMARY, 77, request, 0, b"add"))
    for request in range(1, 6):
        forwards_for.replied(PRIMARY, Reply(77, request, 3, request, b""))
    assert [reply.request for _, reply in around.answered] == [3, 4, 5]
