"""What changes at a member, for whoever waits for it, and for whoever reads it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from weakref import WeakSet

import trio

from viewstamp.protocol import Transition

_EVENTS_KEPT = 1024


class Announcer:
    """Tells of each transition, until it is closed. It waits for nobody."""

    def __init__(self) -> None:
        self.changed = trio.Event()
        """Set at the next transition, when another takes its place; and for good when this is closed."""
        self._closed = False
        # Weak: a generator that is closed, or dropped, before its first step runs none of its code.
        self._watchers: WeakSet[trio.MemorySendChannel[Transition]] = WeakSet()

    def announce(self, transitions: Sequence[Transition]) -> None:
        """These have happened, in this order."""
        self.changed.set()
        self.changed = trio.Event()
        for transition in transitions:
            for watcher in tuple(self._watchers):
                try:
                    watcher.send_nowait(transition)
                except trio.WouldBlock:
                    continue  # A reader that does not keep up misses the newest; the replica waits for nobody.

    def events(self) -> AsyncGenerator[Transition, None]:
        """Each transition from this call on."""
        send, receive = trio.open_memory_channel[Transition](_EVENTS_KEPT)
        if self._closed:
            send.close()
        else:
            self._watchers.add(send)  # Now: what happens before a reader's first step is not lost.
        return self._events(send, receive)

    async def _events(
        self, send: trio.MemorySendChannel[Transition], receive: trio.MemoryReceiveChannel[Transition]
    ) -> AsyncGenerator[Transition, None]:
        try:
            async for event in receive:
                yield event
        finally:
            self._watchers.discard(send)
            send.close()
            receive.close()

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self.changed.set()
        for watcher in self._watchers:
            watcher.close()
