"""Looking at the members from outside while everything fails: what they say of themselves must fit together."""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic_ns

import trio

from viewstamp.cli.poll import until
from viewstamp.cli.soak.findings import LIVENESS, SAFETY, Finding
from viewstamp.shell.client import Client
from viewstamp.status import Status

_EVERY_S = 0.1
_PATIENCE_S = 0.5


class Watch:
    """How each member was last seen, and whether all that was ever seen agrees.

    Checked: no view is led by two members, nor by one in two lives; a member's view does not go back within a life;
    members that have applied equally many operations have equal digests, across all lives. `snapshots` are those that
    were seen, as (member, op), and `received` those seen on their way to a member.
    """

    def __init__(self, control: Client, members: Collection[int]) -> None:
        self._control = control
        self._members = tuple(members)
        self._lives = dict.fromkeys(members, 0)
        self._views: dict[int, int] = {}
        self._leaders: dict[int, tuple[int, int]] = {}
        self._digests: dict[int, tuple[bytes, int]] = {}
        self.snapshots: set[tuple[int, int]] = set()
        self.received: set[tuple[int, int]] = set()
        self.seen: dict[int, Status] = {}
        self._heard_ns: dict[int, int] = {}

    @property
    def view_changes(self) -> int:
        """How many views after the first were seen to be led."""
        return max(0, len(self._leaders) - 1)

    @property
    def primary(self) -> int:
        """Who leads the highest view, as last seen; 0 for nobody."""
        leading = [status for status in self.seen.values() if status.primary == status.member]
        return max(leading, key=lambda status: status.view).member if leading else 0

    def ended(self, member: int) -> None:
        """A member was ended. What is heard from now on is of another life."""
        self._lives[member] += 1
        self.seen.pop(member, None)
        self._views.pop(member, None)

    async def run(self) -> None:
        """Ask all members again and again; until cancelled.

        Raises:
          Finding: what they say does not fit together.
        """
        async with trio.open_nursery() as nursery:
            for member in self._members:
                nursery.start_soon(self._follow, member)

    async def _follow(self, member: int) -> None:
        while True:
            life, status = self._lives[member], None
            with trio.move_on_after(_PATIENCE_S):
                status = await self._control.status(member)
            if life == self._lives[member]:
                if status is None:
                    self.seen.pop(member, None)
                else:
                    self._take(member, life, status)
            await trio.sleep(_EVERY_S)

    def _take(self, member: int, life: int, status: Status) -> None:
        self.seen[member] = status
        self._heard_ns[member] = monotonic_ns()
        before = self._views.get(member, 0)
        if status.view < before:
            raise Finding(SAFETY, f"member {member}'s view went back from {before} to {status.view}")
        self._views[member] = status.view
        if status.primary == member and not status.waiting:
            leader = self._leaders.setdefault(status.view, (member, life))
            if leader != (member, life):
                raise Finding(
                    SAFETY, f"view {status.view} is led by (member, life) {leader} and by {(member, life)}, too"
                )
        snapshot = status.snapshot
        if snapshot.op:
            self.snapshots.add((member, snapshot.op))
        if snapshot.receiving is not None:
            self.received.add((member, snapshot.receiving.op))
        digest, other = self._digests.setdefault(status.applied, (status.digest, member))
        if digest != status.digest:
            raise Finding(
                SAFETY, f"members {other} and {member} have applied {status.applied} operations, with different digests"
            )

    async def caught_up(self, within_s: float) -> None:
        """Wait until every member serves, and has applied what was committed when this was called.

        Raises:
          Finding: it takes longer than `within_s`.
        """
        began_ns = monotonic_ns()
        target = max((status.commit for status in self.seen.values()), default=0)
        with trio.move_on_after(within_s):
            await until(lambda: all(self._serves(member, began_ns, target) for member in self._members))
            return
        raise Finding(LIVENESS, f"{within_s:g} s after all was healed: {self.complaints()}")

    def _serves(self, member: int, since_ns: int, applied: int) -> bool:
        status = self.seen.get(member)
        if status is None or self._heard_ns[member] < since_ns:
            return False
        return status.primary != 0 and not status.waiting and status.applied >= applied

    async def agree(self, within_s: float) -> None:
        """Wait until every member serves and all have applied the same; nobody may ask for anything new meanwhile.

        Raises:
          Finding: it takes longer than `within_s`.
        """
        began_ns = monotonic_ns()
        with trio.move_on_after(within_s):
            while True:
                states = {(status.applied, status.op, status.digest) for status in self.seen.values()}
                if len(states) == 1 and all(self._serves(member, began_ns, 0) for member in self._members):
                    return
                await trio.sleep(_EVERY_S)
        raise Finding(LIVENESS, f"the members do not come to agree within {within_s:g} s: {self.complaints()}")

    def complaints(self) -> str:
        """How the members see themselves, in a line."""
        told: list[str] = []
        for member in self._members:
            status = self.seen.get(member)
            if status is None:
                told.append(f"member {member}: no answer")
            else:
                place = f"view {status.view}, op {status.op}, commit {status.commit}, applied {status.applied}"
                told.append(f"member {member}: {status.status} {status.role}, {place}, {status.waiting or 'content'}")
        return "; ".join(told)
