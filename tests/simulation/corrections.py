"""Every rule that corrects a paper, or adds to it, put back once: what then goes wrong must be noticed.

A `Correction` names the rule (a row of docs/divergences.md, or the module whose comment tells it), says in a sentence
what is put back in its place (what the paper has, or what one would do without thinking of it), and names rule tests
or golden scenarios that fail with that. The catalogues are in `corrections_vsr`, `corrections_vsr_recovery`,
`corrections_vsr_transfer`, `corrections_raft`, `corrections_shared` and `corrections_body`; which seeds of the fuzzers
notice it too is in `corrections_found`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tests.simulation.changes import Change, applied
from tests.simulation.mutants import MUTANTS
from tests.simulation.raft_mutants import RAFT_MUTANTS
from tests.simulation.stack_mutants import CATALOGUE
from viewstamp.protocol import Effects, Promise, Record, Truncate
from viewstamp.protocol.member import Member


@dataclass(frozen=True, slots=True)
class Correction:
    """A rule of ours, and its revert.

    `tests` fail with the revert: names of test functions, or of files below tests/scenarios. `harmless` says why no run
    of a fuzzer shows anything, where that is so: the rule serves speed, or another rule catches what it lets through.
    `needs` names the state in which alone something is seen, where seeds seldom come to it.
    `fuzzed_alone` says whether the protocol fuzzer can come across it; else only whole clusters have what it concerns.
    """

    rule: str
    revert: str
    protocol: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    harmless: str = ""
    needs: str = ""
    fuzzed_alone: bool = True

    @property
    def key(self) -> str:
        """What tells it apart."""
        return f"{self.protocol}: {self.revert}"

    @contextmanager
    def reverted(self) -> Iterator[None]:
        """The code without this rule; with it again afterwards."""
        with applied(self.changes):
            yield


class Catalogue:
    """The corrections of one part of the code, entered one by one."""

    def __init__(self, protocol: str, *, fuzzed_alone: bool = True) -> None:
        self.protocol = protocol
        self.entries: list[Correction] = []
        self._fuzzed_alone = fuzzed_alone

    def rule(
        self, rule: str, revert: str, *tests: str, protocol: str = "", harmless: str = "", needs: str = ""
    ) -> Callable[[Callable[[], list[Change]]], None]:
        """Enter a revert; the function gives what it replaces."""

        def enter(make: Callable[[], list[Change]]) -> None:
            self._enter(rule, revert, protocol, tuple(make()), tests, harmless, needs)

        return enter

    def known(self, rule: str, name: str, *tests: str, protocol: str = "", harmless: str = "", needs: str = "") -> None:
        """Enter a revert that is in a catalogue of hand-made bugs already, under that name."""
        bugs = [(each.protocol, each.name, each.patches) for each in (*MUTANTS, *RAFT_MUTANTS)]
        bugs += [(each.protocol, each.name, each.changes) for each in CATALOGUE]
        found = [changes for of, called, changes in bugs if (of, called) == (protocol or self.protocol, name)]
        if len(found) != 1:
            raise LookupError(f"no hand-made bug is called {name!r}, or more than one")
        self._enter(rule, name, protocol, found[0], tests, harmless, needs)

    def _enter(
        self,
        rule: str,
        revert: str,
        protocol: str,
        changes: tuple[Change, ...],
        tests: tuple[str, ...],
        harmless: str,
        needs: str,
    ) -> None:
        entry = Correction(rule, revert, protocol or self.protocol, changes, tests, harmless, needs, self._fuzzed_alone)
        if any(each.key == entry.key for each in self.entries):
            raise ValueError(f"{entry.key!r} is entered twice")
        self.entries.append(entry)


# What several reverts need.


def unless(owner: Any, name: str, condition: Callable[..., bool]) -> Change:
    """The function, but nothing where the condition holds of its arguments."""
    function = getattr(owner, name)

    def guarded(*arguments: Any, **named: Any) -> Any:
        return None if condition(*arguments) else function(*arguments, **named)

    return owner, name, guarded


def with_message(owner: Any, name: str, changed: Callable[..., Any]) -> Change:
    """A handler `(state, sender, message)` that is given another message: `changed` has the same arguments."""
    function = getattr(owner, name)

    def handler(state: Any, sender: int, message: Any) -> Any:
        return function(state, sender, changed(state, sender, message))

    return owner, name, handler


def sends(owner: Any, kind: type[object], changed: Callable[..., Any]) -> list[Change]:
    """Messages of this kind leave otherwise: `changed(state, message)`; whoever they are for."""
    send, broadcast, promise = owner.send, owner.broadcast, owner.promise

    def other(state: Any, message: Any) -> Any:
        return changed(state, message) if isinstance(message, kind) else message

    return [
        (owner, "send", lambda self, to, message: send(self, to, other(self, message))),
        (owner, "broadcast", lambda self, message: broadcast(self, other(self, message))),
        (owner, "promise", lambda self, to, message: promise(self, to, other(self, message))),
    ]


def in_two_writes() -> list[Change]:
    """What a turn cuts off goes from the disk in a write of its own; what takes its place comes with the next turn."""
    original = Member.take_effects
    held: WeakKeyDictionary[Member, tuple[list[Record], list[tuple[int, Promise]]]] = WeakKeyDictionary()

    def take_effects(self: Member) -> Effects:
        records, promises = held.pop(self, ([], []))
        self._flush_appended()
        self._records[:0], self._promises[:0] = records, promises
        cut = next((place for place, each in enumerate(self._records, 1) if isinstance(each, Truncate)), 0)
        if cut and not records and self._records[cut:]:
            held[self] = self._records[cut:], self._promises
            self._records, self._promises = self._records[:cut], []
        return original(self)

    return [(Member, "take_effects", take_effects)]


def whatever_waits_is_silence() -> list[Change]:
    """A disk is silent from when the oldest write under way was issued, whatever it has finished since."""

    def disk_silent_since(member: Member) -> int | None:
        return next(iter(member._issued.values()))[0] if member._issued else None

    return [(Member, "disk_silent_since", property(disk_silent_since))]
