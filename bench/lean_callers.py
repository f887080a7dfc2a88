"""Clients of Viewstamp as lean as those that load its peers: what a client sends and reads, and nothing to manage it.

A client of the library has a session for any number of calls at once, and finds members again that move. One that has
one call under way needs a number, a frame and a socket; the rest would be measured as if it were the cluster's.
"""

from __future__ import annotations

from random import Random

from bench.callers import Caller
from statemachine import session_number
from transport.codec import CodecError, MessageCodec
from transport.fragment_format import PART
from transport.frame import FrameIdentity, Framer
from transport.packing import WHOLE, split
from viewstamp.cluster import Cluster
from viewstamp.wire import BODY_MESSAGES, FIRST_CLIENT_ID, NotPrimary, Query, QueryReply, Register, Reply, Request

LARGEST_BODY_BYTES = 512
"""What certainly goes into one datagram, with its answer."""
_RETRY_NS = 200_000_000
_CODEC = MessageCodec(BODY_MESSAGES, {})
_encode_request, _encode_query = _CODEC.encoder(Request), _CODEC.encoder(Query)
_decode = _CODEC.decode
_pack_part = PART.pack


class LeanCaller(Caller):
    """A client that repeats one command, or one query, in a session of its own."""

    def __init__(self, cluster: Cluster, body: bytes, reads: bool, random: Random) -> None:
        super().__init__()
        self._addresses = [member.address for member in cluster.members]
        self._numbers = {member.id: at for at, member in enumerate(cluster.members)}
        self._at = random.randrange(len(self._addresses))
        self.socket.connect(self._addresses[self._at])
        framer = Framer(
            FrameIdentity(cluster.cluster_id, cluster.digest, 0, 0, FIRST_CLIENT_ID + random.getrandbits(62), 1)
        )
        self._wrap, self._parse = framer.wrap, framer.parse
        self._body = body
        self._reads = reads
        self._nonce = random.getrandbits(63) + 1
        self._session = 0
        self._number = 0
        self._datagram = b""
        self._sent_at = 0
        self._datagrams_out = self._bytes_out = 0

    def begin(self, now: int) -> None:
        self.began_at = now
        self._number = number = self._number + 1
        if self._reads:
            self._ask(_encode_query(number, self._body), now)
        elif self._session:
            self._ask(_encode_request(self._session, number, number - 1, self._body), now)
        else:
            self._ask(_CODEC.encode(Register(self._nonce)), now)

    def receive(self, now: int) -> bool:
        try:
            frame = self._parse(self.socket.recv(65_536))
        except OSError:
            return False  # nobody has the port of the member that is asked: the tick asks another
        parts = split(frame[2]) if not isinstance(frame, str) else None
        for data in parts[0] if parts is not None else ():
            try:
                message = _decode(data)
            except CodecError:
                continue
            if self._ends(message, now):
                return True
        return False

    def _ends(self, message: object, now: int) -> bool:
        match message:
            case Reply(session=0, request=self._nonce) if not self._session:
                self._session = session_number(message.op, self._nonce)
                self._ask(_encode_request(self._session, self._number, self._number - 1, self._body), now)
            case Reply():
                return message.request == self._number and message.session == self._session
            case QueryReply():
                return message.number == self._number
            case NotPrimary() if message.primary in self._numbers:
                self._turn_to(self._numbers[message.primary], now)
            case _:
                pass
        return False

    def tick(self, now: int) -> None:
        if self.began_at and now - self._sent_at > _RETRY_NS:
            self._turn_to((self._at + 1) % len(self._addresses), now)

    def sent(self) -> tuple[int, int]:
        return self._datagrams_out, self._bytes_out

    def _turn_to(self, at: int, now: int) -> None:
        self._at = at
        self.socket.connect(self._addresses[at])
        self._send(now)

    def _ask(self, message: bytes, now: int) -> None:
        self._datagram = self._wrap(_pack_part(WHOLE, len(message)) + message)
        self._send(now)

    def _send(self, now: int) -> None:
        self._sent_at = now
        self._datagrams_out += 1
        self._bytes_out += len(self._datagram)
        try:
            self.socket.send(self._datagram)
        except OSError:
            return  # as lost as on the way
