"""Clients' requests and reads at one member: what is new, what is a duplicate, and who waits for which answer.

Duplicates that are committed are answered from the session table; those not yet committed are caught here, in the
pipeline. The table itself changes at commit only, so a request whose entry a view change drops is new again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from viewstamp.cluster import Cluster
from viewstamp.protocol import Core, Entry, Kind, Proposal, ReadFailed, ReadReady, Time
from viewstamp.replica.answers import Answers
from viewstamp.replica.applied import LONG_NS, Applied
from viewstamp.wire import Query, Register

_PROPOSAL_BATCH = 1024
_WAITING_AT_MOST = 16 * 1024
_WAITING_TOO_AT_MOST = 8
_READS_AT_MOST = 64 * 1024


@dataclass(slots=True)
class _Read:
    source: int
    number: int
    body: bytes


class Requests:
    """Requests under way at one member.

    What a primary has no room for waits there, in the order in which it came: were it left to the clients to ask again,
    luck would decide, and some would wait for seconds while others are served again and again. No more waits than
    `pipeline_bytes` of commands, and 16,384 of them; whoever comes then does have to ask again.
    """

    def __init__(
        self,
        core: Core,
        applied: Applied,
        answers: Answers,
        random: Random,
        cluster: Cluster,
    ) -> None:
        self._core = core
        self._applied = applied
        self._answers = answers
        self._random = random
        self._maximum_body_bytes = cluster.max_command_bytes
        self._waiting_bytes_at_most = cluster.limits.pipeline_bytes
        self._leading = -1  # the view this table belongs to while this member leads
        self._in_flight: dict[tuple[int, int], int] = {}  # (session, request) -> source that waits, 0 for nobody
        self._waiting_too: dict[tuple[int, int], list[int]] = {}  # the sources before that one, where it was another
        self._proposals: list[Proposal] = []
        self._waiting = 0  # so many of them, the first, found no room in an earlier turn
        self._waiting_bytes = 0
        self._reads: dict[int, _Read] = {}
        self._asked: dict[tuple[int, int], int] = {}
        self._read_number = 0
        self._served: list[tuple[int, _Read]] = []
        self._redirected: set[int] = set()
        self.more_reads = False
        """Whether there are reads that could have been served, but for all those that were."""
        self.refused = 0
        self.oversized = 0

    def ask(self, source: int, message: Register | Query, now: Time) -> None:
        """A client, or this member's own session, wants a session or a read."""
        if isinstance(message, Register):
            self.register(source, message)
        else:
            self.query(source, message, now)

    def register(self, source: int, message: Register) -> None:
        """A client wants a session; registering twice leaves an unused one behind, which harms nobody."""
        self._order(source, (0, message.nonce), Kind.REGISTER, 0, b"")

    def request(self, source: int, session: int, request: int, mark: int, body: bytes) -> None:
        """A client, or this member's own session, wants a command executed once: a `Request`, by its fields."""
        if not self.fits(body) or not session:
            return
        reply = self._applied.executor.answer(session, request, mark)
        if reply is None:
            self._order(source, (session, request), Kind.COMMAND, mark, body)
            return
        viewstamp = self._applied.viewstamp
        self._answers.reply(source, session, request, viewstamp.view, viewstamp.op, reply)

    def fits(self, body: bytes) -> bool:
        """Whether it is no longer than a command may be; longer ones are not answered: our clients check it."""
        if len(body) > self._maximum_body_bytes:
            self.oversized += 1
            return False
        return True

    def _order(self, source: int, key: tuple[int, int], kind: Kind, mark: int, body: bytes) -> None:
        if self._leading < 0:
            self.redirect(source)
            return
        before = self._in_flight.get(key)
        if before is None:
            self._proposals.append(Proposal(kind, key[0], key[1], mark, body, self._random.getrandbits(64)))
        elif before not in (0, source):
            # A client that has waited for long had another member forward it. It must hear from this one, too, or it
            # would take who is slow for cut off, and have everything forwarded while there is too much to do already.
            others = self._waiting_too.setdefault(key, [])
            if before not in others and len(others) < _WAITING_TOO_AT_MOST:
                others.append(before)
        self._in_flight[key] = source

    def redirect(self, source: int) -> None:
        """Tell a client, once a turn, whom to ask."""
        if source not in self._redirected:
            self._redirected.add(source)
            self._answers.not_primary(source, self._core.standing.primary or 0)

    def query(self, source: int, message: Query, now: Time) -> None:
        """A linearizable read. Asked again while it is under way: one answer serves."""
        if not self.fits(message.body):
            return
        key = (source, message.number)
        if key in self._asked:
            return
        if len(self._asked) >= _READS_AT_MOST:
            self.refused += 1  # Its client asks again.
            return
        self._read_number += 1
        self._asked[key] = self._read_number
        self._reads[self._read_number] = _Read(source, message.number, message.body)
        self._core.read(self._read_number, now)

    def propose(self, now: Time) -> None:
        """Hand what waits, and this turn's new requests, to the protocol, as far as it has room for them.

        It takes a batch whole or not at all. More in one turn than there is ever room for is to get in all the same.
        What waited goes one by one: a batch of large ones could fill the pipeline far beyond its bounds.
        """
        if not self._proposals:
            return
        proposals = self._proposals
        start, size = 0, 1 if self._waiting else _PROPOSAL_BATCH
        while start < len(proposals) and size:
            batch = proposals[start : start + size]
            if self._core.propose(batch, now):
                start += len(batch)
            else:
                size = len(batch) // 2
        if start < len(proposals) or self._waiting:
            self._let_wait(start)
        else:
            self._proposals = []

    def _let_wait(self, taken: int) -> None:
        """The first proposals were taken. The others wait, or are refused where that is beyond the bounds."""
        proposals = self._proposals
        self._waiting_bytes -= sum([len(proposal.body) for proposal in proposals[: min(taken, self._waiting)]])
        self._waiting = max(0, self._waiting - taken)
        del proposals[:taken]
        while self._waiting < min(len(proposals), _WAITING_AT_MOST):
            waiting_bytes = self._waiting_bytes + len(proposals[self._waiting].body)
            if waiting_bytes > self._waiting_bytes_at_most:
                break
            self._waiting += 1
            self._waiting_bytes = waiting_bytes
        for proposal in proposals[self._waiting :]:
            self.refused += 1
            self._in_flight.pop((proposal.session, proposal.request), None)
            self._waiting_too.pop((proposal.session, proposal.request), None)
        del proposals[self._waiting :]

    def follow_standing(self) -> None:
        """Who leads may have changed in this turn: the pipeline belongs to one view of one primary."""
        if self._redirected:
            self._redirected.clear()
        leading = self._core.leading
        if leading == self._leading:
            return
        self._leading = leading
        self._in_flight = {}
        self._waiting_too = {}
        self._proposals = []
        self._waiting = self._waiting_bytes = 0
        if leading >= 0:
            standing = self._core.standing
            # While a snapshot is loaded what it holds is not applied yet; duplicates of that the table finds, later.
            for op in range(max(self._applied.executor.applied, standing.base) + 1, standing.op + 1):
                entry = self._core.entry(op)
                if entry.kind in (Kind.COMMAND, Kind.REGISTER):
                    self._in_flight[entry.session, entry.request] = 0

    def executed(self, entries: Sequence[Entry], replies: Sequence[bytes]) -> None:
        """Entries were applied: whoever waits for one of them here is answered."""
        waiting, waiting_too = self._in_flight, self._waiting_too
        if not waiting:
            return
        answer = self._answers.reply
        for (op, view, _, session, request, _, _, _, _, _, _), reply in zip(entries, replies, strict=True):
            source = waiting.pop((session, request), 0)
            if source:
                answer(source, session, request, view, op, reply)
            if waiting_too:
                for other in waiting_too.pop((session, request), ()):
                    if other != source:
                        answer(other, session, request, view, op, reply)

    def reads(self, decided: list[ReadReady | ReadFailed]) -> None:
        """The protocol confirmed reads, or could not."""
        if not decided:
            return
        for decision in decided:
            read = self._reads.pop(decision.read)
            if isinstance(decision, ReadReady):
                self._served.append((decision.op, read))
            else:
                del self._asked[read.source, read.number]
                self.redirect(read.source)

    def serve_reads(self) -> None:
        """Serve what the state machine has reached, as much as is good for a turn.

        One round confirms all reads that came before it. Ten thousand, or a hundred that take long, served in one go,
        would keep the heartbeats back until their primary is given up.
        """
        self.more_reads = False
        if not self._served:
            return
        executor, viewstamp, measure = self._applied.executor, self._applied.viewstamp, self._applied.measure
        applied = executor.applied
        waiting: list[tuple[int, _Read]] = []
        until = measure() + LONG_NS
        for position, (op, read) in enumerate(self._served):
            if op > applied:
                waiting.append((op, read))
                continue
            if measure() >= until:
                waiting += self._served[position:]
                self.more_reads = True
                break
            del self._asked[read.source, read.number]
            outcome = executor.query(read.body)
            self._answers.query_reply(read.source, read.number, viewstamp.view, viewstamp.op, outcome)
        self._served = waiting

    @property
    def pending(self) -> bool:
        """Whether a confirmed read waits for the state machine, or somebody was redirected in this turn."""
        return bool(self._served or self._redirected)

    @property
    def leads(self) -> bool:
        """Whether this member leads, and so has whom to answer."""
        return self._leading >= 0

    @property
    def in_flight(self) -> int:
        """Requests ordered here and not yet applied."""
        return len(self._in_flight)
