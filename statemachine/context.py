"""What a command may know besides its arguments and its machine: the same on every replica."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from statemachine.errors import NoContextError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION_BITS = 16  # for the longest list
_SEED_STEP = 0x9E3779B97F4A7C15  # odd: no two of an entry's seeds are equal
_SEED_MASK = (1 << 64) - 1


class Context:
    """The agreed time and place of the entry whose command is running, and randomness for that command.

    Several commands may be in one entry: a list, or calls that tasks of one client made at the same time. They share
    what is the entry's: `op`, `session` and the time. Each has a `token`, a `seed` and `random` numbers of its own.

    Asking the machine's own clock or random numbers instead would make replicas diverge (VRR section 4.4). It may
    be kept, but answers only while a command runs, and raises NoContextError at any other time, in queries too.
    """

    __slots__ = ("_entry", "_position", "_random")

    def __init__(self) -> None:
        self._entry: tuple[int, int, int, int] | None = None
        self._position = 0
        self._random: Random | None = None

    def begin(self, op: int, session: int, time_ns: int, seed: int) -> None:
        """An entry's first command starts. Called by the executor; a test that calls commands by hand may, too."""
        self._entry = (op, session, time_ns, seed)
        self._position = 0
        self._random = None

    def go_on(self) -> None:
        """The next command of the entry starts."""
        self._position += 1
        self._random = None

    def end(self) -> None:
        """The last command ended."""
        self._entry = None
        self._random = None

    def _now(self) -> tuple[int, int, int, int]:
        if self._entry is None:
            raise NoContextError("the context answers only while a command runs")
        return self._entry

    @property
    def op(self) -> int:
        """The op-number of the entry, growing from one to the next. Commands of one entry share it: see `token`."""
        return self._now()[0]

    @property
    def token(self) -> int:
        """A number of this command's own, greater than that of any executed before it: a good fencing token.

        It fits into 63 bits: the op-number, and in the lower 16 bits which command of its entry this is.
        """
        return self._now()[0] << _POSITION_BITS | self._position

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
        """64 agreed random bits of this command's own."""
        return self._now()[3] + self._position * _SEED_STEP & _SEED_MASK

    @property
    def random(self) -> Random:
        """A generator seeded with `seed`, the same one throughout the command.

        Not for secrets. Of its methods, `random` and `getrandbits` give the same numbers in each version of Python.
        """
        seed = self.seed
        if self._random is None:
            self._random = Random(seed)
        return self._random
