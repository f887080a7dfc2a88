"""The search for an order of one key's operations that explains every result.

A depth-first search over which operation comes next. The calls and returns of the operations without a place yet are a
doubly linked list in order of time; every operation whose call is before the first return in it can come next, and that
return's own must come before any later call. Operations of unknown outcome are kept aside: they have no return.

What keeps the search short, beside the memory of what was tried:
- An operation that leaves the state as it is comes next at once, whatever else could: all others can still follow.
- Where results carry an order (a model's hints), of those that can come next only the smallest rank does; if the search
  is `by_rank`, nothing does before all of smaller ranks have a place. Either is far shorter now and then.
- What has a rank comes before what has none, such as a delete: that is kept for where nothing else leads on.
- Of equal operations of unknown outcome the one called first stands for all.
- Of those of unknown outcome a search may use `most_unknown` alone: what it does not find with few it may with more.
- One of unknown outcome is given a place last of all, and only where the next operation would not have led as far
  without it; nor where the model knows that it is of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from viewstamp.simulation.history import Operation
from viewstamp.simulation.model import Model

S = TypeVar("S")

_SHOWN_BEFORE = 4
_SHOWN_STATES = 6
_STEPS_FOR_A_REASON = 20_000
_NONE = -1


@dataclass(frozen=True, slots=True)
class Found:
    """There is such an order."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The budget of steps is used up."""


@dataclass(frozen=True, slots=True)
class Stuck(Generic[S]):
    """There is none: no order gets past the return of `operation`; `states` are those from which it was tried.

    `before` are the operations that came last in one order that got so far, `around` those it could have put next.
    """

    operation: Operation
    states: tuple[S, ...]
    before: tuple[Operation, ...]
    around: tuple[Operation, ...]


@dataclass(slots=True)
class _Frame(Generic[S]):
    """A point of the search: what to try next here.

    A move is (operation, state after it). Operations are numbered, those with a result first. `by` is the one that led
    here, and `skipped` the state before it if its outcome is unknown.
    """

    state: S
    by: int
    skipped: S | None
    frontier: int
    candidates: list[int]
    lowest: int | None
    moves: list[tuple[int, S]]
    settled: bool
    next: int = 0


@dataclass(slots=True)
class _Best(Generic[S]):
    """The farthest return that any order has come to."""

    frontier: int = -1
    states: list[S] = field(default_factory=list)
    path: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()


