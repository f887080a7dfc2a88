"""The messages that no protocol owns: between clients and members, and between members before there is a protocol.

Tags 1 to 63 are these, 64 to 127 a protocol's messages, 128 to 191 its durable states.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transport.codec import MessageCodec
from transport.frame import FIRST_CLIENT
from viewstamp.protocol import Core, Entry, Message, join_entries, split_entries

if TYPE_CHECKING:
    from transport.endpoint import Endpoint

FIRST_CLIENT_ID = FIRST_CLIENT
"""Sender identifiers from here up are clients; below are members."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Between members at first start: am I blank, and whom have I seen with which incarnation (0: not yet).

    From a founded member, `vector` is its founding record.
    """

    blank: bool
    vector: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Register:
    """Client, or whoever forwards for it, to primary: open a session. The nonce joins the reply to the question."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Request:
    """Client, or whoever forwards for it, to primary: execute `body` once.

    Every number up to `mark` is answered or given up at the client.
    """

    session: int
    request: int
    mark: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Forward:
    """Client to a member that may reach the primary: have this request executed by `primary`, which I do not hear.

    `session` 0 is a registration, and `request` its nonce. The answer comes by the same way. A member that takes
    another for the primary says so instead, in a NOTPRIMARY.
    """

    primary: int
    session: int
    request: int
    mark: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a request, with a viewstamp at or after it.

    A session's registration is request `nonce` of session 0, and op and nonce are the session's number.
    """

    session: int
    request: int
    view: int
    op: int
    outcome: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Client to any member: a linearizable read. Numbers are the client's own.

    Not a state machine's `Query`, which `body` names and calls. Both names stay: traces say this one, services that.
    """

    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class QueryReply:
    """The outcome of a query, and the viewstamp of the state it was read from."""

    number: int
    view: int
    op: int
    outcome: bytes


@dataclass(frozen=True, slots=True)
class NotPrimary:
    """Member to client: not served here. `primary` is the member to ask, 0 if none is known."""

    primary: int


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Anyone to a member: how do you see yourself?"""

    nonce: int


@dataclass(frozen=True, slots=True)
class StatusReply:
    """`body` is a strict CBOR map of plain values, for people and monitoring."""

    nonce: int
    body: bytes


@dataclass(frozen=True, slots=True)
class GetChunk:
    """Member to member: send me the chunk at `offset` of the snapshot up to `op` with this digest."""

    op: int
    digest: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Answer to GETCHUNK: a part of that snapshot."""

    op: int
    digest: bytes
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NoSnapshot:
    """Answer to GETCHUNK: I have no such snapshot, or not any more."""

    op: int
    digest: bytes


BODY_MESSAGES: Mapping[int, type] = {
    1: Hello,
    2: Register,
    3: Request,
    4: Reply,
    5: Query,
    6: QueryReply,
    7: NotPrimary,
    8: StatusRequest,
    9: StatusReply,
    10: GetChunk,
    11: Chunk,
    12: NoSnapshot,
    13: Forward,
}


def make_codec(core_class: type[Core]) -> MessageCodec:
    """The codec of everything a member of such a cluster sends or stores."""
    classes: dict[int, type] = {**BODY_MESSAGES, **core_class.messages, **core_class.states}
    return MessageCodec(classes, {tuple[Entry, ...]: (join_entries, split_entries)})


def post(endpoint: Endpoint, codec: MessageCodec, to: int, message: object) -> None:
    """Queue a message for a peer.

    What is large and still under way to it is not sent a second time: whoever waits asks again several times a second,
    however slow the line is that it comes by.
    """
    data = codec.encode(message)
    endpoint.send(to, data, _label_of(message) if endpoint.is_large(data) else None)


def _label_of(message: object) -> Hashable:
    """What it has in common with those that repeat it; None for what must always be sent."""
    match message:
        case Message():
            return message.label
        case Request():
            return Request, message.session, message.request
        case Forward():
            return Forward, message.session, message.request
        case Query():
            return Query, message.number
        case Chunk():
            return Chunk, message.op, message.digest, message.offset
        case _:
            return None
