"""What a command may know besides its arguments and its machine: the same on every replica."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from statemachine.errors import NoContextError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Context:
    """The agreed time, randomness and place of the entry whose command is running.

    Asking the machine's own clock or random numbers instead would make replicas diverge (VRR section 4.4). It may
    be kept, but answers only while a command runs, and raises NoContextError at any other time, in queries too.
    """

    __slots__ = ("_entry", "_random")

    def __init__(self) -> None:
        self._entry: tuple[int, int, int, int] | None = None
        self._random: Random | None = None

    def begin(self, op: int, session: int, time_ns: int, seed: int) -> None:
        """A command starts. Called by the executor; a test that calls commands by hand may call it too."""
        self._entry = (op, session, time_ns, seed)
        self._random = None

    def end(self) -> None:
        """The command ended."""
        self._entry = None
        self._random = None

    def _now(self) -> tuple[int, int, int, int]:
        if self._entry is None:
            raise NoContextError("the context answers only while a command runs")
        return self._entry

    @property
    def op(self) -> int:
        """The op-number of the entry: unique, growing with each command. Makes a good fencing token.

        The commands of one list share it, as they do the time, the seed and the random numbers.
        """
        return self._now()[0]

    @property
    def session(self) -> int:
        """The session of the client that sent the command."""
        return self._now()[1]

    @property
    def time_ns(self) -> int:
        """The agreed time in nanoseconds since the Unix epoch. It never goes back from one entry to the next."""
        return self._now()[2]

    @property
    def time(self) -> datetime:
        """The agreed time in UTC, cut to whole microseconds."""
        return _EPOCH + timedelta(microseconds=self._now()[2] // 1000)

    @property
    def seed(self) -> int:
        """The agreed 64 random bits of the entry."""
        return self._now()[3]

    @property
    def random(self) -> Random:
        """A generator seeded with `seed`, the same one throughout the entry.

        Not for secrets. Of its methods, `random` and `getrandbits` give the same numbers in each version of Python.
        """
        seed = self._now()[3]
        if self._random is None:
            self._random = Random(seed)
        return self._random
