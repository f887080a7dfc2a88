"""How long messages of the protocol fuzzer are on their way while stories are told: on slow links, or of slow kinds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from viewstamp.protocol import Message, Promise

if TYPE_CHECKING:
    from viewstamp.simulation.core_world import CoreWorld


class Links:
    """What stories have made slow, and which kinds of messages are seldom.

    `slow`: of a sender and an addressee, since when, at which pace the delay grows (0: not), and how long it is at
    least. `heavy`: how long entries are on their way, between two, while all else is quick, and nothing is lost.
    `slow_promises`: until when what a member seldom promises takes long. `twice`: whatever they say comes twice.
    """

    def __init__(self, world: CoreWorld) -> None:
        self.slow: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.heavy: dict[tuple[int, int], int] = {}
        self.slow_promises: dict[int, int] = {}
        self.twice: frozenset[int] = frozenset()
        self._world = world
        self._statement_kinds: Counter[type[Message]] = Counter()
        self._statements = 0

    def end(self) -> None:
        """All are as the plan has them."""
        self.slow.clear()
        self.heavy.clear()
        self.slow_promises.clear()
        self.twice = frozenset()

    def late(self, sender: int, to: int, message: Message, seldom: bool) -> int:
        """How long a message is on its way that is slow, 0 if it is not."""
        world, plan = self._world, self._world.plan
        if self.slow and (sender, to) in self.slow:
            # Where there is a pace: the later it was sent the longer it takes, so that it arrives for a long time.
            since, pace, extra = self.slow[sender, to]
            return 1 + plan.delay + extra + pace * (world.now - since)
        if self.heavy and (sender, to) in self.heavy and getattr(message, "entries", None):
            return plan.delay + self.heavy[sender, to]
        slows = seldom and isinstance(message, Promise)
        if slows and self.slow_promises and world.now < self.slow_promises.get(sender, 0) and world.up_to(4):
            return 1 + world.up_to(2 * world.configuration.timeouts.suspect)
        return world.up_to(plan.tail) if world.chance(plan.tail_chance) else 0

    def is_seldom(self, message: Message) -> bool:
        """Of a kind that makes up little of what is promised, or stated: a vote and a page, no acknowledgement."""
        if isinstance(message, Promise):
            return 4 * self._world.checkers.promise_kinds[type(message)] < self._world.checkers.promises
        kind = type(message)
        self._statements += 1
        self._statement_kinds[kind] += 1
        return 16 * self._statement_kinds[kind] < self._statements
