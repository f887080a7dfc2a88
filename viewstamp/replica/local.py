"""The session of a member's own callers, and its short way to the member's own requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from viewstamp.client import ClientSession
from viewstamp.protocol import Time
from viewstamp.wire import NotPrimary, Query, QueryReply, Register, Reply, Request

ClientAnswer = Reply | QueryReply | NotPrimary


class LocalSession:
    """Carries messages between the session and this member, `me`, without encoding them, and to others with `send`."""

    def __init__(
        self,
        me: int,
        session: ClientSession,
        ask: Callable[[int, Request | Register | Query], None],
        send: Callable[[int, object], None],
    ) -> None:
        self._me = me
        self._session = session
        self._ask = ask
        self._send = send
        self._answers: deque[ClientAnswer] = deque()

    def answered(self, answer: ClientAnswer) -> None:
        """This member answers its own session."""
        self._answers.append(answer)

    def exchange(self, now: Time) -> bool:
        """Carry over everything there is; True if this member was asked for something."""
        asked = False
        while True:
            for to, message in self._session.take_messages():
                if to == self._me:
                    asked = True
                    self._ask(self._me, message)
                else:
                    self._send(to, message)
            if not self._answers:
                return asked
            while self._answers:
                self._session.receive(self._me, self._answers.popleft(), now.monotonic)
