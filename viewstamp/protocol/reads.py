"""Linearizable reads without a log entry, for any protocol with a primary that a majority can confirm.

A read waits until its primary has committed every op with which its view began (an earlier primary may have
answered for them), then takes the commit-number, then gets a majority's answer to a round that began after the read
arrived, from members still in this view: no later view had begun when the read arrived, so nothing newer was
answered. Any member may be asked; a backup asks its primary for the commit-number. (Raft's ReadIndex: Ongaro's
dissertation, section 6.4.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from random import Random

from viewstamp.protocol.configuration import Timeouts
from viewstamp.protocol.core import NEVER, ReadFailed, ReadReady

_PATIENCE = 4
"""A read is given up after so many suspect time-outs.

A primary goes on while its majority answers within one, and a read can need several such answers: the question of a
backup and its answer, what the view began with, and the round, whose answers wait for the write that is under way at a
backup and for the next one. A primary that has lost its majority gives way long before, and fails its reads with that.
"""


class ReadHost(ABC):
    """What reads need of their protocol."""

    @property
    @abstractmethod
    def now_ns(self) -> int:
        """Monotonic nanoseconds."""

    @property
    @abstractmethod
    def read_view(self) -> int:
        """The view that reads belong to; when it changes, those under way fail."""

    @property
    @abstractmethod
    def leads(self) -> bool:
        """Whether this member may confirm reads."""

    @property
    @abstractmethod
    def follows(self) -> int:
        """The primary that this member follows in this view and has heard lately, 0 if none."""

    @property
    @abstractmethod
    def read_index(self) -> int | None:
        """The op that a read arriving now must see; None while what the view began with is not committed."""

    @property
    @abstractmethod
    def newest_round(self) -> int:
        """The newest round begun in this view."""

    @property
    @abstractmethod
    def confirmed_round(self) -> int:
        """The newest round that a majority has answered, this member included."""

    @abstractmethod
    def begin_round(self) -> None:
        """Begin a round at the end of this turn."""

    @abstractmethod
    def ask(self, primary: int, view: int, number: int) -> None:
        """Ask the primary for a commit-number."""

    @abstractmethod
    def tell(self, member: int, view: int, number: int, op: int) -> None:
        """Answer a member's question."""


@dataclass(slots=True)
class _Read:
    """A read at the primary: asked here (`member` 0) or by a backup's question `number`."""

    member: int
    number: int
    expires_at: int
    round: int = 0
    index: int = 0


@dataclass(slots=True)
class _Question:
    """Reads of this backup that one question stands for."""

    reads: list[int]
    asked_at: int
    expires_at: int


class Reads:
    """The reads under way at one member. Durations are nanoseconds."""

    def __init__(self, host: ReadHost, random: Random, timeouts: Timeouts) -> None:
        self._host = host
        self._retry = timeouts.retry
        self._patience = _PATIENCE * timeouts.suspect
        self._view = host.read_view
        self._unready: list[_Read] = []
        self._waiting: list[_Read] = []
        self._fresh: list[int] = []
        self._questions: dict[int, _Question] = {}
        # Not from 0: an answer from before a restart, delayed, would meet a question of the same number.
        self._number = random.getrandbits(62)
        self._done: list[ReadReady | ReadFailed] = []

    def read(self, number: int) -> None:
        """A read arrived at this member."""
        if self._host.leads:
            self._unready.append(_Read(0, number, self._host.now_ns + self._patience))
        elif self._host.follows:
            self._fresh.append(number)
        else:
            self._done.append(ReadFailed(number, "no primary is known here"))

    def asked(self, member: int, number: int) -> None:
        """A backup asks. Asked again: the later question is answered too, with a round of its own."""
        self._unready.append(_Read(member, number, self._host.now_ns + self._patience))

    def told(self, number: int, op: int) -> bool:
        """The primary answered one of this backup's questions; False if it was not asked."""
        question = self._questions.pop(number, None)
        if question is None:
            return False
        self._done.extend([ReadReady(read, op) for read in question.reads])
        return True

    def tick(self) -> None:
        """Ask again, and give up what has waited too long."""
        now = self._host.now_ns
        for number, question in list(self._questions.items()):
            if now >= question.expires_at:
                del self._questions[number]
                self._done.extend([ReadFailed(read, "the primary does not answer") for read in question.reads])
            elif now >= question.asked_at + self._retry:
                question.asked_at = now
                if self._host.follows and self._host.read_view == self._view:  # else this turn ends with their failure
                    self._host.ask(self._host.follows, self._view, number)
        self._unready = self._expire(self._unready, now)
        self._waiting = self._expire(self._waiting, now)

    def _expire(self, reads: list[_Read], now: int) -> list[_Read]:
        if all(now < read.expires_at for read in reads):
            return reads
        expired = [read for read in reads if now >= read.expires_at and not read.member]
        self._done.extend([ReadFailed(read.number, "no majority answers") for read in expired])
        return [read for read in reads if now < read.expires_at]

    def before_close(self) -> None:
        """Close the turn's reads: one round at the primary, one question at a backup, for all of them."""
        host = self._host
        if not (self._unready or self._waiting or self._fresh or self._questions):
            self._view = host.read_view
            return
        if self._view != host.read_view:
            self._fail_all("the view changed")
            self._view = host.read_view
        elif not (host.leads or host.follows):
            self._fail_all("no primary is known here any more")
        if self._unready and host.leads:
            index = host.read_index
            if index is not None:
                for read in self._unready:
                    read.index, read.round = index, host.newest_round + 1
                self._waiting.extend(self._unready)
                self._unready = []
                host.begin_round()
        if self._fresh:
            self._number += 1
            self._questions[self._number] = _Question(self._fresh, host.now_ns, host.now_ns + self._patience)
            self._fresh = []
            host.ask(host.follows, self._view, self._number)

    @property
    def pending(self) -> bool:
        """Whether any read is under way, or answered and not told yet."""
        return bool(self._unready or self._waiting or self._fresh or self._questions or self._done)

    def after_close(self) -> list[ReadReady | ReadFailed]:
        """Answer what a majority has confirmed."""
        host = self._host
        if self._waiting and host.leads:
            confirmed = host.confirmed_round
            remaining: list[_Read] = []
            for read in self._waiting:
                if read.round > confirmed:
                    remaining.append(read)
                elif read.member:
                    host.tell(read.member, self._view, read.number, read.index)
                else:
                    self._done.append(ReadReady(read.number, read.index))
            self._waiting = remaining
        done, self._done = self._done, []
        return done

    def _fail_all(self, reason: str) -> None:
        numbers = [read.number for read in (*self._unready, *self._waiting) if not read.member]
        numbers += self._fresh
        for question in self._questions.values():
            numbers += question.reads
        self._done.extend([ReadFailed(number, reason) for number in numbers])
        self._unready, self._waiting, self._fresh, self._questions = [], [], [], {}

    @property
    def deadline(self) -> int:
        """When `tick` is wanted for reads."""
        if not (self._unready or self._waiting or self._questions):
            return NEVER
        times = [read.expires_at for read in (*self._unready, *self._waiting)]
        times += [min(q.asked_at + self._retry, q.expires_at) for q in self._questions.values()]
        return min(times, default=NEVER)
