"""Protocol cores in a world of messages, disks and time: one heap of events, everything drawn from one seed."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable
from hashlib import blake2b
from random import Random

from viewstamp.protocol import Kind, Message, Promise, Time
from viewstamp.simulation.checkers import Checkers
from viewstamp.simulation.core_links import Links
from viewstamp.simulation.core_plan import Plan
from viewstamp.simulation.core_snapshots import Snapshots
from viewstamp.simulation.core_station import Counts, Station
from viewstamp.simulation.member import SimulatedMember
from viewstamp.simulation.rules import ProtocolRules

_EPOCH = 1_700_000_000_000_000_000
_ARCHIVE = 256
_DIGEST_BATCH = 4096
Log = Callable[[str], None]


class CoreWorld:
    """Members, the network between them, their disks and their clocks."""

    def __init__(self, seed: int, plan: Plan, rules: ProtocolRules, random: Random, log: Log | None = None) -> None:
        self.seed = seed
        self.plan = plan
        self.random = random
        self.now = 0
        self.counts = Counts()
        self.configuration = plan.configuration
        self.checkers = Checkers(plan.configuration, rules)
        self.cuts: dict[tuple[int, int], int] = {}
        self.recovers_lost_disk = rules.core.recovers_lost_disk
        self.faulty = True
        self.kept_down: frozenset[int] = frozenset()
        self.on_answer: Callable[[int, int], None] = lambda session, request: None
        self.on_resume: Callable[[int], None] = lambda member: None
        self.on_doom: Callable[[int], None] = lambda member: None
        self.on_flood: Callable[[int, int], None] = lambda member, at_most: None
        self.on_change: Callable[[int, bool], None] = lambda member, leads: None
        self.no_reads = False
        self.no_requests = False
        self.echo_chance = plan.echo_chance
        self._log = log
        self._bits = random.getrandbits
        self._heap: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        self._promises_seen = 0
        self._archive: list[tuple[int, int, int, Message]] = []
        self._trace = array("q")
        self._hash = blake2b(digest_size=16)
        members = plan.configuration.members
        founding = tuple(1000 + random.randrange(1 << 20) for _ in members)
        self.stations = {
            member: Station(
                SimulatedMember(
                    rules.core, plan.configuration, member, founding, Random(random.getrandbits(64)), self.checkers
                ),
                wall_skew=random.randrange(-(10**9), 10**9),
            )
            for member in members
        }
        self.checkers.members = {member: station.node for member, station in self.stations.items()}
        for station in self.stations.values():
            station.node.margin = plan.snapshot_margin
        self.snapshots = Snapshots(self)
        self.links = Links(self)

    # Time and chance.

    def at(self, when: int, action: Callable[..., None], *arguments: object) -> None:
        """Do this at a time in nanoseconds."""
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, action, arguments))

    def after(self, delay: int, action: Callable[..., None], *arguments: object) -> None:
        """Do this so many nanoseconds from now."""
        self.at(self.now + delay, action, *arguments)

    def up_to(self, bound: int) -> int:
        """A number from 0 to below `bound`; integers alone, so that it is the same everywhere."""
        return (self._bits(24) * bound) >> 24

    def chance(self, per_mille: int) -> bool:
        """True so many times in 1,024."""
        return per_mille > 0 and self._bits(10) < per_mille

    def step(self) -> bool:
        """Carry out the next event; False when there is none."""
        if not self._heap:
            return False
        self.now, _, action, arguments = heapq.heappop(self._heap)
        self.counts.events += 1
        if self._log is not None:
            self._log(f"{self.now / 1e6:10.3f} ms  {action.__name__.strip('_')} {arguments}")
        action(*arguments)
        return True

    def note(self, *numbers: int) -> None:
        """These belong to the trace."""
        self._trace.extend(numbers)
        if len(self._trace) > _DIGEST_BATCH:
            self._hash.update(self._trace.tobytes())
            self._trace = array("q")

    def digest(self) -> str:
        """A digest of all that happened, and of the history that came of it."""
        self._hash.update(self._trace.tobytes())
        self._trace = array("q")
        digest = self._hash.copy()
        for entry in self.checkers.history.committed:
            digest.update(entry.encoded)
        return digest.hexdigest()

    def clock(self, station: Station) -> Time:
        """The time as a member sees it."""
        return Time(self.now, _EPOCH + self.now + station.wall_skew)

    # Lives.

    def start(self, member: int) -> None:
        """Start a member that is down."""
        station = self.stations[member]
        if station.node.core is None:
            self.counts.restarts += station.node.life > 0
            self.counts.starts_behind_snapshot += station.node.disk.snapshot is not None
            station.node.start(self.clock(station))
            self.turned(station)

    def crash(self, member: int, surviving: int) -> None:
        """Stop a member; some of its writes under way reach the disk."""
        node = self.stations[member].node
        if node.core is not None:
            self.counts.crashes += 1
            node.crash(surviving)
            self._remember_reign(self.stations[member])
            if self._log is not None:
                self._log(f"    member {member} crashes; {surviving} writes under way survive")
            self.after(self.up_to(self.plan.restart_after), self.restart, member)

    def restart(self, member: int) -> None:
        """Start a member that crashed, unless it is to stay down."""
        if member not in self.kept_down:
            self.start(member)

    def pause(self, member: int, until: int) -> None:
        """The process stands still; what it did not notice has happened when it goes on."""
        self.stations[member].paused_until = until
        self.at(until, self.resume, member)

    def resume(self, member: int) -> None:
        """A pause is over, unless there is another: a read comes first, then what had come meanwhile."""
        station = self.stations[member]
        if station.paused_until > self.now:
            return
        self.on_resume(member)
        held, station.held = station.held, []
        for sender, incarnation, message in held:
            self.after(1, self.deliver, member, sender, incarnation, message)

    def crash_somehow(self, member: int) -> None:
        """Crash, with any prefix of the writes under way: mostly none or all. Not once the faults have ended."""
        pending = len(self.stations[member].node.queue)
        if self.faulty:
            self.crash(member, (0, 0, pending, self.up_to(pending + 1))[self._bits(2)])

    # Messages.

    def post(self, sender: int, incarnation: int, to: int, message: Message) -> None:
        """A message leaves."""
        bits, plan = self._bits, self.plan
        if len(self._archive) < _ARCHIVE:
            self._archive.append((to, sender, incarnation, message))
        elif bits(3) == 0:
            self._archive[bits(8)] = (to, sender, incarnation, message)
        station = self.stations[to]
        station.latest.append((sender, incarnation, message))
        seldom = self.links.is_seldom(message)
        if seldom:
            (station.seldom if isinstance(message, Promise) else station.rare).append((sender, incarnation, message))
        if self.cuts and self.cuts.get((sender, to), 0) > self.now:
            self.counts.lost_messages += 1
            return
        if self.faulty:
            if self.chance(plan.loss_chance) and (sender, to) not in self.links.heavy:
                self.counts.lost_messages += 1
                return
            if self.chance(plan.duplicate_chance):
                # A moment later, or after views have come and gone.
                late = plan.tail >> (3 * self.up_to(4))
                self.after(self.up_to(late), self.deliver, to, sender, incarnation, message)
            if sender in self.links.twice:
                self.after(1 + self.up_to(plan.delay), self.deliver, to, sender, incarnation, message)
            late = self.links.late(sender, to, message, seldom)
            if late:
                self.after(late, self.deliver, to, sender, incarnation, message)
                return
        self.after(plan.delay // 4 + self.up_to(plan.delay), self.deliver, to, sender, incarnation, message)

    def replay(self, count: int) -> None:
        """Old messages arrive again, from before restarts and lost disks too."""
        for _ in range(count):
            if self._archive:
                self.counts.replayed_messages += 1
                self.after(self.up_to(self.plan.tail), self.deliver, *self._archive[self.up_to(len(self._archive))])

    def relive(self, member: int, again: Iterable[tuple[int, int, Message]], spread: int) -> None:
        """A member is sent these once more, each at some time before `spread` has passed."""
        for sender, incarnation, message in again:
            self.counts.replayed_messages += 1
            self.after(1 + self.up_to(spread), self.deliver, member, sender, incarnation, message)

    def deliver(self, to: int, sender: int, incarnation: int, message: Message) -> None:
        """A message arrives: handled at once, or gathered with others into one turn."""
        station = self.stations[to]
        core = station.node.core
        if core is None or (not self.faulty and self.cuts.get((sender, to), 0) > self.now):
            return  # When all others are healed, nothing old trickles in to one that hears nobody.
        if station.paused_until > self.now:
            station.held.append((sender, incarnation, message))
        elif self.plan.gather:
            station.inbox.append((sender, incarnation, message))
            if not station.gathering:
                station.gathering = True
                self.after(self.up_to(self.plan.gather), self.gathered, to, station.node.life)
        else:
            core.receive(sender, incarnation, message, self.clock(station))
            self.turn(station)

    def gathered(self, member: int, life: int) -> None:
        """What has come up makes one turn."""
        station = self.stations[member]
        core = station.node.core
        if core is None or station.node.life != life:
            return
        station.gathering = False
        now = self.clock(station)
        for sender, incarnation, message in station.inbox:
            core.receive(sender, incarnation, message, now)
        station.inbox.clear()
        self.turn(station)

    # Turns.

    def wake(self, member: int, life: int) -> None:
        """The deadline of a member."""
        station = self.stations[member]
        core = station.node.core
        if core is None or station.node.life != life or station.wake_at != self.now:
            return
        if station.paused_until > self.now:
            station.wake_at = station.paused_until + 2  # As it goes on, a read comes first, then what has waited.
            self.at(station.wake_at, self.wake, member, life)
            return
        station.wake_at = -1
        core.tick(self.clock(station))
        self.turn(station)

    def complete_write(self, member: int, life: int) -> None:
        """The disk of a member has finished its oldest write."""
        station = self.stations[member]
        if station.node.core is None or station.node.life != life:
            return
        until = max(station.paused_until, station.stalled_until)
        if until > self.now:
            self.at(until + 1, self.complete_write, member, life)
            return
        station.writing = False
        station.node.complete_write(self.clock(station))
        self.turned(station)

    def turn(self, station: Station) -> None:
        """Events were given to the core: close the turn."""
        station.node.finish(self.clock(station))
        self.turned(station)

    def turned(self, station: Station) -> None:
        """A turn is over: its messages leave, its writes begin, its answers are given."""
        node = station.node
        member, core = node.member, node.core
        if core is None:
            return
        if station.life != node.life:
            station.begin(node.life)
        promised = self.checkers.promises != self._promises_seen
        self._promises_seen = self.checkers.promises
        self.note(self.now, member, len(node.outbox), len(node.applied))
        changed = self._changed(station)
        if station.doomed and self.faulty:
            if self._send_slowly(station):
                station.doomed = False
                self.on_doom(member)
                return
        else:
            for to, incarnation, message in node.outbox:
                self.post(member, incarnation, to, message)
        node.outbox.clear()
        if node.queue and not station.writing:
            station.writing = True
            delay = self.plan.write_delay
            self.after(delay // 4 + self.up_to(delay), self.complete_write, member, node.life)
        answered = self._answer(station)
        if node.wanted is not None or member in self.snapshots.transfers or len(node.applied) >= station.snapshot_due:
            self.snapshots.turned(station)
        deadline = max(core.deadline, self.now)
        if station.wake_at < 0 or deadline < station.wake_at:
            station.wake_at = deadline
            self.at(deadline, self.wake, member, node.life)
        if node.snapshot_steps != station.snapshot_steps and self.snapshots.stepped(station):
            return
        begins = changed and station.leads_view >= 0
        odds = self.plan.begin_crash_chance if begins else self.plan.reveal_crash_chance
        if (promised or answered or changed) and self.faulty and self.chance(odds):
            # What was just revealed must be true whatever this disk keeps.
            self.counts.reveal_crashes += 1
            self.crash_somehow(member)

    def _changed(self, station: Station) -> bool:
        """Whether the member has come into another view, or has begun to lead. What it was sent before may come again.

        What was said in an earlier view must not count in this one.
        """
        member, standing = station.node.member, self.checkers.standings[station.node.member]
        leads_view = standing.view if standing.leads else -1
        if (standing.view, leads_view) == (station.view, station.leads_view) and standing.status == station.status:
            return False
        begins = leads_view > station.leads_view
        changed = station.view != standing.view or begins
        if station.leads_view > leads_view:
            self._remember_reign(station)
        station.view, station.leads_view, station.status = standing.view, leads_view, standing.status
        if not self.faulty:
            return changed
        if changed:
            self.on_change(member, begins)
        if self.chance(self.echo_chance):
            again = (station.latest, station.seldom, station.rare)[self.up_to(3)] if changed else station.rare
            self.relive(member, again, self.configuration.timeouts.suspect >> (2 * self.up_to(4)))
            if begins:
                self.relive(member, station.reign, self.configuration.timeouts.suspect >> (2 * self.up_to(4)))
        return changed

    def _remember_reign(self, station: Station) -> None:
        if station.leads_view >= 0:
            station.reign = tuple(each for each in station.latest if isinstance(each[2], Promise))

    def _send_slowly(self, station: Station) -> bool:
        """All but what it promises again and again is long on its way. True when a promise is."""
        rare, suspect = False, self.configuration.timeouts.suspect
        member = station.node.member
        for to, incarnation, message in station.node.outbox:
            if self.links.is_seldom(message) or not isinstance(message, Promise):
                self.after(suspect + self.up_to(3 * suspect), self.deliver, to, member, incarnation, message)
                rare = rare or isinstance(message, Promise)
            else:
                self.post(member, incarnation, to, message)
        station.node.outbox.clear()
        return rare

    def _answer(self, station: Station) -> bool:
        """Clients that wait at this member are told of their requests; its session table takes what was applied."""
        node = station.node
        if station.answered == len(node.applied):
            return False
        answered = False
        for entry in node.applied[station.answered :]:
            if entry.kind is Kind.COMMAND:
                key = (entry.session, entry.request)
                op = station.table.setdefault(key, entry.op)
                if station.waiting.pop(key, None) is not None and key not in self.checkers.history.told:
                    self.tell(key, op)
                    answered = True
        station.answered = len(node.applied)
        return answered

    def tell(self, key: tuple[int, int], op: int) -> None:
        """A client gets its answer."""
        self.checkers.history.tell(*key, op)
        self.on_answer(*key)
