"""What an outsider must know of one protocol to read its disks and its promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from operator import lt

from viewstamp.protocol import Core, Promise, State
from viewstamp.simulation.member import Disk
from vsr import (
    DoViewChange,
    DurableState,
    PrepareOk,
    RecoveryResponse,
    StartView,
    ViewstampedReplication,
)


class ProtocolRules(ABC):
    """One protocol as seen from outside."""

    core: type[Core]

    @abstractmethod
    def view_of(self, state: State) -> int:
        """The view (or term) that a durable state has reached."""

    @abstractmethod
    def broken_promise(self, message: Promise, disk: Disk) -> str:
        """What a message that is leaving promises and its sender's disk does not hold; empty if it holds all."""


class VsrRules(ProtocolRules):
    """Viewstamped Replication: what each of its promises says of the disk (VRR section 4, and the incarnations)."""

    core = ViewstampedReplication

    def view_of(self, state: State) -> int:
        return state.view if isinstance(state, DurableState) else 0

    def broken_promise(self, message: Promise, disk: Disk) -> str:
        state, op = disk.state, len(disk.entries)
        if not isinstance(state, DurableState):
            return "anything, before any state was saved"
        views = (state.view, state.last_normal_view)
        if isinstance(message, RecoveryResponse) and any(map(lt, state.incarnations, message.vector)):
            return f"to know incarnations {message.vector}; its disk says {state.incarnations}"
        if isinstance(message, DoViewChange) and views > (message.view, message.last_normal_view):
            # Made in a turn that then went on: it says what was, as if it had been under way for long.
            return ""
        if isinstance(message, StartView | RecoveryResponse) and state.view > message.view:
            return ""
        match message:
            case PrepareOk(view=view) if views != (view, view):
                return f"to be normal in view {view}; its disk says {views}"
            case PrepareOk() if op < message.op:
                return f"the log up to op {message.op}; its disk ends at {op}"
            case DoViewChange() if views != (message.view, message.last_normal_view):
                return f"views {(message.view, message.last_normal_view)}; its disk says {views}"
            case DoViewChange() if op != message.op:
                return f"a log that ends at op {message.op}; its disk ends at {op}"
            case StartView(view=view) | RecoveryResponse(view=view) if views != (view, view):
                return f"to be normal in view {view}; its disk says {views}"
            case StartView() | RecoveryResponse() if op < message.op:
                return f"the log up to op {message.op}; its disk ends at {op}"
            case _:
                return ""
