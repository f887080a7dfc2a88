"""A background task that lives as long as a block, without changing what the block raises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background(
    run: Callable[[], Awaitable[None]], close: Callable[[], None] = lambda: None
) -> AsyncGenerator[None, None]:
    """Run `run` beside the block, and `close` when either has ended. If it fails, the block is cancelled and its error
    is raised here, as itself.

    An exception from the block also leaves as itself, not in a group. Should both fail, the background's error is
    raised with the block's as its cause, to show both: the block's came of the other.
    """
    failure: BaseException | None = None
    escaped: BaseException | None = None
    async with trio.open_nursery() as nursery:

        async def guarded() -> None:
            nonlocal failure
            try:
                await run()
            except* trio.Cancelled:
                raise
            except* BaseException as group:  # noqa: BLE001 - every error ends the block, as itself
                failure = _single(group)
                close()
                nursery.cancel_scope.cancel()

        nursery.start_soon(guarded)
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - kept, and raised again below, outside the nursery's group
            escaped = error
        # Whoever cancelled the block from outside must not cut this end short: `close` is what releases the tasks
        # elsewhere that wait for this replica or client, and they would wait for ever.
        nursery.cancel_scope.shield = True
        nursery.cancel_scope.cancel()
    close()
    if failure is not None:
        raise failure from (None if escaped is None or _is_cancelled(escaped) else escaped)
    if escaped is not None:
        raise escaped


def _is_cancelled(error: BaseException) -> bool:
    """Whether nothing but cancellation is in it: a nursery in the block groups that of its tasks."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group, however deep. Several of one class are one failure, told by whoever met it: a full disk
    refuses the journal's write and a snapshot's at the same time. Others stay a group."""
    first, *others = leaves(group)
    return first if all(type(other) is type(first) for other in others) else group


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, however deep; of another error itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error
