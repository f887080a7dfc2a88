"""What a protocol is told about its cluster: members, quorum, time-outs and limits. Times are nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
LARGEST_INCARNATION = (1 << 63) - 1
"""No data directory is given a larger one (they grow with the wall clock), so that there is always room for a newer."""


class Time(NamedTuple):
    """An instant, in nanoseconds: `monotonic` for timers, `wall` (since the Unix epoch) for stamps only."""

    monotonic: int
    wall: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a protocol waits, in nanoseconds.

    `heartbeat`: between a primary's heartbeats. `suspect`: silence after which a member suspects its primary, and
    after which a primary that hears from no quorum stops acting. `jitter`: at most this much is added to `suspect`,
    drawn anew each time. `retry`: before an unanswered message is sent again.

    Raises:
      ValueError: one is not positive (`jitter`: negative), or `suspect` less than twice `heartbeat`.
    """

    heartbeat: int = 100 * MILLISECOND
    suspect: int = 300 * MILLISECOND
    jitter: int = 60 * MILLISECOND
    retry: int = 60 * MILLISECOND

    def __post_init__(self) -> None:
        for name in ("heartbeat", "suspect", "retry"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.jitter < 0:
            raise ValueError(f"jitter must not be negative, not {self.jitter}")
        if self.suspect < 2 * self.heartbeat:
            raise ValueError(
                f"suspect ({self.suspect} ns) must be at least twice heartbeat ({self.heartbeat} ns), "
                "or one lost heartbeat deposes a working primary"
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a protocol holds and sends.

    `page_bytes`, `page_entries`: the most that one message carries. `pipeline_entries`, `pipeline_bytes`: the most
    that may be ordered but uncommitted at a primary; `log_bytes`: the most of the log that may be in memory at one,
    which snapshots normally keep far below. Beyond any of them, proposals are refused. A VSR backup takes no entries
    while more than `pipeline_bytes` of them wait for its disk.
    """

    page_bytes: int = 256 * 1024
    page_entries: int = 1024
    pipeline_entries: int = 16 * 1024
    pipeline_bytes: int = 16 * 1024 * 1024
    log_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a cluster and the rules for counting them.

    `members` are distinct positive identifiers in ascending order. All quorums are functions of this and
    never a literal: for even sizes too, `quorum` is a majority, and any two quorums intersect.
    """

    members: tuple[int, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.members or list(self.members) != sorted(set(self.members)) or self.members[0] < 1:
            raise ValueError(f"members must be distinct positive numbers in ascending order, not {self.members}")

    @property
    def quorum(self) -> int:
        """The size of a majority: n // 2 + 1."""
        return len(self.members) // 2 + 1

    @property
    def recovery_quorum(self) -> int:
        """How many *others* a member without a disk must hear: they meet every quorum that it was part of.

        A quorum holds at least quorum - 1 others, out of n - 1; n - quorum + 1 of those must meet them.
        """
        return len(self.members) - self.quorum + 1

    def others(self, member: int) -> tuple[int, ...]:
        """All members but this one."""
        return tuple(other for other in self.members if other != member)
