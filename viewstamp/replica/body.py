"""One member, synchronous: a protocol, client sessions, a state machine, and what its journal must hold.

A shell gives it a turn's worth of inputs at one time and carries out what the turn gives back. It knows no protocol's
words, reads no clock, and touches no socket and no file.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import cast

from statemachine import Executor, StateMachine
from transport.codec import CodecError
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from transport.interface import Address
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.protocol import (
    LARGEST_INCARNATION,
    Core,
    Durable,
    Effects,
    Entry,
    Lost,
    Message,
    Origin,
    Snapshot,
    State,
    Time,
)
from viewstamp.replica.answers import Answers
from viewstamp.replica.applied import Applied
from viewstamp.replica.errors import DataLostError
from viewstamp.replica.file_tasks import FileTask
from viewstamp.replica.forwarding import Forwarding
from viewstamp.replica.founding import Foundation
from viewstamp.replica.local import LocalSession
from viewstamp.replica.records import journal_records
from viewstamp.replica.requests import Requests
from viewstamp.replica.snapshots import Snapshots
from viewstamp.replica.status import ReplicaStatistics, founding_standing, make_status
from viewstamp.replica.taking import COLLECT_BYTES
from viewstamp.replica.turn import Stored, Turn
from viewstamp.replica.writes import Writes
from viewstamp.status import Status, encode_status
from viewstamp.wire import (
    FIRST_CLIENT_ID,
    Chunk,
    Forward,
    GetChunk,
    Hello,
    NoSnapshot,
    NotPrimary,
    Query,
    QueryReply,
    Register,
    Reply,
    Request,
    StatusReply,
    StatusRequest,
    make_codec,
    post,
)

_APPLY_LIMIT = 1024


class Replica:
    """One member of a cluster. Inputs of a turn, in any order; then `finish`, once.

    `now` is the same for all inputs of a turn. Raises InvariantError, the errors of `viewstamp.replica.errors`, and of
    a state machine's MemoryError, RecursionError and what is no `Exception`; then the replica must stop.
    """

    def __init__(
        self,
        cluster: Cluster,
        me: int,
        core_class: type[Core],
        machine: StateMachine,
        stored: Stored,
        *,
        random: Random,
        now: Time,
        session: ClientSession | None = None,
        measure: Callable[[], int] = lambda: 0,
        collect_bytes: int = COLLECT_BYTES,
    ) -> None:
        self._cluster = cluster
        self._me = me
        self._core_class = core_class
        self._random = random
        self._now = now
        self._codec = make_codec(core_class)
        executor = stored.executor or Executor(machine, max_sessions=cluster.max_sessions, window=cluster.window)
        self._applied = Applied(executor, stored.snapshot, measure)
        self.incarnation = stored.incarnation
        identity = FrameIdentity(cluster.cluster_id, cluster.digest, 0, 0, me, stored.incarnation)
        self.endpoint = Endpoint(identity, datagram_bytes=cluster.datagram_bytes)
        self.session = session or ClientSession.of(cluster, random=random, home=me)
        self._home = LocalSession(me, self.session, self._on_request, self._on_question, self._send)
        self.answers = Answers(me, self._home, self.endpoint, self._codec)
        self._core: Core | None = None
        self._requests: Requests | None = None
        self._forwarding: Forwarding | None = None
        self._writes = Writes()
        members = cluster.configuration.members
        self._foundation = Foundation(members, me, stored, issue=self._writes.issue, send=self._send)
        self._snapshots = Snapshots(
            cluster,
            me,
            self._applied,
            send=self._send,
            issue=self._writes.issue,
            measure=measure,
            stored=stored.snapshot,
            collect_bytes=collect_bytes,
        )
        self._turn = Turn()
        self._commit = 0
        self._heard: dict[int, int] = {}
        self.undecodable = 0
        self.misdirected = 0
        self.journal_bytes: Callable[[], int] = lambda: 0  # the shell's, asked when people look
        if stored.state is not None:
            state = cast("State", self._codec.decode(stored.state))
            self._start(Durable(state, stored.log(cluster), stored.snapshot))

    # Start.

    def _start(self, origin: Origin) -> None:
        if isinstance(origin, Lost) and not self._core_class.recovers_lost_disk:
            raise DataLostError(self._me, self._core_class.name, self._cluster.storage)
        core = self._core = self._core_class(self._cluster.configuration, self._me, origin, self._random, self._now)
        self._requests = Requests(core, self._applied, self.answers, self._random, self._cluster)
        self._forwarding = Forwarding(self._me, core, self._requests, self.answers, self._send)
        self._snapshots.start(core)

    # Inputs.

    def receive(self, datagram: bytes, address: Address, now: Time) -> None:
        """A datagram arrived. Nothing in it can raise; what is not wanted is counted."""
        self._now = now
        for sender, incarnation, data in self.endpoint.receive(datagram, address, now.monotonic):
            try:
                message = self._codec.decode(data)
            except CodecError:
                self.undecodable += 1
                continue
            if sender < FIRST_CLIENT_ID:
                self._heard[sender] = now.monotonic
            self._dispatch(sender, incarnation, message)

    def _dispatch(self, sender: int, incarnation: int, message: object) -> None:
        core = self._core
        if isinstance(message, Message):
            if core is not None and sender < FIRST_CLIENT_ID and incarnation <= LARGEST_INCARNATION:
                core.receive(sender, incarnation, message, self._now)
            else:
                self.misdirected += 1
            return
        match message:
            case Request():
                self._on_request(sender, message.session, message.request, message.mark, message.body)
            case Register() | Query():
                self._on_question(sender, message)
            case Forward():
                self._on_forward(sender, message)
            case Reply() | QueryReply() | NotPrimary():
                if isinstance(message, Reply) and self._forwarding is not None:
                    self._forwarding.replied(sender, message)
                self.session.receive(sender, message, self._now.monotonic)
            case Hello():
                self._foundation.receive(sender, incarnation, message)
            case GetChunk() | Chunk() | NoSnapshot():
                member = sender in self._cluster.configuration.members and sender != self._me
                if not member or not self._snapshots.receive(sender, message, self._now):
                    self.misdirected += 1
            case StatusRequest():
                self._send(sender, StatusReply(message.nonce, encode_status(self.status())))
            case _:
                self.misdirected += 1

    def _on_request(self, source: int, session: int, request: int, mark: int, body: bytes) -> None:
        if self._requests is None:
            self.answers.not_primary(source, 0)
        else:
            self._requests.request(source, session, request, mark, body)

    def _on_question(self, source: int, message: Register | Query) -> None:
        if self._requests is None:
            self.answers.not_primary(source, 0)
        else:
            self._requests.ask(source, message, self._now)

    def _on_forward(self, source: int, message: Forward) -> None:
        if self._forwarding is None:
            self.answers.not_primary(source, 0)
        else:
            self._forwarding.forward(source, message)

    def written(self, write: int, now: Time) -> None:
        """Write number `write` of this replica, and with it every earlier one, is durable."""
        self._now = now
        done = self._writes.written(write)
        if self._core is None:
            self._foundation.written(write)
        elif done:
            self._core.written(done, now)
        self._snapshots.written(write, now)

    def file_done(self, task: FileTask, data: bytes | None, now: Time) -> None:
        """One of a turn's `files` was carried out; `data` is what was read, None if there is no such file."""
        self._now = now
        self._snapshots.file_done(task, data, now)

    def restored(self, snapshot: Snapshot, executor: Executor, now: Time) -> None:
        """A turn's `restore` was loaded into `executor`; passed over if another has taken its place meanwhile."""
        self._now = now
        if self._snapshots.restored(snapshot):
            self._applied.executor = executor
            self._applied.stand_at(snapshot)

    def take_snapshot(self, now: Time) -> None:
        """Take a snapshot as soon as nothing is in the way, without waiting until the log is long enough."""
        self._now = now
        self._snapshots.demand()

    def tick(self, now: Time) -> None:
        """It is now `now`; expected once `deadline` has passed, harmless before."""
        self._now = now
        if self._core is not None:
            self._core.tick(now)
        self.session.tick(now.monotonic, self.endpoint.heard_part_at(self.session.target))

    def resign(self, now: Time) -> None:
        """This member is about to stop on purpose: let another take over at once."""
        self._now = now
        if self._core is not None:
            self._core.resign(now)

    # The turn's end.

    def finish(self, now: Time) -> Turn:
        """Everything this turn asks of its shell.

        What can be done in this turn must not wait for another: in a quiet cluster only a timer brings one about.
        """
        self._now = now
        turn = self._turn
        # 1. Founding before the protocol's part: the first write of a protocol that starts leaves with this turn.
        if self._core is None and (origin := self._foundation.settle(now.monotonic)) is not None:
            self._start(origin)
        # 2. This member's own callers before proposing: one batch with what came by datagram.
        self._home.exchange(now)
        core, requests, writes = self._core, self._requests, self._writes
        if core is not None and requests is not None:
            # 3. Propose before draining: what is ordered leaves with this turn, and its write. And where a view has
            #    ended in it, what is refused must still be in the table of that pipeline, which draining empties.
            requests.propose(now)
            # 4. Drain before what was kept: the answer to a heartbeat promises what is durable already, and leaves
            #    with this turn. And before applying: entries that a snapshot has just replaced are there no more.
            if core.pending or requests.pending or self._snapshots.fetching:
                self._carry_out(core.drain(), core, requests)
            # 5. What was kept before applying: who has it to hand over, or entries that were just ordered, or writes,
            #    executes later, for others wait for that, and nothing leaves before the end of this turn.
            kept = writes.promised and writes.send_kept(self._send)
            # 6. Apply in the turn that commits, or soon: the clients of a primary wait for that. It is not put off for
            #    long (`Applied.gives_way`): beside a disk that takes milliseconds each turn has a write.
            if self._applied.is_behind(self._commit):
                if (kept or writes.issued) and self._applied.gives_way(now.monotonic, leads=requests.leads):
                    turn.more = True
                else:
                    self._apply(core, requests)
            # 7. The own callers again: the replies reach them in this turn. One of them can let a next request go,
            #    which must not sit here until something else happens: `more` proposes it at once.
            turn.more |= self._home.exchange(now) or requests.more_reads
            # 8. Snapshots when this turn has applied all it will: one that falls due by that is begun in this turn.
            self._snapshots.close(now, turn)
        # 9. Handing over at the very end: every step before may have written, answered or said something.
        turn.writes = writes.take_issued()
        turn.completions = self.session.take_completions()
        turn.datagrams = self.endpoint.flush(now.monotonic)
        self._turn = Turn()
        return turn

    def _carry_out(self, effects: Effects, core: Core, requests: Requests) -> None:
        if effects.supersede:
            self._foundation.supersede(effects.supersede)
            return
        message, data, label = None, b"", None
        for send in effects.sends:
            if send.message is not message:  # A broadcast is one object: encode it once.
                message = send.message
                data, label = self._codec.encode(message), message.label
            self.endpoint.send(send.to, data, label)
        if effects.write is not None:
            records = journal_records(effects.write.records, self._codec)
            if (founding := self._foundation.unwritten) is not None:  # It goes with the first state, in one batch.
                records.insert(0, self._foundation.recorded(founding))
            self._writes.issue(tuple(records), effects.write.number)
        self._writes.promise(effects.promises)
        if effects.transitions:
            self._turn.transitions += tuple(effects.transitions)
            self._home.follow(core.standing.primary, self._now)
        self._snapshots.follow(effects, self._writes.last, self._now, self._turn)
        requests.follow_standing()
        self._commit = effects.commit
        requests.reads(effects.reads)
        requests.serve_reads()

    def _apply(self, core: Core, requests: Requests) -> None:
        """Execute what is committed, in order; a long backlog is spread over turns so that heartbeats go on."""
        applied = self._applied
        upto = min(self._commit, applied.executor.applied + _APPLY_LIMIT)
        self._snapshots.applied(applied.advance(core, upto, requests.executed))
        requests.serve_reads()
        self._turn.more |= applied.executor.applied < self._commit

    def _send(self, to: int, message: object) -> None:
        post(self.endpoint, self._codec, to, message)

    # For shells and people.

    @property
    def executor(self) -> Executor:
        """The state machine and its sessions, as far as they have come."""
        return self._applied.executor

    @property
    def deadline(self) -> int:
        """When `tick` is wanted next, in monotonic nanoseconds."""
        protocol = self._core.deadline if self._core is not None else self._foundation.deadline
        return min(self.session.deadline, self.endpoint.deadline, self._snapshots.deadline, protocol)

    @property
    def ready(self) -> bool:
        """Whether this member takes part and knows a primary."""
        return self._core is not None and self._core.standing.primary is not None

    @property
    def leads(self) -> bool:
        """Whether this member is the primary and takes requests."""
        return self._core is not None and self._core.leading >= 0

    def status(self) -> Status:
        """How this member sees itself and the others."""
        standing = self._core.standing if self._core is not None else founding_standing(self._foundation.waiting)
        return make_status(
            self._me,
            self._core_class.name,
            standing,
            applied=self.executor.applied,
            silence_ns={str(member): silent for member, silent in self.silence().items()},
            wall_ns=self._now.wall,
            journal_bytes=self.journal_bytes(),
            digest=self.executor.digest,
            drops=dict(self.endpoint.statistics().drops),
            snapshot=self._snapshots.status,
        )

    def entry(self, op: int) -> Entry:
        """The entry at `op` of this member's log, which must be founded; for observers."""
        return cast("Core", self._core).entry(op)

    def silence(self) -> dict[int, int]:
        """Nanoseconds since each other member was last heard; one never heard is missing."""
        return {member: self._now.monotonic - heard for member, heard in self._heard.items() if member != self._me}

    def statistics(self) -> ReplicaStatistics:
        """Counts since the start of the process."""
        return ReplicaStatistics(
            transport=self.endpoint.statistics(),
            undecodable=self.undecodable,
            misdirected=self.misdirected,
            ignored=dict(self._core.ignored) if self._core is not None else {},
            refused=self._requests.refused if self._requests is not None else 0,
            oversized=self._requests.oversized if self._requests is not None else 0,
            forwarded=self._forwarding.forwarded if self._forwarding is not None else 0,
            writes=self._writes.last,
        )
