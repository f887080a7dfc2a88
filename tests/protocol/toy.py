"""The smallest protocol there is: a log of one member. It shows that a body knows no protocol's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, assert_never

from viewstamp.protocol import (
    NEVER,
    Append,
    Configuration,
    Core,
    Durable,
    Effects,
    Entry,
    Founded,
    Log,
    Lost,
    Message,
    Origin,
    Proposal,
    ReadReady,
    Record,
    RefusesLostDiskError,
    SaveState,
    Snapshot,
    Standing,
    State,
    Time,
    Transition,
    Viewstamp,
    Write,
    check,
    make_entry,
)


@dataclass(frozen=True, slots=True)
class Life(State):
    """How often the member has started; the view of the entries that it makes in this life."""

    number: int
    incarnation: int


class SingleMemberLog(Core):
    """Orders commands at one member; what its disk holds is committed."""

    name: ClassVar[str] = "single"
    messages: ClassVar[Mapping[int, type[Message]]] = {}
    states: ClassVar[Mapping[int, type[State]]] = {128: Life}
    recovers_lost_disk: ClassVar[bool] = False

    def __init__(self, configuration: Configuration, me: int, origin: Origin, random: Random, now: Time) -> None:
        if configuration.members != (me,):
            raise ValueError(f"a single-member log has the one member {me}, not {configuration.members}")
        self._me = me
        self._log = Log()
        match origin:
            case Founded((incarnation,)):
                self._life = Life(1, incarnation)
            case Durable(Life(number, incarnation), entries, snapshot):
                self._log = Log(entries, snapshot)
                self._life = Life(number + 1, incarnation)
            case Lost():
                raise RefusesLostDiskError("the only copy of this log is gone")
            case Founded() | Durable():
                raise ValueError(f"not the origin of a single-member log: {origin}")
            case _:
                assert_never(origin)
        self._stamp = 0
        if isinstance(origin, Durable):
            stamps = [entry.stamp for entry in origin.entries[-1:]]
            self._stamp = max(stamps + ([origin.snapshot.stamp] if origin.snapshot is not None else []), default=0)
        self._records: list[Record] = [SaveState(self._life)]
        self._write = 0
        self._reads: list[ReadReady] = []
        self._transitions = [Transition("normal", "primary", self._life.number, me, "started")]
        self._ignored: dict[str, int] = {}

    def receive(self, sender: int, incarnation: int, message: Message, now: Time) -> None:
        self._ignored["unknown sender"] = self._ignored.get("unknown sender", 0) + 1

    def propose(self, proposals: Sequence[Proposal], now: Time) -> int:
        if not proposals:
            return 0
        first = self._log.op + 1
        self._stamp = max(self._stamp, now.wall)
        entries = tuple(make_entry(op, self._life.number, self._stamp, p) for op, p in enumerate(proposals, first))
        self._log.append(entries)
        self._records.append(Append(entries))
        return first

    def read(self, read: int, now: Time) -> None:
        self._reads.append(ReadReady(read, self._log.durable))

    def written(self, write: int, now: Time) -> None:
        check(write <= self._write, "write {} was never issued", write)
        self._log.written(write)

    def compact(self, snapshot: Snapshot, keep_after: int, now: Time) -> None:
        self._log.compact(keep_after)

    def fetched(self, snapshot: Snapshot, now: Time) -> None:
        """Nothing is ever wanted: there is nobody to have it from."""

    def fetching(self, snapshot: Snapshot, now: Time) -> None:
        """As for `fetched`."""

    def fetch_failed(self, snapshot: Snapshot, now: Time) -> None:
        """As for `fetched`."""

    def tick(self, now: Time) -> None:
        """Nothing here depends on time."""

    def give_way(self, reason: str, now: Time) -> None:
        """There is nobody to give way to."""

    def resign(self, now: Time) -> None:
        """As for `give_way`."""

    def drain(self) -> Effects:
        effects = Effects(commit=self._log.durable, reads=list(self._reads), transitions=self._transitions)
        if self._records:
            self._write += 1
            effects.write = Write(self._write, tuple(self._records))
            self._log.issued(self._write)
        self._records, self._reads, self._transitions = [], [], []
        return effects

    @property
    def deadline(self) -> int:
        return NEVER

    @property
    def standing(self) -> Standing:
        view = self._life.number
        return Standing("normal", "primary", view, self._me, True, self._log.op, self._log.durable, base=self._log.base)

    @property
    def incarnations(self) -> Mapping[int, int]:
        return {self._me: self._life.incarnation}

    def entry(self, op: int) -> Entry:
        return self._log.entry(op)

    @property
    def ignored(self) -> Mapping[str, int]:
        return self._ignored

    def viewstamp_of(self, op: int) -> Viewstamp:
        return self._log.viewstamp(op)
