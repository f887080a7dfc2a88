"""A run of a simulated world as JSON lines, one for each step of an inhabitant; docs/trace.md describes every field.

The same seed gives the same bytes in any process with the same versions of Python and the libraries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from transport.codec import CodecError
from transport.endpoint import Endpoint
from viewstamp.registry import protocol_class
from viewstamp.replica import Replica
from viewstamp.replica.turn import Turn
from viewstamp.simulation.executed import called
from viewstamp.simulation.inhabitants import Answer, Node, SimulatedClient
from viewstamp.simulation.trace_format import header, plain, summary, whole
from viewstamp.simulation.trace_log import LogMirror
from viewstamp.simulation.trace_messages import Carried, ListeningEndpoint, Outbox, Post, Said
from viewstamp.simulation.world import World
from viewstamp.wire import Forward, Query, Request, make_codec

_Record = dict[str, Any]


@dataclass(slots=True)
class _Actor:
    """A member or a client: the step it is in, and what it says. `counts` are those that the last step ended with."""

    name: str
    endpoint: ListeningEndpoint
    step: _Record | None = None
    arriving: Carried | None = None
    outbox: Outbox = field(default_factory=Outbox)
    unsorted: int = 0  # how much of what the endpoint heard to say has an id
    sent: list[_Record] = field(default_factory=list)
    datagrams: list[_Record] = field(default_factory=list)
    log: LogMirror = field(default_factory=LogMirror)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class TraceRecorder:
    """Writes what happens in `world` to `file`, from its making until `close`. It draws nothing and changes nothing.

    Make it before the first `start` and `add_client`. `seed` is only told. The header is written with the first
    record, so that the world's cluster may still be replaced. `file` is the caller's, to be flushed and closed.
    """

    def __init__(self, world: World, file: TextIO, *, seed: int) -> None:
        self.records = 0
        self._world = world
        self._file = file
        self._seed = seed
        self._codec = make_codec(protocol_class(world.cluster.protocol))
        self._actors: dict[str, _Actor] = {}
        self._lives: dict[int, int] = {}
        self._clients: dict[int, str] = {}  # sender -> name
        self._post = Post()
        self._messages = 0
        self._cuts = 0
        self._pending: list[_Record] = []
        self._begun = False
        world.observer = self

    def note(self, text: str) -> None:
        """Write down what is done to the world, in words: "cut 1 from 2 and 3"."""
        self._settle()
        self._write({"event": "note", "text": text})

    def close(self, failure: str | None = None) -> None:
        """Write the end: the run's digest, and the failure that ended it, if one did. Nothing is recorded after it."""
        self._settle()
        for actor in self._actors.values():
            self._abandon(actor)
        self._write({"event": "end", "events": self._world.events, "digest": self._world.digest, "failure": failure})
        self._world.observer = None

    # What a world tells; see Observer.

    def started(self, node: Node) -> None:
        """A member starts: listen to it."""
        replica, journal = node.replica, node.journal
        if replica is None or journal is None:
            return
        replica.endpoint = replica.answers.endpoint = self._listen(replica.endpoint)
        actor = self._actors[node.address] = _Actor(node.address, replica.endpoint)
        actor.log = LogMirror(journal.recovered)
        self._lives[node.member] = self._lives.get(node.member, 0) + 1

    def joined(self, client: SimulatedClient) -> None:
        """A client begins: listen to it."""
        client.endpoint = self._listen(client.endpoint)
        self._clients[client.endpoint.identity.sender] = client.address
        self._actors[client.address] = _Actor(client.address, client.endpoint)

    def _listen(self, endpoint: Endpoint) -> ListeningEndpoint:
        cluster = self._world.cluster
        return ListeningEndpoint(endpoint, cluster.datagram_bytes, cluster.configuration.members)

    def event(self, who: Node | SimulatedClient, name: str, number: int = 0) -> None:
        """A step begins."""
        actor = self._actors[who.address]
        step: _Record = {"event": name}
        match name:
            case "start" if isinstance(who, Node) and who.replica is not None:
                life = self._lives[who.member]
                step["event"] = "start" if life == 1 else "restart"
                step |= {"life": life, "incarnation": whole(who.replica.incarnation)}
            case "written":
                actor.log.written(number)
                step["write"] = number
            case "restored":
                step["snapshot"] = number
            case "call" | "read":
                step["handle"] = whole(number)
            case _:
                pass
        actor.step = step

    def receives(self, who: Node | SimulatedClient, source: str, datagram: bytes, number: int) -> None:
        """A datagram arrives, and a step begins."""
        actor = self._actors[who.address]
        actor.arriving = self._post.arrived(source, actor.name, datagram, number)
        actor.endpoint.heard.clear()
        actor.step = {
            "event": "receive",
            "from": source,
            "datagram": actor.arriving.number if actor.arriving is not None else None,
        }

    def unheard(self, node: Node, source: str, datagram: bytes, number: int) -> None:
        """A datagram arrives where no process runs."""
        carried = self._post.arrived(source, node.address, datagram, number)
        if carried is not None:
            self._settle()
            self._write(_fate("unheard", carried, source, node.address))

    def transmitted(self, source: str, destination: str, datagram: bytes, arrivals: Sequence[tuple[int, bytes]]) -> int:
        """A datagram was sent."""
        number = self._post.next_number()
        actor = self._actors.get(source)
        if actor is None:
            carried = Carried(number)
        else:
            self._identify(actor)
            carried = actor.outbox.carried(number, destination, datagram)
        fate = self._post.sent(source, destination, datagram, carried, arrivals)
        if actor is not None:
            described = {"number": number, "to": destination, "bytes": len(datagram), "messages": carried.ids}
            if carried.fragments:
                described["fragments"] = len(carried.fragments)
            actor.datagrams.append({**described, "arrives": list(fate.arrives)})
        cuts = self._world.network.statistics().get("cut", 0)
        copies = len(fate.arrives) + fate.damaged
        if not copies:
            self._pending.append(_fate("cut" if cuts > self._cuts else "lost", carried, source, destination))
        elif copies > 1:
            self._pending.append(_fate("duplicated", carried, source, destination))
        self._pending += [_fate("damaged", carried, source, destination) for _ in range(fate.damaged)]
        self._pending += [_fate("replayed", old, source, destination) for old in fate.replayed]
        self._cuts = cuts
        return number

    def turned(self, node: Node, turn: Turn) -> None:
        """A member's step is over."""
        actor, replica = self._actors[node.address], node.replica
        if replica is None:
            return
        writes = [actor.log.asked(number, records, self._codec) for number, records in turn.writes]
        record = self._step(actor)
        if record["event"] == "receive":
            self._count(actor, record, replica)
        record |= self._standing(actor, replica)
        if turn.transitions:
            record["why"] = [transition.reason for transition in turn.transitions]
        if writes:
            record["writes"] = writes
        if turn.files:
            record["files"] = [{"task": type(task).__name__, "fields": summary(task)} for task in turn.files]
        self._finish(actor, record)

    def client_turned(self, client: SimulatedClient, answers: Sequence[Answer]) -> None:
        """A client's step is over."""
        actor = self._actors[client.address]
        record = self._step(actor)
        if answers:
            record["answers"] = [
                {"handle": whole(answer.handle), "called_at": answer.called_at, "value": plain(answer.value)}
                for answer in answers
            ]
        if actor.sent or actor.datagrams or len(record) > 2:  # More than its name and who: not an idle tick.
            self._finish(actor, record)

    def ended(self, node: Node, why: str) -> None:
        """A member's process ends."""
        self._settle()
        actor = self._actors.pop(node.address, None)
        if actor is not None:
            self._abandon(actor)
        self._write({"member": node.member, "event": why})

    # Records.

    def _abandon(self, actor: _Actor) -> None:
        """Write a step that will not end."""
        step, actor.step = actor.step, None
        if step is not None:
            self._write({**self._whose(actor), **step, "unfinished": True})

    def _step(self, actor: _Actor) -> _Record:
        """How the record of a step that is over begins."""
        step, actor.step = actor.step, None
        record: _Record = {**self._whose(actor), **(step or {"event": "continue"})}
        self._identify(actor)
        if actor.endpoint.heard:
            taken: set[int] = set()
            record["received"] = [self._heard(actor, message, taken) for _, message in actor.endpoint.heard]
            actor.endpoint.heard.clear()
        actor.arriving = None
        return record

    @staticmethod
    def _whose(actor: _Actor) -> _Record:
        kind, _, number = actor.name.partition("-")
        return {kind: int(number)}

    def _heard(self, actor: _Actor, message: bytes, taken: set[int]) -> _Record:
        said = actor.arriving.find(message, taken) if actor.arriving is not None else None
        try:
            kind = type(self._codec.decode(message)).__name__
        except CodecError:
            kind = "unreadable"
        return {"id": said.id if said is not None else None, "type": kind}

    def _count(self, actor: _Actor, record: _Record, replica: Replica) -> None:
        """What was not taken of what has arrived, and why."""
        statistics = replica.statistics()
        counts = {"ignored": statistics.ignored, "dropped": statistics.transport.drops}
        for name, now in counts.items():
            before = actor.counts.get(name, {})
            reasons = [reason for reason, count in now.items() if count > before.get(reason, 0)]
            if reasons:
                record[name] = reasons
        actor.counts = counts

    def _standing(self, actor: _Actor, replica: Replica) -> _Record:
        status, log = replica.status(), actor.log
        log.begins_after(status.base)
        standing: _Record = {
            "status": status.status,
            "role": status.role,
            "view": status.view,
            "primary": status.primary or None,
            "op": status.op,
            "commit": status.commit,
            "applied": status.applied,
            "durable": log.durable,
            "base": log.base,
            "log": log.tail,
        }
        if status.waiting:
            standing["waiting"] = status.waiting
        return standing

    def _identify(self, actor: _Actor) -> None:
        """Give what an actor has said its ids."""
        said = actor.endpoint.said
        for peer, message in said:
            self._messages += 1
            to = self._clients.get(peer) or str(actor.endpoint.address_of(peer))
            actor.outbox.put(Said(self._messages, to, message))
            actor.sent.append({"id": self._messages, "to": to, **self._describe(message)})
        said.clear()

    def _describe(self, data: bytes) -> _Record:
        message = self._codec.decode(data)
        described: _Record = {"type": type(message).__name__, "fields": summary(message)}
        if isinstance(message, Request | Query) or (isinstance(message, Forward) and message.session):
            described["command"] = called(message.body)
        return described

    def _finish(self, actor: _Actor, record: _Record) -> None:
        if actor.sent:
            record["sent"] = actor.sent
        if actor.datagrams:
            record["datagrams"] = actor.datagrams
        actor.sent, actor.datagrams = [], []
        self._write(record)
        self._settle()

    def _settle(self) -> None:
        """Write what became of datagrams, after the step that sent them."""
        pending, self._pending = self._pending, []
        for record in pending:
            self._write(record)

    def _write(self, record: _Record) -> None:
        if not self._begun:
            self._begun = True
            self._line(header(self._world.cluster, self._seed))
        self.records += 1
        self._line({"n": self.records, "t": self._world.now, **record})

    def _line(self, record: _Record) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")


def _fate(fate: str, carried: Carried, source: str, destination: str) -> _Record:
    """What the network did to a datagram."""
    return {
        "event": "network",
        "fate": fate,
        "datagram": carried.number,
        "from": source,
        "to": destination,
        "messages": carried.ids,
    }
