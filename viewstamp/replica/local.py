"""The session of a member's own callers, and its short way to the member's own requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from viewstamp.client import ClientSession
from viewstamp.protocol import Time
from viewstamp.wire import NotPrimary, Query, QueryReply, Register, Request

ReplyFields = tuple[int, int, int, int, bytes]


class LocalSession:
    """Carries messages between the session and this member, `me`, without encoding them, and to others with `send`.

    This member takes requests with `request`, by their fields, and other questions with `ask`; from `me`.
    """

    def __init__(
        self,
        me: int,
        session: ClientSession,
        request: Callable[[int, int, int, int, bytes], None],
        ask: Callable[[int, Register | Query], None],
        send: Callable[[int, object], None],
    ) -> None:
        self._me = me
        self._session = session
        self._request = request
        self._ask = ask
        self._send = send
        self._answers: deque[ReplyFields | QueryReply | NotPrimary] = deque()

    def replied(self, session: int, request: int, view: int, op: int, outcome: bytes) -> None:
        """This member answers its own session, with a `Reply` of these fields: for each command, so none is made."""
        self._answers.append((session, request, view, op, outcome))

    def answered(self, answer: QueryReply | NotPrimary) -> None:
        """This member answers its own session."""
        self._answers.append(answer)

    def follow(self, primary: int | None, now: Time) -> None:
        """This member knows of a primary, and the session need not find out for itself."""
        if primary:
            self._session.receive(self._me, NotPrimary(primary), now.monotonic)

    def exchange(self, now: Time) -> bool:
        """Carry over everything there is; True if this member was asked for something."""
        asked = False
        while True:
            questions = self._session.take_asked()
            while questions:
                to, question = questions.popleft()
                if to != self._me:
                    self._send(to, Request(*question) if isinstance(question, tuple) else question)
                    continue
                asked = True
                match question:
                    case tuple():
                        self._request(to, *question)
                    case Register() | Query():
                        self._ask(to, question)
            if not self._answers:
                return asked
            while self._answers:
                answer = self._answers.popleft()
                if isinstance(answer, tuple):
                    self._session.reply(self._me, *answer, now.monotonic)
                else:
                    self._session.receive(self._me, answer, now.monotonic)