class OrderSearch(Generic[S]):
    """One search, of operations that were or may have been executed. `steps` counts the points visited."""

    def __init__(
        self,
        model: Model[S],
        operations: Sequence[Operation],
        budget: int,
        *,
        by_rank: bool = False,
        most_unknown: int | None = None,
    ) -> None:
        known = sorted((o for o in operations if o.ok), key=lambda operation: operation.call)
        effects = [(o, effect) for o in operations if o.ok is None and (effect := model.effect(o)) is not None]
        effects.sort(key=lambda pair: pair[0].call)
        self.steps = 0
        self._model = model
        self._budget = budget
        self._operations = known + [operation for operation, _ in effects]
        self._known = len(known)
        self._steps: list[Callable[[S], S | None]] = [model.step(operation) for operation in known]
        self._steps += [effect for _, effect in effects]
        self._tried: set[object] = set()
        self._best = _Best[S]()
        self._frames: list[_Frame[S]] = []
        self._link(known)
        hints = model.hints(operations)
        self._ranks = [None] * len(known) if hints is None else list(map(hints.rank, known))
        self._by_rank = sorted((rank, number) for number, rank in enumerate(self._ranks) if rank is not None)
        self._place_of = {number: place for place, (_, number) in enumerate(self._by_rank)}
        self._all_ranks = by_rank
        self._most_unknown = len(effects) if most_unknown is None else most_unknown
        self._placed = [False] * len(known)
        self._first_by_rank = 0  # all before have a place
        self._rules_out = None if hints is None else hints.rules_out
        self._uses = [] if hints is None else [hints.use(operation) for operation, _ in effects]
        groups: dict[str, list[int]] = {}
        for number, (operation, _) in enumerate(effects, self._known):
            groups.setdefault(repr((operation.op, operation.arg, operation.arg2)), []).append(number)
        self._groups = list(groups.values())
        self._group_of = {number: place for place, group in enumerate(self._groups) for number in group}
        self._taken = [0] * len(self._groups)
        self._open = 0  # a bit for each operation of unknown outcome that has a place

    def _link(self, known: Sequence[Operation]) -> None:
        """Make the list of events: numbers from 1 in order of time, calls before returns of the same time; 0 ends it.

        Two operations that touch in time thus count as concurrent.
        """
        events = [(operation.call, 0, number) for number, operation in enumerate(known)]
        events += [(o.ret, 1, n) for n, o in enumerate(known) if o.ret is not None]
        events.sort()
        self._times = [0, *(time for time, _, _ in events)]
        self._returns = [False, *(kind == 1 for _, kind, _ in events)]
        self._owner = [0, *(number for _, _, number in events)]
        self._call, self._return = [0] * len(known), [0] * len(known)
        for event, (_, kind, number) in enumerate(events, 1):
            (self._return if kind else self._call)[number] = event
        self._after = [*range(1, len(events) + 1), 0]
        self._before = [len(events), *range(len(events))]

    def run(self) -> Found | Stuck[S] | Exhausted:
        """Search, once."""
        backwards = self._backwards()
        if backwards is None:
            return self._search(self._budget)
        # There is no order, and this is a reason; a short search may find one that says more.
        result = self._search(min(self._budget, _STEPS_FOR_A_REASON))
        if not isinstance(result, Stuck):
            return backwards
        if backwards.operation not in result.around:
            return result
        others = [operation for operation in result.around if operation is not backwards.operation]
        return Stuck(backwards.operation, result.states, result.before, (result.operation, *others))

    def _backwards(self) -> Stuck[S] | None:
        """An operation of a smaller rank than one that was over when it began."""
        highest, of = 0, _NONE
        for event, number in enumerate(self._owner[1:], 1):
            rank = self._ranks[number]
            if rank is None:
                continue
            if self._returns[event]:
                if of == _NONE or rank > highest:
                    highest, of = rank, number
            elif of != _NONE and rank < highest:
                return Stuck(self._operations[number], (), (self._operations[of],), ())
        return None

    def _search(self, budget: int) -> Found | Stuck[S] | Exhausted:
        if not self._known:
            return Found()
        root = self._visit(self._model.initial, _NONE, None)
        if root is not None:
            self._frames.append(root)
        while self._frames:
            frame = self._frames[-1]
            move = self._next(frame)
            if move is None:
                self._frames.pop()
                self._take_back(frame.by)
                continue
            if self.steps >= budget:
                return Exhausted()
            number, state = move
            self._give_place(number)
            if not self._after[0]:
                return Found()
            child = self._visit(state, number, frame.state if number >= self._known else None)
            if child is None:
                self._take_back(number)
            else:
                self._frames.append(child)
        return self._stuck()

    def _visit(self, state: S, by: int, skipped: S | None) -> _Frame[S] | None:
        """The moves from here; None if it was visited before."""
        self.steps += 1
        candidates: list[int] = []
        event = self._after[0]
        while not self._returns[event]:
            candidates.append(self._owner[event])
            event = self._after[event]
        # All that was called later has no place yet, so these candidates tell which of the earlier have one.
        key = (event, tuple(candidates), self._open, state, skipped)
        if key in self._tried:
            return None
        self._tried.add(key)
        lowest = self._lowest(candidates)
        if event >= self._best.frontier:
            self._note(event, candidates, state, by)
        frame = _Frame(state, by, skipped, event, candidates, lowest, [], settled=False)
        for number in candidates:
            rank = self._ranks[number]
            if rank is not None and rank != lowest:
                continue
            after = self._steps[number](state)
            if after is None or self._leads_nowhere(number, after, skipped, lowest):
                continue
            if after == state:
                frame.moves, frame.settled = [(number, after)], True
                break
            frame.moves.append((number, after))
        frame.moves.sort(key=lambda move: self._ranks[move[0]] is None)
        return frame

    def _next(self, frame: _Frame[S]) -> tuple[int, S] | None:
        if frame.next == len(frame.moves):
            if frame.settled:
                return None
            frame.settled = True
            self._add_unknown(frame)
            if frame.next == len(frame.moves):
                return None
        move = frame.moves[frame.next]
        frame.next += 1
        return move

    def _add_unknown(self, frame: _Frame[S]) -> None:
        """Moves with operations of unknown outcome, tried when all else has failed."""
        end = self._times[frame.frontier]
        if self._open.bit_count() >= self._most_unknown:
            return
        candidates = [self._operations[number] for number in frame.candidates]
        for group, taken in zip(self._groups, self._taken, strict=True):
            if taken == len(group) or self._operations[group[taken]].call > end:
                continue
            number = group[taken]
            after = self._steps[number](frame.state)
            if after is None or after == frame.state:
                continue
            if self._uses and not self._uses[number - self._known](frame.state, after, candidates):
                continue
            if not self._leads_nowhere(number, after, frame.skipped, frame.lowest):
                frame.moves.append((number, after))

    def _leads_nowhere(self, number: int, after: S, skipped: S | None, lowest: int | None) -> bool:
        """Whether the lowest rank cannot follow, or the operation of unknown outcome before this is no help."""
        if lowest is not None and self._rules_out is not None and self._rules_out(after, lowest):
            return True
        if skipped is None:
            return False
        without = self._steps[number](skipped)
        return without is not None and self._model.covers(without, after)

    def _lowest(self, candidates: Sequence[int]) -> int | None:
        """The smallest rank that can come next."""
        if not self._all_ranks:
            return min((rank for number in candidates if (rank := self._ranks[number]) is not None), default=None)
        while self._first_by_rank < len(self._by_rank):
            rank, number = self._by_rank[self._first_by_rank]
            if not self._placed[number]:
                return rank
            self._first_by_rank += 1
        return None

    def _give_place(self, number: int) -> None:
        if number >= self._known:
            self._open |= 1 << (number - self._known)
            self._taken[self._group_of[number]] += 1
            return
        self._placed[number] = True
        for event in (self._call[number], self._return[number]):
            before, after = self._before[event], self._after[event]
            self._after[before], self._before[after] = after, before

    def _take_back(self, number: int) -> None:
        """Undo the last `_give_place`."""
        if number == _NONE:
            return
        if number >= self._known:
            self._open &= ~(1 << (number - self._known))
            self._taken[self._group_of[number]] -= 1
            return
        self._placed[number] = False
        self._first_by_rank = min(self._first_by_rank, self._place_of.get(number, self._first_by_rank))
        for event in (self._return[number], self._call[number]):
            self._after[self._before[event]] = self._before[self._after[event]] = event

    def _note(self, frontier: int, candidates: list[int], state: S, by: int) -> None:
        best = self._best
        if frontier > best.frontier:
            best.frontier, best.states = frontier, []
            best.path = (*(frame.by for frame in self._frames[-_SHOWN_BEFORE:]), by)
            best.candidates = tuple(candidates)
        if len(best.states) < _SHOWN_STATES and state not in best.states:
            best.states.append(state)

    def _stuck(self) -> Stuck[S]:
        best, operations = self._best, self._operations
        number = self._owner[best.frontier]
        path = [by for by in best.path if by != _NONE][-_SHOWN_BEFORE:]
        return Stuck(
            operations[number],
            tuple(best.states),
            tuple(operations[by] for by in path),
            tuple(operations[other] for other in best.candidates if other != number),
        )
