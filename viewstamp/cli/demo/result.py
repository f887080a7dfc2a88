"""What a demo comes to: nothing lost, nothing done twice, the same everywhere; or what was wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Result:
    """`values` is the counter at each member, None where it could not be read; `unknown` counts increments without
    an answer; `problems` says in sentences what is wrong and is empty when all is well.
    """

    protocol: str
    replicas: int
    clients: int
    acknowledged: int
    unknown: int
    values: Mapping[int, int | None]
    lost: int
    duplicated: int
    gaps_ms: tuple[float, ...]
    per_second: float
    p50_ms: float
    p99_ms: float
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """The object that `--json` prints."""
        return {
            "protocol": self.protocol,
            "replicas": self.replicas,
            "acknowledged": self.acknowledged,
            "values": {str(member): value for member, value in self.values.items()},
            "lost": self.lost,
            "duplicated": self.duplicated,
            "gaps_ms": list(self.gaps_ms),
            "per_second": self.per_second,
            "latency_ms": {"p50": self.p50_ms, "p99": self.p99_ms},
        }

    def lines(self) -> list[str]:
        """For people."""
        values = "   ".join(f"{member}: {_number(value)}" for member, value in self.values.items())
        gaps = ", ".join(
            f"{gap:.0f} ms {after}"
            for gap, after in zip(self.gaps_ms, ("after SIGKILL", "after SIGSTOP"), strict=False)
        )
        verdict = "All is well." if not self.problems else "FAILED: " + "; ".join(self.problems)
        unknown = f", {self.unknown} without an answer" if self.unknown else ""
        return [
            f"acknowledged increments   {self.acknowledged:,}{unknown}, by {self.clients} clients",
            f"value on each replica     {values or 'not read'}",
            f"lost                      {self.lost}",
            f"duplicated                {self.duplicated}",
            f"longest gap in service    {gaps or 'not measured'}",
            f"throughput                {self.per_second:,.0f} increments per second",
            f"latency                   {self.p50_ms:.2f} ms median, {self.p99_ms:.2f} ms at the 99th percentile",
            verdict,
        ]


def _number(value: int | None) -> str:
    return "no answer" if value is None else f"{value:,}"


def count_lost(answers: Sequence[int], final: int) -> int:
    """Acknowledged increments that are not in the final value.

    Each answer is the counter after one's own increment, so all differ. Two equal answers mean that the first was
    lost and its place given to the second, even where another one done twice makes the sum come out right.
    """
    return len(answers) - len({answer for answer in answers if 1 <= answer <= final})


def count_duplicated(answers: Sequence[int], unknown: int, final: int) -> int:
    """Increments in the final value that nobody was answered: done twice, save those whose outcome is unknown."""
    answered = len({answer for answer in answers if 1 <= answer <= final})
    return max(0, final - answered - unknown)


def percentile_ms(latencies_ns: Sequence[int], share: float) -> float:
    """The latency that this share of all does not exceed; 0 of none."""
    if not latencies_ns:
        return 0.0
    ordered = sorted(latencies_ns)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] / _MILLISECOND, 2)
