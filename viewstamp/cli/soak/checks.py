"""The checks of a soak's whole history, once all is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statemachine import Value
from viewstamp.cli.soak.findings import SAFETY, Finding
from viewstamp.cli.soak.history import Operation, check_counters, check_logs, check_order


def check_all(operations: Sequence[Operation], scans: Mapping[int, Mapping[str, Value]]) -> None:
    """Check what clients were told against each other and against what each member holds in the end.

    Raises:
      Finding: what is wrong first.
    """
    (first, final), *others = scans.items()
    for member, held in others:
        for key, value in held.items():
            if value != final[key]:
                raise Finding(SAFETY, f"{key} is {final[key]!r} at member {first} and {value!r} at member {member}")
    for problem in (check_order(operations), check_counters(operations, final), check_logs(operations, final)):
        if problem:
            raise Finding(SAFETY, problem)
