"""No message leaves that promises what its sender's disk does not hold: seen in the datagrams, and on the disk.

Nor one that acknowledges another log than that of the primary whom it tells: its length would say nothing.
Nor one in the name of an incarnation that the disk does not hold: after a restart its sender would be another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from transport.frame import incarnation_in
from transport.packing import WHOLE
from viewstamp.protocol import Core, InvariantError, Promise, State
from viewstamp.simulation.inhabitants import Node
from viewstamp.simulation.member import Disk
from viewstamp.simulation.power import incarnation_on
from viewstamp.simulation.rules import RULES
from viewstamp.simulation.trace_messages import parts_of
from viewstamp.simulation.verdict import ViolationError, require
from viewstamp.simulation.watch import Watch
from viewstamp.wire import make_codec

_MEMBER = "member-"
_REMEMBERED = 64


class _Held:
    """A disk image, as the rules of a protocol look at disks: its state, and a log of so many entries."""

    __slots__ = ("entries", "last_op", "state")

    def __init__(self, state: State | None, last_op: int) -> None:
        self.state = state
        self.entries = range(last_op)
        self.last_op = last_op


def _view_of(message: Promise) -> int:
    """VSR's view or Raft's term, which is the first field of each promise."""
    return int(getattr(message, fields(message)[0].name))


class PromiseWatch:
    """Reads what members send. Promises are small: a datagram carries each of them whole.

    Each node's disk is read once, if all is well, for its incarnation; everything else is known from `watch`.
    """

    def __init__(self, core_class: type[Core], watch: Watch, nodes: Mapping[int, Node]) -> None:
        self.promises = 0
        self._watch = watch
        self._disks = watch.disks
        self._nodes = nodes
        self._codec = make_codec(core_class)
        self._rules = RULES.get(core_class.name)
        kinds: Mapping[int, type[Any]] = core_class.messages
        self._tags = frozenset(tag for tag, kind in kinds.items() if issubclass(kind, Promise))
        self._states: dict[bytes, State] = {}

    def sent(self, source: str, destination: str, datagram: bytes) -> None:
        """A datagram leaves; places are as in "member-1".

        Raises:
          ViolationError: it promises too much.
        """
        if not source.startswith(_MEMBER):
            return
        self._look_at_incarnation(int(source.removeprefix(_MEMBER)), incarnation_in(datagram))
        if self._rules is None or not destination.startswith(_MEMBER):
            return
        for part, body in parts_of(datagram):
            if part == WHOLE and body[0] in self._tags:
                message = self._codec.decode(body)
                self._look(int(source.removeprefix(_MEMBER)), int(destination.removeprefix(_MEMBER)), message)

    def _look_at_incarnation(self, member: int, incarnation: int) -> None:
        disk = self._disks[member]
        if incarnation == disk.incarnation:
            return
        found, before = incarnation_on(self._nodes[member].disk), disk.incarnation
        require(
            found == incarnation, "promises", "member {} is {} by its word, {} by its disk", member, incarnation, found
        )
        require(found > before, "monotone", "member {}'s incarnation went back from {} to {}", member, before, found)
        disk.incarnation = found

    def _look(self, member: int, to: int, message: Promise) -> None:
        rules, disk = self._rules, self._disks[member]
        state = self._state(disk.state)
        if rules is None or (state is not None and _view_of(message) < rules.view_of(state)):
            return  # It waited for a write that became durable together with a later one: as if under way for long.
        self.promises += 1
        broken = rules.broken_promise(member, to, message, cast("Disk", _Held(state, disk.last_op)))
        if broken:
            raise ViolationError(
                "promises", f"member {member}'s {type(message).__name__} to member {to} promises {broken}"
            )
        self._verify_log_is_that_of(to, member, *rules.acknowledged(message))

    def _verify_log_is_that_of(self, primary: int, member: int, view: int, op: int) -> None:
        """What is acknowledged is the log of the primary, as it leads that view, and not just one as long."""
        disk, replica = self._disks[member], self._nodes[primary].replica
        behind_snapshot = disk.snapshot is not None and op <= disk.snapshot.op
        if not op or behind_snapshot or replica is None or not replica.leads or self._watch.view_of(primary) != view:
            return
        try:
            entry = replica.entry(op)
        except InvariantError:
            return  # It is in that log no more: what its snapshot holds is committed, and compared where it is applied.
        about = "member {} acknowledges the log of member {} up to op {}; its disk holds another entry there"
        require(disk.holds(op, entry.encoded), "promises", about, member, primary, op)

    def _state(self, encoded: bytes | None) -> State | None:
        if encoded is None:
            return None
        state = self._states.get(encoded)
        if state is None:
            if len(self._states) > _REMEMBERED:
                self._states.clear()
            state = self._states[encoded] = self._codec.decode(encoded)
        return state
