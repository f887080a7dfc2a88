"""What an outsider must know of one protocol to read its disks and its promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from operator import lt

from raft import (
    Appended,
    AppendEntries,
    Installing,
    InstallSnapshot,
    Raft,
    Rejected,
    RequestVote,
    TermAndVote,
    Vote,
)
from viewstamp.protocol import Core, Message, Promise, State
from viewstamp.simulation.member import Disk
from vsr import (
    Commit,
    DoViewChange,
    DurableState,
    GetState,
    Prepare,
    PrepareOk,
    RecoveryResponse,
    StartView,
    ViewstampedReplication,
)


class ProtocolRules(ABC):
    """One protocol as seen from outside."""

    core: type[Core]
    log_of_view_grows: bool
    """Whether a log on a disk never gets shorter for as long as it is the log of one view."""

    @abstractmethod
    def view_of(self, state: State) -> int:
        """The view (or term) that a durable state has reached."""

    @abstractmethod
    def taken_back(self, before: State, after: State) -> str:
        """What a durable state says that its successor denies, though it was said for good; empty if nothing."""

    @abstractmethod
    def support(self, state: State) -> tuple[int, int]:
        """In which view a durable state makes its member one of the majority that a primary needs, and for whom.

        0 for whoever the primary of that view is. View 0 needs nobody's support: members are founded in it.
        """

    @abstractmethod
    def broken_promise(self, sender: int, to: int, message: Promise, disk: Disk) -> str:
        """What a message that is leaving promises and its sender's disk does not hold; empty if it holds all."""

    @abstractmethod
    def log_view_of(self, state: State) -> int:
        """The view whose primary has ordered the log beside this state, as far as its member has acknowledged it."""

    @abstractmethod
    def acknowledged(self, message: Promise) -> tuple[int, int]:
        """The view whose log this message acknowledges, and up to which op; (0, 0) if it does not."""

    @abstractmethod
    def round_begun(self, message: Message) -> tuple[int, int]:
        """The view, and the round of reads that its primary begins by this message; (0, 0) if it begins none."""

    @abstractmethod
    def round_heard(self, message: Message) -> tuple[int, int]:
        """The view, and the newest of its rounds that the sender has heard of; (0, 0) if it does not say."""


class VsrRules(ProtocolRules):
    """Viewstamped Replication: what each of its promises says of the disk (VRR section 4, and the incarnations)."""

    core = ViewstampedReplication
    log_of_view_grows = True

    def view_of(self, state: State) -> int:
        return state.view if isinstance(state, DurableState) else 0

    def log_view_of(self, state: State) -> int:
        return state.last_normal_view if isinstance(state, DurableState) else 0

    def acknowledged(self, message: Promise) -> tuple[int, int]:
        return (message.view, message.op) if isinstance(message, PrepareOk) else (0, 0)

    def round_begun(self, message: Message) -> tuple[int, int]:
        return (message.view, message.round) if isinstance(message, Prepare | Commit) else (0, 0)

    def round_heard(self, message: Message) -> tuple[int, int]:
        return (message.view, message.round) if isinstance(message, PrepareOk | GetState) else (0, 0)

    def support(self, state: State) -> tuple[int, int]:
        return self.view_of(state), 0

    def taken_back(self, before: State, after: State) -> str:
        if not isinstance(before, DurableState) or not isinstance(after, DurableState):
            return ""
        if after.last_normal_view < before.last_normal_view:
            return f"that it was normal in view {before.last_normal_view}"
        known = any(map(lt, after.incarnations, before.incarnations))
        return f"that it knew incarnations {before.incarnations}" if known else ""

    def broken_promise(self, sender: int, to: int, message: Promise, disk: Disk) -> str:
        state, op = disk.state, disk.last_op
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


class RaftRules(ProtocolRules):
    """Raft: what each of its promises says of the disk (figure 2: what is updated before responding)."""

    core = Raft
    log_of_view_grows = False

    def view_of(self, state: State) -> int:
        return state.term if isinstance(state, TermAndVote) else 0

    def log_view_of(self, state: State) -> int:
        return state.term if isinstance(state, TermAndVote) else 0

    def acknowledged(self, message: Promise) -> tuple[int, int]:
        return (message.term, message.match) if isinstance(message, Appended) else (0, 0)

    def round_begun(self, message: Message) -> tuple[int, int]:
        return (message.term, message.round) if isinstance(message, AppendEntries | InstallSnapshot) else (0, 0)

    def round_heard(self, message: Message) -> tuple[int, int]:
        return (message.term, message.round) if isinstance(message, Appended | Rejected | Installing) else (0, 0)

    def support(self, state: State) -> tuple[int, int]:
        return (state.term, state.vote) if isinstance(state, TermAndVote) and state.vote else (0, 0)

    def taken_back(self, before: State, after: State) -> str:
        if not isinstance(before, TermAndVote) or not isinstance(after, TermAndVote):
            return ""
        if after.term == before.term and before.vote and after.vote != before.vote:
            return f"its vote for member {before.vote} in term {before.term}"
        return ""

    def broken_promise(self, sender: int, to: int, message: Promise, disk: Disk) -> str:
        state = disk.state
        if not isinstance(state, TermAndVote):
            return "anything, before any state was saved"
        match message:
            case RequestVote(term=term) | Vote(term=term) | Appended(term=term) | Rejected(term=term):
                if state.term < term:
                    return f"to be in term {term}; its disk says {state.term}"
                if state.term > term:
                    # Made in a turn that then went on: it says what was, as if it had been under way for long.
                    return ""
        match message:
            case RequestVote() if state.vote != sender:
                return f"its vote of term {state.term} for itself; its disk says {state.vote}"
            case Vote(granted=True) if state.vote != to:
                return f"its vote of term {state.term}; its disk says {state.vote}"
            case Appended(match=index) if disk.last_op < index:
                return f"the log up to index {index}; its disk ends at {disk.last_op}"
            case _:
                return ""


RULES: dict[str, ProtocolRules] = {rules.core.name: rules for rules in (VsrRules(), RaftRules())}
"""By the protocol's name."""
