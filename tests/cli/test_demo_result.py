"""The arithmetic of the demo: what counts as lost, done twice, and a gap."""

from __future__ import annotations

import json

import pytest

from viewstamp.cli.demo.load import Operation, largest_gap_ns
from viewstamp.cli.demo.result import Result, count_duplicated, count_lost, percentile_ms


@pytest.mark.parametrize(
    ("answers", "unknown", "final", "lost", "duplicated"),
    [
        ([], 0, 0, 0, 0),
        ([1, 3, 2], 0, 3, 0, 0),
        ([1, 2, 3], 0, 2, 1, 0),  # the last is gone
        ([1, 2, 2], 0, 2, 1, 0),  # one was lost, and its place given away
        ([1, 2, 4], 0, 4, 0, 1),  # one was done twice
        ([1, 2, 4], 1, 4, 0, 0),  # ... or it is one whose outcome is unknown
        ([1, 2, 2, 4], 0, 4, 1, 1),  # one lost and one done twice: the sum alone would hide both
    ],
)
def test_lost_and_duplicated(answers: list[int], unknown: int, final: int, lost: int, duplicated: int) -> None:
    assert count_lost(answers, final) == lost
    assert count_duplicated(answers, unknown, final) == duplicated


def test_a_gap_begins_with_the_failure_and_ends_with_an_acknowledgement() -> None:
    acknowledged = [10, 20, 500, 510, 600, 2000]
    assert largest_gap_ns(acknowledged, 25, 700) == 475
    assert largest_gap_ns(acknowledged, 505, 700) == 90
    assert largest_gap_ns(acknowledged, 25, 400) is None


def test_percentiles() -> None:
    assert percentile_ms([], 0.5) == 0.0
    latencies = [n * 1_000_000 for n in range(1, 101)]
    assert percentile_ms(latencies, 0.5) == 51.0
    assert percentile_ms(latencies, 0.99) == 100.0


def test_the_json_object_has_the_documented_keys() -> None:
    result = Result("vsr", 3, 16, 10, 0, {1: 10, 2: 10, 3: None}, 0, 0, (400.0,), 5.0, 1.0, 2.0, ("differ",))
    assert json.loads(json.dumps(result.as_json())) == {
        "protocol": "vsr",
        "replicas": 3,
        "acknowledged": 10,
        "values": {"1": 10, "2": 10, "3": None},
        "lost": 0,
        "duplicated": 0,
        "gaps_ms": [400.0],
        "per_second": 5.0,
        "latency_ms": {"p50": 1.0, "p99": 2.0},
    }
    assert result.lines()[-1] == "FAILED: differ"


def test_a_line_of_history() -> None:
    done = Operation(client=3, op="add", called_ns=100, returned_ns=200, out=7)
    unknown = Operation(client=3, op="read", called_ns=100)
    assert json.loads(done.line()) == {
        "client": 3,
        "op": "add",
        "key": "counter",
        "arg": 1,
        "arg2": None,
        "call": 100,
        "ret": 200,
        "out": 7,
        "ok": True,
    }
    assert json.loads(unknown.line())["arg"] is None
    assert json.loads(unknown.line())["ok"] is None
