"""The protocol-level fuzzer: cores under faults and load, checkers on, then healed and timed.

`run_seed` is one run. Everything is drawn from the seed, so it replays: same seed, same digest, in any process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from viewstamp.protocol import InvariantError, Kind, Proposal
from viewstamp.simulation.checkers import PropertyError
from viewstamp.simulation.core_faults import Faults
from viewstamp.simulation.core_plan import Ailment, Plan, draw_plan
from viewstamp.simulation.core_station import Counts, Station
from viewstamp.simulation.core_world import CoreWorld, Log
from viewstamp.simulation.rules import ProtocolRules, VsrRules

_EVENTS_AT_MOST = 150_000
_CALM = 12  # suspect time-outs in which hardly anybody may be deposed
_BATCH_AT_MOST = 6  # below the smallest pipeline: a member takes all of a batch or nothing
_FLOOD_AT_MOST = 400
_REQUESTS_AT_MOST = 80  # of one client while faults last


class FuzzError(Exception):
    """A run violated `name`, a property of the checkers, "liveness" or "invariant"; `seed` replays it."""

    def __init__(self, seed: int, name: str, explanation: str) -> None:
        super().__init__(f"seed {seed}: {explanation}")
        self.seed = seed
        self.name = name


@dataclass(frozen=True, slots=True)
class FuzzResult:
    """A run that held everything."""

    seed: int
    digest: str
    members: int
    committed: int
    views: int
    simulated_ns: int
    counts: Counts


@dataclass(slots=True)
class _Client:
    """A client with several requests in flight; tries again elsewhere until it is told."""

    session: int
    target: int
    next_request: int = 1
    sent_at: dict[int, int] = field(default_factory=dict)


class CoreFuzz:
    """One run. A plan can be given in place of the one that the seed draws."""

    def __init__(
        self, seed: int, rules: ProtocolRules | None = None, plan: Plan | None = None, log: Log | None = None
    ) -> None:
        random = Random(seed)
        drawn = draw_plan(random)
        self.plan = plan if plan is not None else drawn
        self.world = CoreWorld(seed, self.plan, rules if rules is not None else VsrRules(), random, log)
        self._faults = Faults(self.world)
        self._fresh_until = -1
        self._reads = 0
        self._flooded = 0
        members = self.plan.configuration.members
        self._clients = [
            _Client(session, members[self.world.up_to(len(members))]) for session in range(1, self.plan.clients + 1)
        ]
        self.world.on_answer = self._answered
        self.world.on_resume = self._read
        self.world.on_flood = self._flood

    def run(self) -> FuzzResult:
        """Raises FuzzError if anything is violated."""
        world = self.world
        try:
            self._run()
        except PropertyError as error:
            raise FuzzError(world.seed, error.name, str(error)) from error
        except InvariantError as error:
            raise FuzzError(world.seed, "invariant", f"invariant: {error}") from error
        return FuzzResult(
            seed=world.seed,
            digest=world.digest(),
            members=len(world.stations),
            committed=len(world.checkers.history.committed),
            views=world.checkers.views,
            simulated_ns=world.now,
            counts=world.counts,
        )

    def _run(self) -> None:
        world, plan = self.world, self.plan
        for member in world.stations:
            world.after(world.up_to(plan.configuration.timeouts.suspect), world.start, member)
        for client in self._clients:
            world.after(world.up_to(plan.think), self._act, client.session)
        self._faults.begin()
        self._run_until(plan.fault_phase)
        if plan.ailments and plan.late_ailments:
            self._faults.heal()
            self._healed(self._unsettled)
        ailing = self._faults.heal_most(self._part())
        if ailing:
            self._healed(self._unanswered)
            self._watch_calm(ailing)
            self._faults.heal()
        self._healed(self._unsettled)
        world.checkers.finish()

    def _part(self) -> tuple[int, ...]:
        """Depose the primary at last, if the plan wants it: that one, and its successor, which must settle it."""
        world, suspect = self.world, self.plan.configuration.timeouts.suspect
        if not self.plan.parting_depose or not world.faulty:
            return ()
        view, primary = self._faults.begin_parting()
        until = world.now + 4 * suspect
        while world.now < until:
            self._run_until(world.now + suspect // 32)
            successor = self._faults.end_parting(view)
            if successor:
                return primary, successor
        return ()

    def _healed(self, missing: Callable[[], str]) -> None:
        """Faults have ended: more requests come for a while, and in time nothing may be missing."""
        world, suspect = self.world, self.plan.configuration.timeouts.suspect
        self._fresh_until = world.now + suspect
        healed, look_at = world.now, world.now + suspect + suspect // 2
        self._run_until(look_at)
        while missing():
            look_at += suspect // 2
            if look_at > healed + self.plan.patience:
                raise PropertyError("liveness", f"20 suspect time-outs after the last fault: {missing()}")
            self._run_until(look_at)

    def _watch_calm(self, ailing: dict[int, Ailment]) -> None:
        """All others are healed and serve: those few that are not must not depose primary after primary.

        One is let pass: messages that were long on their way can do that. And an ailing primary must go.
        """
        checkers, suspect = self.world.checkers, self.plan.configuration.timeouts.suspect
        self._run_until(self.world.now + 2 * suspect)
        since = checkers.newest_view + 1
        self._run_until(self.world.now + _CALM * suspect)
        deposed = [member for member in checkers.deposed(since) if member not in ailing]
        if len(deposed) > 1:
            ails = [f"member {member} ({ailment})" for member, ailment in ailing.items()]
            raise PropertyError(
                "liveness",
                f"primaries {deposed} deposed within {_CALM} suspect time-outs, though no more ails than: "
                f"{', '.join(ails)}; {self._standings()}",
            )

    def _run_until(self, when: int) -> None:
        world = self.world
        while world.now < when:
            if world.counts.events > _EVENTS_AT_MOST:
                raise PropertyError("liveness", f"{_EVENTS_AT_MOST} events and no end: {self._unsettled()}")
            if not world.step():
                raise PropertyError("liveness", "no member wants to be woken any more")

    # Clients.

    def _act(self, session: int) -> None:
        """A client's turn: new requests, and those that were not answered, to the member it believes in."""
        world, client = self.world, self._clients[session - 1]
        rests = not world.faulty and not client.sent_at and world.now >= self._fresh_until
        think = 8 * self.plan.think if rests else self.plan.think
        world.after(think // 4 + world.up_to(think), self._act, session)
        if any(sent_at >= 0 and world.now - sent_at > self.plan.retry for sent_at in client.sent_at.values()):
            client.target = self._elsewhere(client.target)
        if self._wants_more(client):
            for _ in range(1 + world.up_to(3)):
                client.sent_at[client.next_request] = -self.plan.retry - 1
                client.next_request += 1
        due = [r for r, sent_at in client.sent_at.items() if world.now - sent_at > self.plan.retry]
        if due and not self._submit(client, due):
            self._submit(client, due)
        if not world.no_reads and world.chance(self.plan.read_chance if world.faulty else self.plan.read_chance // 8):
            self._read(self._elsewhere(0))

    def _wants_more(self, client: _Client) -> bool:
        """While faults last, so many at most that a member that missed all can fetch it in time; some when healed."""
        if len(client.sent_at) >= self.plan.outstanding or self.world.no_requests:
            return False
        if self._fresh_until < 0:
            return client.next_request <= _REQUESTS_AT_MOST
        return self.world.now < self._fresh_until

    def _submit(self, client: _Client, requests: list[int]) -> bool:
        """False when this member does not take them; the client then believes in another."""
        world = self.world
        station = world.stations[client.target]
        core = station.node.core
        if core is None or station.paused_until > world.now:
            client.target = self._elsewhere(client.target)
            return False
        for request in requests:
            if request in client.sent_at and (client.session, request) in station.table:
                world.tell((client.session, request), station.table[client.session, request])
        standing = core.standing
        fresh = [
            request
            for request in requests
            if request in client.sent_at and station.waiting.get((client.session, request)) != standing.view
        ][:_BATCH_AT_MOST]
        if not fresh:
            return True
        proposals = [
            Proposal(Kind.COMMAND, client.session, request, 0, b"%d.%d" % (client.session, request), request)
            for request in fresh
        ]
        if core.propose(proposals, world.clock(station)):
            for request in fresh:
                client.sent_at[request] = world.now
                station.waiting[client.session, request] = standing.view
            world.turn(station)
            return True
        hint = standing.primary
        client.target = hint if hint is not None and hint != client.target else self._elsewhere(client.target)
        return False

    def _elsewhere(self, member: int) -> int:
        members = [other for other in self.world.stations if other != member] or [member]
        return members[self.world.up_to(len(members))]

    def _answered(self, session: int, request: int) -> None:
        self._clients[session - 1].sent_at.pop(request, None)

    def _read(self, member: int) -> None:
        """A read at any member, the deposed and the cut off included."""
        world = self.world
        station = world.stations[member]
        node = station.node
        if node.core is not None and station.paused_until <= world.now:
            self._reads += 1
            world.counts.reads += 1
            world.checkers.read_asked(node.member, node.life, self._reads)
            node.core.read(self._reads, world.clock(station))
            world.turn(station)

    def _flood(self, member: int, at_most: int) -> None:
        """A client that crashes right away has this member order so much at most; nobody waits for it."""
        world = self.world
        station = world.stations[member]
        if station.node.core is None or station.paused_until > world.now or self._flooded > _FLOOD_AT_MOST:
            return
        session, first = len(self._clients) + 1, self._flooded + 1
        proposals = [
            Proposal(Kind.COMMAND, session, request, 0, b"%d.%d" % (session, request), request)
            for request in range(first, first + 1 + world.up_to(min(at_most, _BATCH_AT_MOST)))
        ]
        if station.node.core.propose(proposals, world.clock(station)):
            self._flooded += len(proposals)
            world.turn(station)

    # The end.

    def _unanswered(self) -> str:
        """Which requests have no answer, or an empty string."""
        open_requests = {client.session: sorted(client.sent_at) for client in self._clients if client.sent_at}
        return f"requests of clients are not answered: {open_requests}; {self._standings()}" if open_requests else ""

    def _unsettled(self) -> str:
        """Why the cluster is not at rest and alike, or an empty string."""
        unanswered = self._unanswered()
        if unanswered:
            return unanswered
        seen = set()
        for station in self.world.stations.values():
            core = station.node.core
            standing = core.standing if core is not None else None
            if standing is None or standing.waiting or standing.primary is None or standing.op != standing.commit:
                return f"member {station.node.member} is not at rest; {self._standings()}"
            seen.add((standing.view, standing.primary, standing.op))
        return "" if len(seen) == 1 else f"members differ; {self._standings()}"

    def _standings(self) -> str:
        return "; ".join(f"{number}: {_standing(station)}" for number, station in self.world.stations.items())


def _standing(station: Station) -> str:
    core = station.node.core
    if core is None:
        return "down"
    s = core.standing
    return f"{s.role} {s.status} view {s.view} op {s.op} commit {s.commit} {s.waiting}".strip()


def run_seed(seed: int, rules: ProtocolRules | None = None, log: Log | None = None) -> FuzzResult:
    """One run of what this seed draws. Raises FuzzError if anything is violated."""
    return CoreFuzz(seed, rules, log=log).run()
