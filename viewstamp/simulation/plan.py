"""Everything that one seed draws: the cluster, its clients, and what befalls them.

Swarm style: most runs have only some kinds of faults, some have none (Groce et al., "Swarm Testing", ISSTA 2012: a run
in which everything fails all the time never gets deep).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from statemachine import MAXIMUM_GATHERED
from statemachine.sessions import MAXIMUM_REPLIES_BYTES
from transport.network import LinkFaults
from viewstamp.protocol import MILLISECOND, Limits, Timeouts
from viewstamp.replica.taking import COLLECT_BYTES
from viewstamp.simulation.inhabitants import DiskLatency
from viewstamp.simulation.load import Habits
from viewstamp.simulation.network import Tail


class Fault(StrEnum):
    """What can befall a cluster; the weather (loss, duplicates, delays, clock rates) comes on top."""

    CUT = "one direction cut"
    PARTITION = "partition"
    ONE_WAY_PARTITION = "one-way partition"
    RING = "ring: each member hears its neighbours"
    BRIDGE = "bridge: one member hears all, two camps do not hear each other"
    ISOLATE = "isolate a member"
    ISOLATE_PRIMARY = "isolate the primary"
    DECEIVE_PRIMARY = "the primary hears only what was said long ago"
    DEPOSE = "the primary cut off, and asked for reads"
    CONTEST = "those who choose a primary forget what they said"
    SWIZZLE = "cut off one after the other, healed in another order"
    CLOG = "clogged link"
    REPLAY = "old datagrams again"
    AMBUSH = "crash just after having spoken"
    MIDWAY = "crash in the middle of a turn"
    PLANNED = "crash inside a disk operation"
    KILL = "kill"
    POWER = "power loss"
    ALL_AT_ONCE = "all at once, killed or without power"
    RESTART = "restart at once"
    PAUSE = "pause"
    HANG = "disk falls behind"
    FAIL_WRITE = "failed write"
    FAIL_SYNC = "failed sync"
    FULL_DISK = "full disk"
    DAMAGE = "flipped bits in a journal"
    STUMBLE = "who is sent a snapshot ends inside a disk operation"
    DAMAGE_SNAPSHOT = "flipped bits or a lost end in a snapshot"
    LOSE_DISK = "lost disk"
    LOSE_WITNESS = "lost disk of whoever alone acknowledged"
    FORGET_WORDS = "crash that forgets the last words"
    SHORT_REIGNS = "primaries cut off as soon as they lead"
    TURNCOAT = "whoever gives up a primary forgets it, and is alone with the primary"
    RIVALS = "two stand at once, and whom they ask forgets"
    LONE_REIGN = "a primary alone takes much, and returns as another is cut off"
    OVERWRITE = "a primary returns with what another has put something in the place of"
    COMEBACK = "a primary leads again, with its old client"
    LOST_PROMISE = "lost disk of whoever has given up a primary"
    LOSE_TWICE = "a disk lost twice, and answers from between"
    NEW_MACHINE = "a blank disk, and a clock that is behind, for whoever may not have taken part yet"
    DESERTER = "whoever helped one primary forgets, and is with another"
    LAST_READ = "who does not lead any more, and does not know, is asked once"
    ENCORE = "who stood once stands again, and hears what it was told then"
    STANDSTILL = "the primary stands still, and is asked"
    RERUN = "old promises, as the turn comes round again"
    OVERTAKEN = "what was said overtakes what was said before"
    RELAPSE = "killed, back, and without power"
    DEAF_CLIENT = "a client that is not told"
    FAR_CLIENTS = "clients that are cut off from the primary alone"
    LULL = "all is well for a while"
    REMNANT = "all is well for a while, for a majority alone"
    GAP = "a member with a gap misses how the primary is replaced"
    FORERUNNER = "whoever goes ahead to lead is not heard"
    ASKED_AGAIN = "whoever asked the primary forgets that, asks again, and hears the first answer"
    LOSE_AMID_CHANGE = "lost disk as the primary changes"
    OUTRUN = "whoever fetches a snapshot needs a newer one before it has the rest"
    GIBBERISH = "what nobody can read"
    OUTLIVED = "what was acknowledged is cut, and its primary leads again, and hears of it"
    CLOCK_JUMP = "clock jump, or another rate"
    RESIGN = "leadership resigned"
    SNAPSHOT_NOW = "snapshots wanted at once"
    CLIENT_CRASH = "client crash and return"
    CANCEL = "cancelled calls"
    LATE_REQUESTS = "late requests"
    OLD_LETTERS = "who led once leads again, and then hears, and is heard, as it was the time before"


# How much more often than others a fault is drawn, where that is what rare bugs need.
WEIGHTS = {
    Fault.AMBUSH: 3,
    Fault.ISOLATE_PRIMARY: 2,
    Fault.BRIDGE: 2,
    Fault.SHORT_REIGNS: 2,
    Fault.MIDWAY: 2,
    Fault.STUMBLE: 3,
    Fault.DAMAGE_SNAPSHOT: 2,
    Fault.TURNCOAT: 3,
    Fault.RIVALS: 3,
    Fault.LONE_REIGN: 2,
    Fault.OVERWRITE: 3,
    Fault.COMEBACK: 3,
    Fault.DESERTER: 2,
    Fault.LOST_PROMISE: 3,
    Fault.LOSE_TWICE: 2,
    Fault.STANDSTILL: 2,
    Fault.LAST_READ: 3,
    Fault.ENCORE: 3,
    Fault.RERUN: 2,
    Fault.GAP: 2,
    Fault.OUTLIVED: 2,
    Fault.LOSE_AMID_CHANGE: 3,
    Fault.OLD_LETTERS: 3,
}
_SHARES = (0, 0, 0, 6, 20)
"""Of a hundred calls, or commands, those of a kind."""
_SIZES = (3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5, 2, 6, 7, 1)
_WEATHER = (
    LinkFaults(),
    LinkFaults(loss=0.02, duplicate=0.05, reorder=0.1),
    LinkFaults(loss=0.05, duplicate=0.1, reorder=0.2, replay=0.05, reorder_ns=30 * MILLISECOND),
    LinkFaults(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.02, replay=0.1),
    LinkFaults(duplicate=0.1, replay=0.1, delay_base_ns=2 * MILLISECOND, delay_mean_ns=8 * MILLISECOND),
    LinkFaults(loss=0.02, delay_base_ns=8 * MILLISECOND, delay_mean_ns=16 * MILLISECOND),
    LinkFaults(loss=0.2, duplicate=0.1, reorder=0.2, replay=0.1),
)
_HASTY = Timeouts(
    heartbeat=25 * MILLISECOND, suspect=100 * MILLISECOND, jitter=25 * MILLISECOND, retry=20 * MILLISECOND
)
_BRISK = Timeouts(
    heartbeat=30 * MILLISECOND, suspect=120 * MILLISECOND, jitter=30 * MILLISECOND, retry=30 * MILLISECOND
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times in nanoseconds. The defaults are plain ones: what does not matter for a failure gets them.

    `store`: the machine is a key-value store, unless the caller says which; a `bulky` one takes several turns to write
    down. Large replies are recorded up to `reply_bytes` together, the oldest of them go. Of the calls that a client
    makes at once up to `gathered` make one request.
    """

    members: int = 3
    clients: int = 1
    max_sessions: int = 1024
    window: int = 4096
    habits: Habits = Habits()  # noqa: RUF009  # immutable, as the others are
    timeouts: Timeouts = Timeouts()  # noqa: RUF009
    limits: Limits = Limits()  # noqa: RUF009
    snapshot_entries: int = 16_384
    segment_bytes: int = 64 * 1024 * 1024
    room_bytes: int = 8_000
    collect_bytes: int = COLLECT_BYTES
    datagram_bytes: int = 1200
    disk: DiskLatency = DiskLatency()  # noqa: RUF009
    weather: LinkFaults = LinkFaults()  # noqa: RUF009
    tail: Tail = Tail()  # noqa: RUF009
    clock_rates: tuple[int, ...] = ()
    clocks_ahead: tuple[int, ...] = ()
    faults: tuple[Fault, ...] = ()
    rounds: int = 0
    longest_burst: int = 0
    warm_up: int = 0
    rough_founding: bool = False
    store: bool = False
    bulky: bool = False
    reply_bytes: int = MAXIMUM_REPLIES_BYTES
    gathered: int = 1

    @property
    def patience(self) -> int:
        """How long after the faults have ended everything must be served, and then be alike: 20 suspect time-outs."""
        return 20 * self.timeouts.suspect


