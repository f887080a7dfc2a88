"""What a measurement gives: latencies, throughput, what it cost; and medians with ranges over several of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Json = dict[str, object]
"""A JSON object."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw. Latencies are in microseconds; `generator_cores` is its own share of a core.

    `gaps` are the (begin, end) in nanoseconds since the epoch of every interval of 20 ms or more without a completion,
    kept only by a load that runs until it is told to stop.
    """

    completed: int
    seconds: float
    p50_us: float
    p99_us: float
    p999_us: float
    generator_cores: float
    gaps: Sequence[Sequence[int]] = ()
    datagrams_out: int = 0
    bytes_out: int = 0

    @property
    def per_second(self) -> float:
        """Completed operations per second."""
        return self.completed / self.seconds


def load_of(latencies_ns: list[int], seconds: float, processor_s: float) -> Load:
    """Summarise; sorts `latencies_ns` in place."""
    latencies_ns.sort()
    p50, p99, p999 = (quantile(latencies_ns, q) / 1e3 for q in (0.5, 0.99, 0.999))
    return Load(len(latencies_ns), seconds, p50, p99, p999, processor_s / seconds)


def quantile(ordered: Sequence[float], q: float) -> float:
    """The value below which a share `q` of these lies; 0 if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else 0.0


class Spread(NamedTuple):
    """A median with its range."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """The median and the range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a result: a system under a setting, and for each figure one value per round."""

    system: str
    setting: str
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        """One more round."""
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """The median over the rounds, None if this figure was not measured."""
        values = self.figures.get(name)
        return statistics.median(values) if values else None


class Table:
    """The rows of one case, by system and setting, in the order in which they were first measured."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.missing: dict[str, str] = {}

    def add(self, system: str, setting: str, figures: dict[str, float]) -> None:
        """One round of one system under one setting."""
        self.rows.setdefault((system, setting), Row(system, setting)).add(figures)

    def ratios(self, name: str, system: str, other: str, setting: str, other_setting: str) -> Spread | None:
        """`system` over `other`, each under its setting, round by round; None if one of them was not measured."""
        one, two = self.rows.get((system, setting)), self.rows.get((other, other_setting))
        if one is None or two is None or name not in one.figures or name not in two.figures:
            return None
        pairs = [(a, b) for a, b in zip(one.figures[name], two.figures[name], strict=False) if b]
        return spread([a / b for a, b in pairs]) if pairs else None
