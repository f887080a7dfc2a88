"""What always holds of a server, in state and in change. Watched after every turn of every run."""

from __future__ import annotations

from raft.server import Role, Server
from viewstamp.protocol import check


class Invariants:
    """Remembers what must never go back."""

    def __init__(self, server: Server) -> None:
        self._term = server.view
        self._vote = server.vote
        self._commit = server.commit

    def watch(self, s: Server) -> None:
        """Raise InvariantError unless state and change are lawful."""
        check(s.commit <= s.log.op, "commit index {} beyond the log's end {}", s.commit, s.log.op)
        check(s.commit >= s.log.base, "commit index {} before the log's base {}", s.commit, s.log.base)
        check(s.log.durable <= s.log.op, "durable index {} beyond the log's end {}", s.log.durable, s.log.op)
        check(s.last_term <= s.view, "an entry of term {} in term {}", s.last_term, s.view)
        check(s.view >= self._term, "term went back from {} to {}", self._term, s.view)
        if s.view == self._term and self._vote:
            check(s.vote == self._vote, "vote of term {} changed from {} to {}", s.view, self._vote, s.vote)
        check(s.commit >= self._commit, "commit index went back from {} to {}", self._commit, s.commit)
        if s.role is Role.LEADER:
            check(s.vote == s.me, "leads term {} without its own vote", s.view)
            check(s.durable_view == s.view, "leads term {} that is not durable", s.view)
            for other, progress in s.progress.items():
                check(
                    progress.match < progress.next,
                    "member {}: match {} >= next {}",
                    other,
                    progress.match,
                    progress.next,
                )
        self._term, self._vote, self._commit = s.view, s.vote, s.commit
