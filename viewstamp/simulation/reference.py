"""What every member should hold: the committed entries, applied once more, by nobody who takes part."""

from __future__ import annotations

from collections.abc import Mapping

from statemachine import Executor
from viewstamp.protocol import split_entries
from viewstamp.simulation.surroundings import Surroundings
from viewstamp.simulation.verdict import require


class Reference:
    """The state at those ops of which somebody stores a snapshot. It only goes forward."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._executor: Executor | None = None

    def digest_at(self, op: int, entries: Mapping[int, bytes]) -> bytes | None:
        """A hash over the whole state at `op`, to which `entries` must lead; None if it lies behind already.

        Raises:
          ViolationError: an entry up to there was never committed.
        """
        if self._executor is None:
            self._executor = Executor(self._surroundings.machine(), **self._surroundings.bounds)
        executor = self._executor
        if executor.applied > op:
            return None
        following = range(executor.applied + 1, op + 1)
        missing = next((number for number in following if number not in entries), 0)
        require(
            not missing, "equal states", "a snapshot up to op {} is stored, and op {} is not committed", op, missing
        )
        executor.apply(split_entries(b"".join([entries[number] for number in following])))
        return executor.state_digest()
