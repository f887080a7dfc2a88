"""The world of a scenario: members, a network of single messages, and checkers that look from outside."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from viewstamp.protocol import (
    NEVER,
    Configuration,
    Core,
    Effects,
    Entry,
    Kind,
    Limits,
    Message,
    Proposal,
    ReadFailed,
    ReadReady,
    RefusesLostDiskError,
    Snapshot,
    Time,
)
from viewstamp.simulation.scenario_member import ScenarioMember
from viewstamp.simulation.scenario_snapshots import SnapshotTransfers
from viewstamp.simulation.scenario_text import (
    Names,
    entry_name,
    kind_of,
    log_words,
    message_line,
    transition_line,
)

_EPOCH = 1_700_000_000_000_000_000
_MOST_TICKS = 10_000


class OutsideError(Exception):
    """The cluster broke a promise that a client can see; the checkers share no code with the protocol."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A message under way."""

    source: int
    incarnation: int
    to: int
    message: Message


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are meant: from one member (0: any) to one (0: any), of one kind (empty: any)."""

    source: int = 0
    to: int = 0
    kind: str = ""

    def matches(self, flight: Flight) -> bool:
        """Whether this message is meant."""
        return (
            self.source in (0, flight.source)
            and self.to in (0, flight.to)
            and self.kind in ("", kind_of(flight.message))
        )


@dataclass(slots=True)
class Request:
    """A client's request: where it was proposed, in which life of that member, and at which op; 0 if refused."""

    member: int
    life: int
    op: int
    acknowledged: bool = False


@dataclass(slots=True)
class Read:
    """A client's read: `least` is the highest op acknowledged when it was asked, which it must see."""

    member: int
    number: int
    least: int
    answer: ReadReady | ReadFailed | None = None


