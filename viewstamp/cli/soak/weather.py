"""What the network does during a soak: bad weather on all links, and cuts of some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from transport import Address, LinkFaults, Network

T = TypeVar("T")

_MILLISECOND = 1_000_000
CALM = LinkFaults(delay_base_ns=0, delay_mean_ns=0)
WEATHER = {
    "loss": LinkFaults(loss=0.1, delay_base_ns=0, delay_mean_ns=100_000),
    "heavy loss": LinkFaults(loss=0.3, delay_base_ns=0, delay_mean_ns=100_000),
    "delay": LinkFaults(delay_base_ns=5 * _MILLISECOND, delay_mean_ns=10 * _MILLISECOND),
    "duplication": LinkFaults(duplicate=0.3, delay_base_ns=0, delay_mean_ns=_MILLISECOND),
    "reordering": LinkFaults(reorder=0.3, reorder_ns=60 * _MILLISECOND, delay_base_ns=0, delay_mean_ns=_MILLISECOND),
    "replay, corruption": LinkFaults(replay=0.1, corrupt=0.02, delay_base_ns=0, delay_mean_ns=_MILLISECOND),
    "storm": LinkFaults(loss=0.1, duplicate=0.1, corrupt=0.01, replay=0.05, reorder=0.2, reorder_ns=30 * _MILLISECOND),
}


@dataclass(frozen=True, slots=True)
class Parties:
    """Whom the network connects, by the names it knows them by."""

    members: Sequence[int]
    clients: Sequence[str]


class Weather:
    """Changes what `network` does. Each cut returns, in a few words, who is concerned."""

    def __init__(self, network: Network, parties: Parties, primary: Callable[[], int], random: Random) -> None:
        self._network = network
        self._parties = parties
        self._primary = primary
        self._random = random
        self._cuts: dict[str, Callable[[], str]] = {
            "isolated member": self._isolate,
            "deaf member": self._deafen,
            "mute member": self._mute,
            "partition": self._part,
            "bridge": self._bridge,
            "cut link": self._cut_link,
            "one-way cut": self._cut_one_way,
            "clients cut off": self._part_clients,
        }

    def turn_bad(self) -> tuple[str, str]:
        """Let all links fail in one way from now on; returns its name."""
        kind = self._random.choice(list(WEATHER))
        self._network.faults = WEATHER[kind]
        return kind, ""

    def cut(self) -> tuple[str, str]:
        """Cut something; returns the kind of cut, and who is concerned."""
        kind = self._random.choice(list(self._cuts))
        return kind, self._cuts[kind]()

    def clear(self) -> None:
        """No faults and no cuts."""
        self._network.heal()
        self._network.faults = CALM

    def _anyone(self) -> int:
        """Any member; the primary more often than others, for that is where it hurts."""
        primary = self._primary()
        return primary if primary and self._random.random() < 0.5 else self._random.choice(self._parties.members)

    def _two(self) -> tuple[int, int]:
        one = self._anyone()
        others = [member for member in self._parties.members if member != one]
        return one, self._random.choice(others or [one])

    def _isolate(self) -> str:
        member = self._anyone()
        self._network.isolate(member)
        return f"{member}"

    def _deafen(self) -> str:
        member = self._anyone()
        self._network.isolate(member, outbound=False)
        return f"{member}"

    def _mute(self) -> str:
        member = self._anyone()
        self._network.isolate(member, inbound=False)
        return f"{member}"

    def _cut_link(self) -> str:
        one, other = self._two()
        self._separate([one], [other])
        return f"{one} | {other}"

    def _cut_one_way(self) -> str:
        one, other = self._two()
        self._network.cut(one, other)
        return f"{one} to {other}"

    def _part(self) -> str:
        """Two groups, the clients with one or the other of them."""
        one, other = self._halves(self._parties.members)
        some, rest = self._halves(self._parties.clients)
        self._separate([*one, *some], [*other, *rest])
        return f"{one} | {other}"

    def _bridge(self) -> str:
        """Two groups of members with one between them that reaches both."""
        between = self._anyone()
        one, other = self._halves([member for member in self._parties.members if member != between])
        self._separate(one, other)
        return f"{one} | {between} | {other}"

    def _part_clients(self) -> str:
        """The clients lose one member, which its peers still hear."""
        member = self._anyone()
        self._separate([member], self._parties.clients)
        return f"from {member}"

    def _halves(self, of: Sequence[T]) -> tuple[list[T], list[T]]:
        shuffled = self._random.sample(of, len(of))
        half = self._random.randint(len(of) // 2, (len(of) + 1) // 2)
        return shuffled[:half], shuffled[half:]

    def _separate(self, some: Sequence[Address], others: Sequence[Address]) -> None:
        for one in some:
            for other in others:
                self._network.cut(one, other)
                self._network.cut(other, one)
