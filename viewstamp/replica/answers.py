"""What a member answers: to clients over the network, to its own session without encoding."""

from __future__ import annotations

from transport.codec import MessageCodec
from transport.endpoint import Endpoint
from viewstamp.replica.local import LocalSession
from viewstamp.wire import NotPrimary, QueryReply, Reply


class Answers:
    """Hands each answer to whoever asked: `me` is this member's own session, everybody else a client.

    They are given by their fields: of what goes to a client only the bytes are made. A large one that is still under
    way to it is not sent a second time (`Endpoint.send`), however often it is asked for.
    """

    def __init__(self, me: int, home: LocalSession, endpoint: Endpoint, codec: MessageCodec) -> None:
        self._me = me
        self._home = home
        self.endpoint = endpoint
        self._encode_not_primary = codec.encoder(NotPrimary)
        self._encode_reply = codec.encoder(Reply)
        self._encode_query_reply = codec.encoder(QueryReply)

    def not_primary(self, source: int, primary: int) -> None:
        """A `NotPrimary`: ask that member, 0 if none is known."""
        if source == self._me:
            self._home.answered(NotPrimary(primary))
        else:
            self.endpoint.send(source, self._encode_not_primary(primary))

    def reply(self, source: int, session: int, request: int, view: int, op: int, outcome: bytes) -> None:
        """A `Reply`, for each command."""
        if source == self._me:
            self._home.replied(session, request, view, op, outcome)
        else:
            data = self._encode_reply(session, request, view, op, outcome)
            self.endpoint.send(source, data, (Reply, session, request))

    def query_reply(self, source: int, number: int, view: int, op: int, outcome: bytes) -> None:
        """A `QueryReply`, for each read."""
        if source == self._me:
            self._home.answered(QueryReply(number, view, op, outcome))
        else:
            self.endpoint.send(source, self._encode_query_reply(number, view, op, outcome), (QueryReply, number))
