"""What one fuzzer run is made of, drawn swarm style: most runs have only some kinds of faults, some have none.

(Groce et al., "Swarm Testing", ISSTA 2012: a run in which everything fails all the time never gets deep.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from viewstamp.protocol import MILLISECOND, Configuration, Limits, Timeouts


class Fault(StrEnum):
    """What can befall a cluster."""

    CRASH = "crash"
    CRASH_PRIMARY = "crash primary"
    CRASH_ALL = "crash all"
    LOSE_DISK = "lose disk"
    CUT = "one-way cut"
    PARTITION = "partition"
    ISOLATE = "isolate a member"
    ISOLATE_PRIMARY = "isolate the primary"
    PAUSE = "pause"
    STALL_DISK = "stall a disk"
    REPLAY = "replay old messages"
    RESIGN = "resign"
    DEPOSE = "cut the primary off until it is deposed"
    STRAND_LOST_DISK = "lose a disk; only a few are in reach afterwards"
    CAROUSEL = "cut off each primary soon after it begins, and let the one before come back"
    FORGET_PROMISE = "lose a disk just after a promise, which then takes long to arrive"
    SLOW_PROMISES = "no primary, and votes that arrive in later views"
    IGNORANCE = "a minority misses what is committed, and only they speak of it in time"
    DECEIVE = "a primary that goes on hearing what was said long ago"
    SECOND_REIGN = "the primary's minority, then another's, then the first leads again, then the second"
    SNAPSHOT = "a snapshot now"
    OUTGROW = "members miss what others then hold by a snapshot only, and come back"


class Ailment(StrEnum):
    """What still ails a member when all others are healed already."""

    DOWN = "down"
    DEAF = "hears nobody"
    MUTE = "heard by nobody"
    ISOLATED = "cut off"
    TORN = "cut off from some, either way"
    BRIDGED = "cut off from the primary"
    FLAPPING = "hears nobody, now and again"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run's cluster, load and faults. Times in nanoseconds, chances in per mille.

    `ailments`: when the faults end, so many members, a minority, are not healed at first; the others must serve without
    them, and undisturbed by them. `late_ailments`: only once all are healed and at rest. `parting_resign`: the primary
    resigns just then; `parting_depose`: it was deposed just then, and it and its successor must settle it.

    Members take a snapshot after `snapshot_entries`, and of those before it keep `snapshot_margin` in the log; 0: only
    when told to. It is fetched in `snapshot_chunks`, and given up when its source is silent for `chunk_patience`. With
    `pins` a source keeps what is being fetched, and the log behind it.
    """

    configuration: Configuration
    faults: tuple[Fault, ...]
    fault_phase: int
    fault_gap: int
    fault_length: int
    restart_after: int
    delay: int
    tail_chance: int
    tail: int
    loss_chance: int
    duplicate_chance: int
    write_delay: int
    gather: int
    reveal_crash_chance: int
    begin_crash_chance: int
    echo_chance: int
    clients: int
    outstanding: int
    think: int
    retry: int
    read_chance: int
    ailments: tuple[Ailment, ...]
    late_ailments: bool
    parting_resign: bool
    parting_depose: bool
    snapshot_entries: int
    snapshot_margin: int
    snapshot_time: int
    snapshot_chunks: int
    chunk_time: int
    chunk_patience: int
    pins: bool
    snapshot_crash_chance: int

    @property
    def patience(self) -> int:
        """How long after the faults have ended everything must be served and alike: 20 suspect time-outs."""
        return 20 * self.configuration.timeouts.suspect


_STORIES = {
    Fault.PAUSE: (1, (2, 3, 3, 4, 5)),
    Fault.DEPOSE: (2, (3, 3, 4, 5, 5, 6, 7)),
    Fault.CAROUSEL: (1, (3, 3, 4, 5, 5, 6, 7)),
    Fault.STRAND_LOST_DISK: (1, (2, 3, 3, 3, 5, 6, 7)),
    Fault.FORGET_PROMISE: (3, (3, 3, 3, 3, 3, 4, 5)),
    Fault.SLOW_PROMISES: (3, (3, 3, 3, 3, 4, 5)),
    Fault.IGNORANCE: (3, (3, 3, 4, 5, 5, 5)),
    Fault.DECEIVE: (1, (3, 3, 3, 4, 5)),
    Fault.SECOND_REIGN: (9, (3, 3, 3, 3, 5, 5, 5, 6, 7)),
    Fault.OUTGROW: (6, (2, 3, 3, 3, 3, 4, 5, 5)),
}
"""Each can be all that befalls a run: what it builds up takes long, and other faults undo it. How often it is, more
often where the state comes about more seldom; and in clusters of which sizes: some states need a member that is in a
minority with another, some that there is none."""
_BETWEEN_STORIES = (Fault.RESIGN, Fault.CRASH, Fault.REPLAY, Fault.SNAPSHOT)
_SIZES = (1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5, 6, 7)


