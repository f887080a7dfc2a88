"""How VSR confirms reads: rounds ride on PREPARE and COMMIT, and every PREPAREOK echoes the newest one heard."""

from __future__ import annotations

from viewstamp.protocol import ReadHost
from vsr.messages import CommitPoint, GetCommit
from vsr.replica import VsrReplica, VsrStatus


class Rounds(ReadHost):
    """What reads need, told of a VSR replica."""

    def __init__(self, replica: VsrReplica) -> None:
        self._r = replica

    @property
    def now_ns(self) -> int:
        return self._r.now.monotonic

    @property
    def read_view(self) -> int:
        return self._r.view

    @property
    def leads(self) -> bool:
        return self._r.leads

    @property
    def follows(self) -> int:
        r = self._r
        # Who proposes another view has not heard its primary for a suspect time-out: a read need not wait for longer.
        return r.primary_of(r.view) if r.status is VsrStatus.NORMAL and not r.is_primary and not r.proposed else 0

    @property
    def read_index(self) -> int | None:
        return self._r.commit if self._r.commit >= self._r.view_began_at else None

    @property
    def newest_round(self) -> int:
        return self._r.round

    @property
    def confirmed_round(self) -> int:
        r = self._r
        return sorted([backup.round for backup in r.acknowledged.values()] + [r.round], reverse=True)[r.quorum - 1]

    def begin_round(self) -> None:
        self._r.round_due = True

    def ask(self, primary: int, view: int, number: int) -> None:
        self._r.send(primary, GetCommit(view, number))

    def tell(self, member: int, view: int, number: int, op: int) -> None:
        self._r.send(member, CommitPoint(view, number, op))