class ScenarioWorld:
    """Members and messages, step by step. What happens is told to `say`, one line each."""

    def __init__(self, protocol: type[Core], size: int, limits: Limits, say: Callable[[str], None]) -> None:
        self.configuration = Configuration(tuple(range(1, size + 1)), limits=limits)
        self.now = Time(0, _EPOCH)
        self.requests: dict[str, Request] = {}
        self.reads: dict[str, Read] = {}
        self.queue: deque[Flight] = deque()
        self.held: list[Flight] = []
        self.history: list[Flight] = []
        self.cuts: set[tuple[int, int]] = set()
        self.holds: list[Filter] = []
        self.quiet = False
        self._say = say
        self._names = Names()
        self._unsaid = 0
        self.agreed: dict[int, Entry] = {}
        self._committed = dict.fromkeys(self.configuration.members, 0)
        self.members = {
            member: ScenarioMember(protocol, self.configuration, member, self._sent, self._observe)
            for member in self.configuration.members
        }
        self._snapshots = SnapshotTransfers(self.members, self._reach, say)
        for member in self.members.values():
            member.start(self.now)

    # Messages.

    def _sent(self, source: int, incarnation: int, to: int, message: Message) -> None:
        flight = Flight(source, incarnation, to, message)
        self.history.append(flight)
        self.queue.append(flight)

    def deliver(self, wanted: Filter | None = None) -> None:
        """Deliver what is under way, and what comes of it, in order; only messages that are `wanted`, if given.

        Without a filter, snapshots that members need come too, after all messages.
        """
        while True:
            flight = next((f for f in self.queue if wanted is None or wanted.matches(f)), None)
            if flight is not None:
                self.queue.remove(flight)
                self._arrive(flight)
            elif wanted is not None or not self._snapshots.come(self.now):
                return

    def _reach(self, one: int, other: int) -> bool:
        up = self.members[one].core is not None and self.members[other].core is not None
        return up and (one, other) not in self.cuts and (other, one) not in self.cuts

    def _arrive(self, flight: Flight) -> None:
        if any(hold.matches(flight) for hold in self.holds):
            self.held.append(flight)
            self._say_message(flight, "~>", " (held)")
        elif (flight.source, flight.to) in self.cuts:
            self._say_message(flight, "-x", " (dropped)")
        elif self.members[flight.to].core is None:
            self._say_message(flight, "-x", " (down)")
        else:
            self._say_message(flight, "->", "")
            message = flight.message
            self._act(flight.to, lambda core: core.receive(flight.source, flight.incarnation, message, self.now))

    def release(self, wanted: Filter | None) -> None:
        """Stop holding, and send on what was held; only what is `wanted`, if given."""
        self.holds = [] if wanted is None else [hold for hold in self.holds if hold != wanted]
        free = [flight for flight in self.held if wanted is None or wanted.matches(flight)]
        self.held = [flight for flight in self.held if wanted is not None and not wanted.matches(flight)]
        self.queue.extend(free)

    def replay(self, wanted: Filter) -> int:
        """Send copies of every such message that was ever sent, as a network may; returns how many."""
        copies = [flight for flight in self.history if wanted.matches(flight)]
        self.queue.extend(copies)
        return len(copies)

    def _say_message(self, flight: Flight, arrow: str, remark: str) -> None:
        if self.quiet:
            self._unsaid += 1
        else:
            self._say(f"{flight.source} {arrow} {flight.to} {message_line(flight.message, self._names)}{remark}")

    def take_unsaid(self) -> int:
        """How many messages have not been said since the last look."""
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid

    # Time.

    def tick(self, duration_ns: int, members: Iterable[int], *, delivering: bool) -> None:
        """Let time pass, waking each of these members at its deadlines; deliver messages meanwhile if asked to."""
        awake = tuple(members)
        end = self.now.monotonic + duration_ns
        for _ in range(_MOST_TICKS):
            deadline, member = min((self._deadline(member), member) for member in awake)
            if deadline > end:
                self._advance(end)
                return
            self._advance(max(deadline, self.now.monotonic))
            self._act(member, lambda core: core.tick(self.now))
            if delivering:
                self.deliver()
        raise OutsideError(f"members want to be woken more than {_MOST_TICKS} times: a deadline does not move on")

    def _deadline(self, member: int) -> int:
        core = self.members[member].core
        return NEVER if core is None else core.deadline

    def _advance(self, monotonic: int) -> None:
        self.now = Time(monotonic, _EPOCH + monotonic)

    # Members.

    def _act(self, member: int, event: Callable[[Core], object]) -> None:
        self.members[member].act(event, self.now)

    def start(self, member: int) -> None:
        """Start a member again on what its disk holds."""
        snapshot = self.members[member].snapshot
        self._committed[member] = snapshot.op if snapshot is not None else 0
        try:
            self.members[member].start(self.now)
        except RefusesLostDiskError as refusal:
            self._say(f"{member} refuses to start: {refusal}")

    def crash(self, member: int, keeping: int) -> int:
        """End a member's process; returns how many of its writes were lost."""
        self._snapshots.ended(member, blank=False)
        return self.members[member].crash(keeping)

    def lose_disk(self, member: int) -> None:
        """End a member's process, and blank its disk."""
        self._snapshots.ended(member, blank=True)
        self.members[member].lose_disk()

    def release_disk(self, member: int) -> None:
        """Let a member's disk complete its writes."""
        self.members[member].release_disk(self.now)

    def resign(self, member: int) -> None:
        """A member is asked to stop."""
        self._act(member, lambda core: core.resign(self.now))

    # Snapshots.

    def snapshot(self, member: int, keep: int) -> bool:
        """A member takes a snapshot at its commit, and keeps so many entries before it; False if it cannot now."""
        taker = self.members[member]
        op = self._committed[member]
        if taker.core is None or taker.pending or op <= self.snapshot_op(member):
            return False
        self._snapshots.take(member, op, keep, self.agreed, self.now)
        return True

    def snapshot_op(self, member: int) -> int:
        """The op up to which the snapshot on a member's disk reaches; 0 for none."""
        snapshot = self.members[member].snapshot
        return snapshot.op if snapshot is not None else 0

    def hold_snapshots(self, member: int) -> None:
        """Those that this member needs do not come."""
        self._snapshots.held.add(member)

    def release_snapshots(self, member: int) -> None:
        """From the next delivery on they come again."""
        self._snapshots.held.discard(member)

    def lose_snapshot(self, member: int) -> bool:
        """What this member needs cannot be had from its source; False if it needs none."""
        return self._snapshots.fail(member, self.now)

    # Clients.

    def request(self, member: int, names: list[str]) -> None:
        """Propose requests with these names, in one turn."""
        proposals = [
            Proposal(Kind.COMMAND, 1, number, 0, name.encode(), 0)
            for number, name in enumerate(names, len(self.requests) + 1)
        ]
        life = self.members[member].life
        ops: list[int] = []

        def propose(core: Core) -> None:
            ops.append(core.propose(proposals, self.now))
            for offset, name in enumerate(names):
                self.requests[name] = Request(member, life, ops[0] + offset if ops[0] else 0)

        self._act(member, propose)
        if not ops or not ops[0]:
            self._say(f"{member} refuses {' '.join(names)}")

    def read(self, member: int, name: str) -> None:
        """Ask a member for a linearizable read."""
        number = len(self.reads) + 1
        acknowledged = [request.op for request in self.requests.values() if request.acknowledged]
        self.reads[name] = Read(member, number, max(acknowledged, default=0))
        self._act(member, lambda core: core.read(number, self.now))

    # Looking from outside.

    def _observe(self, member: int, effects: Effects) -> None:
        for transition in effects.transitions:
            self._say(transition_line(member, transition))
        core = self.members[member].core
        if core is None:
            return
        self._snapshots.observe(member, effects)
        if effects.restore is not None:
            self._restored(member, effects.restore)
        first = self._committed[member] + 1
        if effects.commit >= first:
            self._committed[member] = effects.commit
            committed = [core.entry(op) for op in range(first, effects.commit + 1)]
            self._say(f"{member} commits [{log_words(committed)}]")
            for entry in committed:
                if self.agreed.setdefault(entry.op, entry).encoded != entry.encoded:
                    raise OutsideError(f"member {member} commits {entry_name(entry)} at op {entry.op}, another did not")
            self._acknowledge(member, effects.commit)
        for answer in effects.reads:
            self._answer(answer)

    def _restored(self, member: int, snapshot: Snapshot) -> None:
        """What a snapshot holds is not applied one by one: clients that wait here for a part of it learn nothing."""
        self._committed[member] = snapshot.op
        life = self.members[member].life
        for name, request in self.requests.items():
            waits = not request.acknowledged and (request.member, request.life) == (member, life)
            if waits and 0 < request.op <= snapshot.op:
                request.op = 0
                self._say(f"the outcome of {name} is not known at {member}")

    def _acknowledge(self, member: int, commit: int) -> None:
        life = self.members[member].life
        for name, request in self.requests.items():
            if request.acknowledged or (request.member, request.life) != (member, life):
                continue
            if 0 < request.op <= commit and entry_name(self.agreed[request.op]) == name:
                request.acknowledged = True
                self._say(f"{name} is acknowledged")

    def _answer(self, answer: ReadReady | ReadFailed) -> None:
        name, read = next((name, read) for name, read in self.reads.items() if read.number == answer.read)
        if read.answer is not None:
            raise OutsideError(f"read {name} is answered twice")
        read.answer = answer
        if isinstance(answer, ReadFailed):
            self._say(f"{name} fails: {answer.reason}")
        elif answer.op < read.least:
            raise OutsideError(f"read {name} is served from op {answer.op}; op {read.least} was acknowledged before it")
        else:
            self._say(f"{name} is served from op {answer.op}")