def draw_plan(random: Random) -> Plan:
    """Draw a run."""
    tells_story = random.randrange(3) > 0
    story = random.choices(list(_STORIES), [weight for weight, _ in _STORIES.values()])[0]
    members = random.choice(_STORIES[story][1] if tells_story else _SIZES)
    suspect = random.choice((100, 200, 300)) * MILLISECOND
    timeouts = Timeouts(
        heartbeat=suspect // random.choice((3, 4, 6)),
        suspect=suspect,
        jitter=suspect // random.choice((3, 5)),
        retry=suspect // random.choice((4, 6)),
    )
    limits = Limits(
        page_bytes=random.choice((1024, 65536)),
        page_entries=random.choice((6, 6, 24) if tells_story else (6, 24, 64)),
        # That story orders much at once.
        pipeline_entries=random.choice((64, 64, 1024) if tells_story and story is Fault.OUTGROW else (8, 64, 1024)),
        pipeline_bytes=1 << 20,
    )
    offsets = random.randrange(3)
    configuration = Configuration(tuple(1 + offsets + number for number in range(members)), timeouts, limits)
    kinds = list(Fault)
    calm = not tells_story and random.randrange(8) == 0
    share = random.choice((2, 4, 6))
    mixed = tuple(kind for kind in kinds if random.randrange(10) < share)
    told = (story, random.choice(_BETWEEN_STORIES)) if random.randrange(2) else (story,)
    faults = () if calm else told if tells_story else mixed
    parting_depose = not calm and members > 2 and random.randrange(8) == 0
    spare = members - configuration.quorum
    ailments = (Ailment.DOWN,) * spare if parting_depose else _draw_ailments(random, spare)
    if calm or (tells_story and not parting_depose and random.randrange(2)):
        ailments = ()
    return Plan(
        configuration=configuration,
        faults=faults,
        fault_phase=random.choice((16, 24) if tells_story else (8, 12, 16)) * suspect,
        fault_gap=suspect * random.choice((1, 2, 4)) // 4,
        fault_length=suspect * random.choice((1, 3, 6)) // 2,
        restart_after=suspect * random.choice((1, 2, 8)) // 4,
        # A member that lost all fetches page by page: with small pages over a slow network, for too long.
        delay=suspect // max(random.choice((1000, 200, 50, 20)), 100 if limits.page_entries < 10 else 0),
        tail_chance=0 if calm else random.choice((0, 0, 20, 100, 300)),
        tail=suspect * random.choice((1, 2, 6)),
        loss_chance=0 if calm else random.choice((0, 0, 10, 50, 200)),
        duplicate_chance=0 if calm else random.choice((0, 0, 0, 50, 900)),
        write_delay=suspect // random.choice((1000, 300, 60, 20)),
        gather=random.choice((0, 0, suspect // 300, suspect // 60)),
        reveal_crash_chance=0 if calm else random.choice((0, 0, 2, 8, 20)),
        # One that is alone can crash before it knows that it leads; little else happens to it.
        begin_crash_chance=0 if calm else random.choice((0, 20, 200)) if members > 1 else 900,
        echo_chance=0 if calm else random.choice((0, 200, 800)),
        clients=random.randint(1, 6),
        outstanding=random.choice((1, 3, 8)),
        think=suspect // random.choice((4, 10, 30)),
        retry=suspect * random.choice((1, 2, 4)) // 2,
        read_chance=random.choice((0, 100, 400)),
        ailments=ailments,
        late_ailments=not parting_depose and random.randrange(2) == 0,
        parting_resign=random.randrange(4) == 0,
        parting_depose=parting_depose,
        snapshot_entries=random.choice((0, 0, 8, 20, 60)),
        snapshot_margin=random.choice((0, 0, 4, 40)),
        snapshot_time=suspect // random.choice((1000, 50, 4)),
        snapshot_chunks=random.choice((1, 3, 8)),
        chunk_time=suspect // random.choice((1000, 100, 20, 6)),
        chunk_patience=suspect * random.choice((1, 3, 10)),
        pins=random.randrange(2) == 0,
        snapshot_crash_chance=0 if calm else random.choice((0, 20, 200)),
    )


def _draw_ailments(random: Random, at_most: int) -> tuple[Ailment, ...]:
    kinds = (*Ailment, Ailment.DEAF, Ailment.FLAPPING)
    return tuple(random.choice(kinds) for _ in range(min(at_most, random.choice((0, 1, 1, 1, 2, 3)))))
