"""Snapshots in a scenario: members take them when told to, and those that are wanted come from their sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256

from viewstamp.protocol import Core, Effects, Entry, Snapshot, Time, Wanted
from viewstamp.simulation.scenario_member import ScenarioMember
from viewstamp.simulation.scenario_text import snapshot_name

_SIZE = 1000


class SnapshotTransfers:
    """Which snapshots are wanted, and which are `held` back on their way to a member.

    Members keep the files of all that they have taken or fetched; `fail` is for one that is gone.

    `reach(a, b)` says whether two members can talk to each other. What happens is told to `say`, one line each.
    """

    def __init__(
        self, members: Mapping[int, ScenarioMember], reach: Callable[[int, int], bool], say: Callable[[str], None]
    ) -> None:
        self.held: set[int] = set()
        self._members = members
        self._reach = reach
        self._say = say
        self._wanted: dict[int, Wanted] = {}  # as last told
        self._files: dict[int, set[Snapshot]] = {member: set() for member in members}
        self._answering = 0  # the member that is just being told what has become of its transfer

    def take(self, member: int, op: int, keep: int, agreed: Mapping[int, Entry], now: Time) -> None:
        """A member takes a snapshot of what it has committed, up to `op`, and keeps so many entries before that."""
        digest = sha256(b"".join(agreed[each].encoded for each in range(1, op + 1))).digest()
        taken = Snapshot(agreed[op].view, op, agreed[op].stamp, _SIZE, digest)
        keep_after = max(0, op - keep)
        kept = f" and keeps what follows op {keep_after}" if keep else ""
        self._files[member].add(taken)
        self._say(f"{member} takes {snapshot_name(taken)}{kept}")
        self._members[member].compact(taken, keep_after, now)

    def observe(self, member: int, effects: Effects) -> None:
        """Tell what this turn has changed."""
        if effects.restore is not None:
            self._say(f"{member} installs {snapshot_name(effects.restore)}")
        before, wanted = self._wanted.get(member), effects.wanted
        if wanted is None:
            self._wanted.pop(member, None)
            if before is not None and member != self._answering:
                self._say(f"{member} needs {snapshot_name(before.snapshot)} no more")
        elif wanted != before:
            self._wanted[member] = wanted
            self._say(f"{member} needs {snapshot_name(wanted.snapshot)} from {wanted.source}")

    def ended(self, member: int, *, blank: bool) -> None:
        """A member's process has ended; where its disk is `blank`, what it has fetched is gone too."""
        self._wanted.pop(member, None)
        if blank:
            self._files[member].clear()

    def come(self, now: Time) -> bool:
        """Let one snapshot that is wanted, and not held, come from its source; False if there is none."""
        for member, wanted in self._wanted.items():
            if member not in self.held and self._reach(member, wanted.source):
                if wanted.snapshot in self._files[wanted.source]:
                    self._arrive(member, wanted.snapshot, now)
                else:
                    self.fail(member, now)
                return True
        return False

    def _arrive(self, member: int, snapshot: Snapshot, now: Time) -> None:
        self._say(f"{member} has {snapshot_name(snapshot)}")
        self._files[member].add(snapshot)
        self._answer(member, lambda core: core.fetched(snapshot, now), now)

    def fail(self, member: int, now: Time) -> bool:
        """The source of what a member wants does not have it any more, or does not answer; False if it wants none."""
        wanted = self._wanted.get(member)
        if wanted is None:
            return False
        self._say(f"{member} cannot have {snapshot_name(wanted.snapshot)} from {wanted.source}")
        self._answer(member, lambda core: core.fetch_failed(wanted.snapshot, now), now)
        return True

    def _answer(self, member: int, event: Callable[[Core], None], now: Time) -> None:
        self._answering = member
        self._members[member].act(event, now)
        self._answering = 0
