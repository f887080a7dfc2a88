"""What clients that do not hear the primary ask a member to forward to it, and who gets the answers.

A client may be cut off from the primary while all members hear each other: no view change would come, and none would
help. It asks with a FORWARD for what it would have asked the primary for; the member asks the primary in its own name,
with a REQUEST or a REGISTER, and hands on the REPLY. Whatever is lost on the way the client asks for again, and since
session and request number stay what they were, it is executed once, by whatever ways it comes.
"""

from __future__ import annotations

from collections.abc import Callable

from viewstamp.protocol import Core
from viewstamp.replica.answers import Answers
from viewstamp.replica.requests import Requests
from viewstamp.wire import Forward, Register, Reply, Request

_WAITING_AT_MOST = 16 * 1024


class Forwarding:
    """Who waits at member `me` for answers of the primary. The oldest of more than 16,384 are forgotten.

    Only for the primary that the client itself knows of is anything forwarded. To all others it is told who that is:
    the straight way is the shorter one.
    """

    def __init__(
        self, me: int, core: Core, requests: Requests, answers: Answers, send: Callable[[int, object], None]
    ) -> None:
        self._me = me
        self._core = core
        self._requests = requests
        self._answers = answers
        self._send = send
        self._primary = 0  # whose answers are waited for
        self._waiting: dict[tuple[int, int], int] = {}  # (session, request) -> source
        self.forwarded = 0
        """Requests sent on, each time that they were asked for."""

    def forward(self, source: int, message: Forward) -> None:
        """A client, or another member's own session, does not hear the primary."""
        requests = self._requests
        primary = self._core.standing.primary
        if message.primary != primary:  # None is no member, and neither is 0.
            requests.redirect(source)
        if primary == self._me:
            if message.session:
                requests.request(source, message.session, message.request, message.mark, message.body)
            else:
                requests.register(source, Register(message.request))
        elif message.primary == primary and requests.fits(message.body):
            self._wait(source, message.primary, (message.session, message.request))
            self._send(message.primary, _for_primary(message))

    def _wait(self, source: int, primary: int, key: tuple[int, int]) -> None:
        waiting = self._waiting
        if primary != self._primary:
            self._primary = primary
            waiting.clear()  # The one before will hardly answer, and the new one will be asked again.
        waiting.pop(key, None)  # Who asks again is not the oldest any more.
        waiting[key] = source
        if len(waiting) > _WAITING_AT_MOST:
            del waiting[next(iter(waiting))]
        self.forwarded += 1

    def replied(self, sender: int, reply: Reply) -> None:
        """A member answered something: hand it on to whoever had it forwarded, if anybody did."""
        if sender == self._primary and (source := self._waiting.pop((reply.session, reply.request), 0)):
            self._answers.reply(source, reply.session, reply.request, reply.view, reply.op, reply.outcome)


def _for_primary(message: Forward) -> Request | Register:
    """What a client that hears the primary would have sent it."""
    if not message.session:
        return Register(message.request)
    return Request(message.session, message.request, message.mark, message.body)
