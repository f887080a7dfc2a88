"""One Raft server, driven by hand."""

from __future__ import annotations

from raft import (
    Appended,
    AppendEntries,
    PreVote,
    PreVoteReply,
    Raft,
    Rejected,
    RequestVote,
    TermAndVote,
    TimeoutNow,
    Vote,
)
from tests.protocol import driven
from tests.protocol.driven import WALL, entries, entry
from viewstamp.protocol import SECOND, Configuration, Durable, Entry


class Driven(driven.Driven):
    """A server and the test around it."""

    protocol = Raft

    @property
    def terms(self) -> list[int]:
        """The terms of the entries in its log."""
        return [self.core.entry(index).view for index in range(1, self.op + 1)]

    @property
    def saved(self) -> tuple[int, int]:
        """Term and vote on its disk."""
        assert isinstance(self.disk.state, TermAndVote)
        return self.disk.state.term, self.disk.state.vote

    def acknowledge(self, follower: int, match: int, *, number: int = 0, term: int | None = None) -> None:
        """A follower says that it holds the log up to `match`, in answer to round `number`."""
        self.receive(follower, Appended(self.view if term is None else term, match, number))

    def ask_around(self) -> None:
        """It hears no leader until it asks whether an election could be won."""
        while self.status not in ("pre-candidate", "leader"):
            self.tick()

    def stand(self) -> None:
        """It stands for election in the next term: enough others say that they would vote for it."""
        self.ask_around()
        for other in self._others:
            self.receive(other, PreVoteReply(self.view + 1, granted=True))

    def win(self) -> None:
        """It wins an election in the next term."""
        self.stand()
        for other in self._others:
            self.receive(other, Vote(self.view, granted=True))
        assert self.leads

    @property
    def _others(self) -> tuple[int, ...]:
        """As many others as a majority needs."""
        configuration = self.configuration
        return configuration.others(self.me)[: configuration.quorum - 1]


def log(*terms: int) -> tuple[Entry, ...]:
    """A log whose entries have these terms."""
    return tuple(entry(index, term, f"{term}.{index}") for index, term in enumerate(terms, 1))


def restarted(
    me: int,
    term: int,
    held: tuple[Entry, ...] = (),
    *,
    vote: int = 0,
    members: int = 3,
    eager: bool = True,
    configuration: Configuration | None = None,
) -> Driven:
    """A server that comes back with this on its disk, as a follower that knows no leader."""
    size = len(configuration.members) if configuration is not None else members
    state = TermAndVote(term, vote, (1,) * size)
    return Driven(me, members=members, origin=Durable(state, held), eager=eager, configuration=configuration)


def leader(
    term: int = 1, held: tuple[Entry, ...] = (), *, members: int = 3, configuration: Configuration | None = None
) -> Driven:
    """Member 1 as the leader of `term`, with this log and the no-op of its term behind it; nobody has that yet."""
    server = restarted(1, term - 1, held, members=members, configuration=configuration)
    server.win()
    server.forget()
    assert server.view == term
    return server


def heartbeat(term: int, prev: tuple[int, int] = (0, 0), commit: int = 0, number: int = 0) -> AppendEntries:
    """An AppendEntries without entries; `prev` is an index and its term."""
    return AppendEntries(term, prev[0], prev[1], (), commit, number)


def append(term: int, held: tuple[Entry, ...], after: int, commit: int = 0) -> AppendEntries:
    """An AppendEntries with what a leader with this log has beyond index `after`."""
    return AppendEntries(term, after, held[after - 1].view if after else 0, held[after:], commit, 0)


def exchange(one: Driven, other: Driven) -> None:
    """Messages between these two arrive until there are none."""
    kinds = (AppendEntries, Appended, Rejected, PreVote, PreVoteReply, RequestVote, Vote, TimeoutNow)
    for _ in range(1000):
        moved = False
        for source, target in ((one, other), (other, one)):
            for kind in kinds:
                for to, message in source.sent(kind):
                    if to == target.me:
                        moved = True
                        target.receive(source.me, message)
        if not moved:
            return
    raise AssertionError("they go on answering each other without end")


__all__ = [
    "SECOND",
    "WALL",
    "Driven",
    "append",
    "entries",
    "entry",
    "exchange",
    "heartbeat",
    "leader",
    "log",
    "restarted",
]
