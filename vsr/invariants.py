"""What always holds of a replica, in state and in change. Watched after every turn of every run.

An InvariantError from here is a defect of ours: messages are checked before they reach a handler.
"""

from __future__ import annotations

from viewstamp.protocol import check
from vsr.replica import VsrReplica, VsrStatus


class Invariants:
    """Remembers what must never go back."""

    def __init__(self, replica: VsrReplica) -> None:
        self._view = replica.view
        self._last_normal_view = replica.last_normal_view
        self._commit = replica.commit
        self._durable_view = replica.durable_view

    def watch(self, r: VsrReplica) -> None:
        """Raise InvariantError unless state and change are lawful."""
        log, view, normal, durable = r.log, r.view, r.last_normal_view, r.durable_view
        op, commit = log.op, r.commit
        lawful = (
            log.base <= commit <= op
            and log.durable <= op
            and self._last_normal_view <= normal <= view
            and self._durable_view <= durable <= view
            and self._view <= view
            and self._commit <= commit
            and (r.status is not VsrStatus.NORMAL or (normal == view and (durable == view or view == 0 or not r.leads)))
        )
        if not lawful:
            self._explain(r)
        self._view, self._last_normal_view, self._commit, self._durable_view = view, normal, commit, durable

    def _explain(self, r: VsrReplica) -> None:
        """Say which of them does not hold."""
        check(r.commit <= r.log.op, "commit-number {} beyond op-number {}", r.commit, r.log.op)
        check(r.commit >= r.log.base, "commit-number {} before the log's base {}", r.commit, r.log.base)
        check(r.log.durable <= r.log.op, "durable op {} beyond op-number {}", r.log.durable, r.log.op)
        check(r.last_normal_view <= r.view, "last normal view {} beyond view {}", r.last_normal_view, r.view)
        check(r.durable_view <= r.view, "durable view {} beyond view {}", r.durable_view, r.view)
        if r.status is VsrStatus.NORMAL:
            check(r.last_normal_view == r.view, "normal in view {}, last in {}", r.view, r.last_normal_view)
        if r.leads:
            check(r.durable_view == r.view or r.view == 0, "leads view {} that is not durable", r.view)
        check(r.view >= self._view, "view went back from {} to {}", self._view, r.view)
        check(
            r.last_normal_view >= self._last_normal_view,
            "last normal view went back from {} to {}",
            self._last_normal_view,
            r.last_normal_view,
        )
        check(r.commit >= self._commit, "commit-number went back from {} to {}", self._commit, r.commit)
        check(r.durable_view >= self._durable_view, "durable view went back to {}", r.durable_view)
