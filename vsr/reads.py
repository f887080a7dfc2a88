"""Linearizable reads without a log entry.

A read waits until its primary has committed every op with which its view began (an earlier primary may have
answered for them), then takes the commit-number, then gets a majority's answer to a round that began after the read
arrived, from members still normal in this view: no later view had begun when the read arrived, so nothing newer was
answered. Any member may be asked; a backup asks its primary for the commit-number.
"""

from __future__ import annotations

from dataclasses import dataclass

from viewstamp.protocol import NEVER, ReadFailed, ReadReady
from vsr.messages import CommitPoint, GetCommit
from vsr.replica import Replica, Status


@dataclass(slots=True)
class _Read:
    """A read at the primary: asked here (`member` 0) or by a backup's GETCOMMIT `number`."""

    member: int
    number: int
    expires_at: int
    round: int = 0
    index: int = 0


@dataclass(slots=True)
class _Question:
    """Reads of this backup that one GETCOMMIT stands for."""

    reads: list[int]
    asked_at: int
    expires_at: int


class Reads:
    """The reads under way at one replica."""

    def __init__(self, replica: Replica) -> None:
        self._r = replica
        self._view = replica.view
        self._unready: list[_Read] = []
        self._waiting: list[_Read] = []
        self._fresh: list[int] = []
        self._questions: dict[int, _Question] = {}
        # Not from 0: an answer from before a restart, delayed, would meet a question of the same number.
        self._number = replica.random.getrandbits(62)
        self._done: list[ReadReady | ReadFailed] = []

    def read(self, number: int) -> None:
        """A read arrived at this member."""
        r = self._r
        if r.leads:
            self._unready.append(_Read(0, number, r.now.monotonic + r.timeouts.suspect))
        elif r.status is Status.NORMAL and not r.is_primary:
            self._fresh.append(number)
        else:
            self._done.append(ReadFailed(number, "no primary is known here"))

    def on_get_commit(self, sender: int, message: GetCommit) -> None:
        """A backup asks. Asked again: the later question is answered too, with a round of its own."""
        r = self._r
        if not r.leads or message.view != r.view:
            r.ignore("GETCOMMIT for another view or role")
        else:
            self._unready.append(_Read(sender, message.number, r.now.monotonic + r.timeouts.suspect))

    def on_commit_point(self, sender: int, message: CommitPoint) -> None:
        """The primary answered one of this backup's questions."""
        r = self._r
        question = self._questions.pop(message.number, None) if message.view == r.view else None
        if question is None or sender != r.primary_of(r.view):
            r.ignore("COMMITPOINT that was not asked for")
        else:
            self._done.extend([ReadReady(read, message.op) for read in question.reads])

    def tick(self) -> None:
        """Ask again, and give up what has waited too long."""
        now = self._r.now.monotonic
        for number, question in list(self._questions.items()):
            if now >= question.expires_at:
                del self._questions[number]
                self._done.extend([ReadFailed(read, "the primary does not answer") for read in question.reads])
            elif now >= question.asked_at + self._r.timeouts.retry:
                question.asked_at = now
                self._r.send(self._r.primary_of(self._r.view), GetCommit(self._r.view, number))
        for queue in (self._unready, self._waiting):
            for read in [read for read in queue if now >= read.expires_at]:
                queue.remove(read)
                if not read.member:
                    self._done.append(ReadFailed(read.number, "no majority answers"))

    def before_close(self) -> None:
        """Close the turn's reads: one round at the primary, one question at a backup, for all of them."""
        r = self._r
        if self._view != r.view or r.status is not Status.NORMAL:
            self._fail_all("the view changed")
            self._view = r.view
        if r.leads and self._unready and r.commit >= r.view_began_at:
            for read in self._unready:
                read.index = r.commit
                read.round = r.round + 1
            self._waiting.extend(self._unready)
            self._unready = []
            r.round_due = True
        if self._fresh:
            self._number += 1
            now = r.now.monotonic
            self._questions[self._number] = _Question(self._fresh, now, now + r.timeouts.suspect)
            self._fresh = []
            r.send(r.primary_of(r.view), GetCommit(r.view, self._number))

    def after_close(self) -> list[ReadReady | ReadFailed]:
        """Answer what a majority has confirmed."""
        r = self._r
        if self._waiting and r.leads:
            rounds = sorted([b.round for b in r.acknowledged.values()] + [r.round], reverse=True)
            confirmed = rounds[r.quorum - 1]
            remaining: list[_Read] = []
            for read in self._waiting:
                if read.round > confirmed:
                    remaining.append(read)
                elif read.member:
                    r.send(read.member, CommitPoint(r.view, read.number, read.index))
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
        times = [read.expires_at for read in (*self._unready, *self._waiting)]
        times += [min(q.asked_at + self._r.timeouts.retry, q.expires_at) for q in self._questions.values()]
        return min(times, default=NEVER)
