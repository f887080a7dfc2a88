"""Leaving out of a list what is not needed: delta debugging, in passes over ever smaller pieces.

Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002); here a pass goes on where it left out
something instead of beginning again, which is quicker where much can go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Item = TypeVar("Item")


def reduce_items(
    items: tuple[Item, ...], attempt: Callable[[tuple[Item, ...]], tuple[Item, ...] | None], finest: int = 1
) -> tuple[Item, ...]:
    """Leave out as much as can be left out, in pieces of at least `finest`: of what is returned none can be left out.

    `attempt` tells whether what it is given is enough: it returns that, or a beginning of it that is enough, too, and
    None if it is not. `items` themselves are enough. All is tried first, then halves, and so on, from the beginning.
    """
    size = max(1, len(items))
    while items:
        start, reduced = 0, False
        while start < len(items):
            kept = attempt(items[:start] + items[start + size :])
            if kept is not None:
                items, reduced = kept, True
            else:
                start += size
        if size <= finest and not reduced:
            break
        size = max(finest, min(size, len(items)) // 2)
    return items


def smaller_numbers(number: int, least: int) -> tuple[int, ...]:
    """Numbers to try instead of this one, the boldest first."""
    tried = (least, number // 4, number // 2, number - 1)
    return tuple(dict.fromkeys(other for other in tried if least <= other < number))
