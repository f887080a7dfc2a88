"""Hand-made bugs in what is forwarded for clients that do not hear the primary."""

from __future__ import annotations

from tests.simulation.changes import Change
from viewstamp.replica import forwarding
from viewstamp.replica.forwarding import Forwarding
from viewstamp.wire import Forward, Register, Reply, Request

Bugs = tuple[tuple[str, str, tuple[Change, ...]], ...]

_replied = Forwarding.replied


def _say_who_leads(self: Forwarding, source: int, message: Forward) -> None:
    self._requests.redirect(source)


def _keep_registrations(self: Forwarding, sender: int, reply: Reply) -> None:
    if reply.session:
        _replied(self, sender, reply)


def _give_up_all_before(message: Forward) -> Request | Register:
    if not message.session:
        return Register(message.request)
    return Request(message.session, message.request, message.request - 1, message.body)


SHARED: Bugs = (
    (
        "nothing-forwarded",
        "Who is asked to forward a request only says who the primary is.",
        ((Forwarding, "forward", _say_who_leads),),
    ),
    (
        "forwarded-registrations-unanswered",
        "The answer to a registration that was forwarded is not handed on.",
        ((Forwarding, "replied", _keep_registrations),),
    ),
    (
        "forwarded-mark",
        "What is forwarded says that its client has the answers to all requests before it.",
        ((forwarding, "_for_primary", _give_up_all_before),),
    ),
)