def draw_plan(seed: int) -> Plan:
    """What this seed draws; the same for every protocol."""
    random = Random(f"plan {seed}")
    members = random.choice(_SIZES)
    calm = random.randrange(25) == 0
    share = random.choice((25, 50, 75, 100))
    letters = Random(f"letters {seed}")
    drawn = (fault for fault in Fault if (letters if fault is Fault.OLD_LETTERS else random).randrange(100) < share)
    faults = () if calm else tuple(drawn)
    steady = random.randrange(3) > 0
    drift = random.choice((0, 200, 200, 50_000, 150_000))
    crowded = random.randrange(8) == 0
    large = random.randrange(12) == 0
    clients = random.choice((1, 2, 3, 4, 6, 8, 12))
    stored = Random(f"store {seed}")
    store = stored.randrange(4) == 0
    bulky = store and stored.randrange(3) == 0
    kinds = Random(f"kinds {seed}")
    snapshot_entries = random.choice((4, 20, 100, 16_384))
    return Plan(
        members=members,
        clients=clients,
        max_sessions=max(2, clients - random.randrange(1, 4)) if crowded else 1024,
        window=random.choice((1, 4, 64)) if crowded else 4096,
        habits=Habits(
            think=random.choice((1, 1, 3, 10)) * MILLISECOND,
            reads=random.choice((0, 20, 35, 60)),
            read_anywhere=True,
            many=600,
            lists=kinds.choice(_SHARES),
            raising=kinds.choice(_SHARES),
            large_replies=kinds.choice(_SHARES),
            paddings=(0, 0, 0, 10, 2_000, 8_000) if large else (0,),
        ),
        timeouts=random.choice((_HASTY, _HASTY, _BRISK, Timeouts())),
        limits=Limits(
            page_bytes=64 * 1024 if large else random.choice((4096, 256 * 1024)),
            page_entries=random.choice((1, 3, 16, 1024)),
            pipeline_entries=random.choice((16, 64, 16 * 1024, 16 * 1024)),
        ),
        snapshot_entries=20 if bulky else snapshot_entries,
        segment_bytes=random.choice((2_000, 16_000, 64 * 1024 * 1024)),
        datagram_bytes=random.choice((1200, 1200, 8192)) if large else random.choice((600, 1200, 1200, 8192)),
        disk=DiskLatency(
            spread=random.choice((200_000, 2 * MILLISECOND, 10 * MILLISECOND)),
            stall=random.choice((60, 200)) * MILLISECOND,
            stall_percent=random.choice((0, 0, 0, 2)),
        ),
        weather=LinkFaults() if calm else random.choice(_WEATHER),
        tail=Tail()
        if calm or random.randrange(4)
        else Tail(random.choice((5, 50)), random.choice((2, 10)) * MILLISECOND),
        clock_rates=tuple(1_000_000 + (0 if steady else random.randint(-drift, drift)) for _ in range(members)),
        clocks_ahead=tuple(0 if steady else random.randint(-drift, drift) * MILLISECOND for _ in range(members)),
        faults=faults,
        rounds=random.choice((10, 13, 16)),
        longest_burst=random.choice((8, 30, 60)),
        warm_up=random.choice((5, 60, 150)),
        rough_founding=not calm and random.randrange(6) == 0,
        store=store,
        bulky=bulky,
        room_bytes=stored.choice((0, 8_000, 8_000)),
        collect_bytes=stored.choice((1, COLLECT_BYTES)),
        reply_bytes=kinds.choice((0, 300, 2_000, MAXIMUM_REPLIES_BYTES, MAXIMUM_REPLIES_BYTES)),
        gathered=Random(f"gathered {seed}").choice((1, 1, 1, 5, MAXIMUM_GATHERED)),
    )
