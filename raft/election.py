"""Elections (section 5.2, 5.4.1; dissertation 4.2.3 and 9.6): pre-vote, leader stickiness and check-quorum, together.

Pre-vote keeps a member that was cut off from forcing a new term when it returns. Stickiness keeps members that hear
a leader from helping to depose it. Check-quorum makes a leader that a majority no longer hears step down, so that the
other two cannot keep a useless leader for ever.

Invariant kept: at most one leader per term. Each member votes once per term, durably before the vote leaves, and only
for a log at least as up to date as its own.
"""

from __future__ import annotations

from raft.messages import PreVote, PreVoteReply, RequestVote, TimeoutNow, Vote
from raft.server import Progress, Role, Server
from viewstamp.protocol import NEVER, Kind, Proposal


def tick(s: Server) -> None:
    """Nobody leads: ask whether an election could be won. Candidates say again what may have been lost."""
    now = s.now.monotonic
    if s.role is Role.LEADER:
        return
    if s.role is Role.CANDIDATE and s.write_done < s.vote_write:
        # What asks for votes waits for the same disk as my own, and is not lost. Said again, or in one term after the
        # other, it would pile up for as long as the disk hangs. The time-out begins when the others can be asked.
        s.election_at = max(s.election_at, now + s.timeouts.suspect)
        s.resend_at = now + s.timeouts.retry
    elif now >= s.election_at:
        start_pre_vote(s, "no leader heard" if s.role is Role.FOLLOWER else "election not won in time")
    elif now >= s.resend_at:
        _ask_again(s)


def start_pre_vote(s: Server, reason: str) -> None:
    """Ask without changing anything but the role: neither term, nor vote, nor anyone's timer."""
    if s.role is Role.CANDIDATE:
        s.stalled += 1
    s.role = Role.PRE_CANDIDATE
    s.leader = 0
    s.installing = None
    s.votes = {s.me: True}
    s.transferred = False
    s.restart_election_timer()
    s.explain(reason)
    _ask_again(s)
    _stand_if_welcome(s)


def _ask_again(s: Server) -> None:
    s.resend_at = s.now.monotonic + s.timeouts.retry
    for other in s.others:
        if other not in s.votes:
            if s.role is Role.PRE_CANDIDATE:
                s.send(other, PreVote(s.view + 1, s.log.op, s.last_term))
            elif s.role is Role.CANDIDATE:
                s.promise(other, RequestVote(s.view, s.log.op, s.last_term, s.transferred))


def _stand_if_welcome(s: Server) -> None:
    if s.role is Role.PRE_CANDIDATE and _granted(s) >= s.quorum:
        stand(s, "a majority would vote for it")


def _granted(s: Server) -> int:
    """Votes by member, each counted once however often it arrives."""
    return sum(s.votes.values())


def stand(s: Server, reason: str, *, transferred: bool = False) -> None:
    """Stand for election in the next term; my own vote counts when it is durable."""
    s.view += 1
    s.vote = s.me
    s.role = Role.CANDIDATE
    s.leader = 0
    s.installing = None
    s.votes = {}
    s.transferred = transferred
    s.save()
    s.vote_write = s.next_write()
    s.restart_election_timer()
    s.explain(reason)
    _ask_again(s)


def written(s: Server) -> None:
    """My own vote may have become durable."""
    if s.role is Role.CANDIDATE and s.write_done >= s.vote_write and s.me not in s.votes:
        s.votes[s.me] = True
        _lead_if_elected(s)


def _up_to_date(s: Server, last_term: int, last_index: int) -> bool:
    """The voter's table (5.4.1): the later last term wins, then the longer log. Lexicographic, not both at once."""
    return (last_term, last_index) >= (s.last_term, s.log.op)


def _sticks(s: Server) -> bool:
    """Whether a working leader was heard within the shortest election time-out (dissertation 4.2.3)."""
    if s.role is Role.LEADER:
        return True
    return s.leader != 0 and s.now.monotonic - s.heard_leader_at < s.timeouts.suspect


def on_pre_vote(s: Server, sender: int, message: PreVote) -> None:
    """Would I vote for it? Answering changes nothing here."""
    if message.term > s.view and _up_to_date(s, message.last_term, message.last_index) and not _sticks(s):
        s.send(sender, PreVoteReply(message.term, granted=True))
    else:
        # Also to an earlier term: left without an answer, a member that is behind could ask for ever. But only a term
        # that is durable is told, as in any answer (figure 2): a candidate whose disk hangs is in a later one, which
        # would end the asker's own attempt, though nobody is asked to vote in it.
        s.send(sender, PreVoteReply(s.durable_view, granted=False))


def on_pre_vote_reply(s: Server, sender: int, message: PreVoteReply) -> None:
    """Count who would vote for me, for the term that I asked about."""
    if not message.granted:
        if message.term > s.view:
            s.become_follower(message.term, 0, f"member {sender} is in a later term")
        return
    if s.role is not Role.PRE_CANDIDATE or message.term != s.view + 1:
        s.ignore("PREVOTE answer to an earlier question")
        return
    s.votes[sender] = True
    _stand_if_welcome(s)


def on_request_vote(s: Server, sender: int, message: RequestVote) -> None:
    """Vote once per term, durably; the same candidate asking again gets the same answer."""
    if message.term > s.view:
        if _sticks(s) and not message.transfer:
            s.ignore("REQUESTVOTE while a leader is heard")
            return
        s.become_follower(message.term, 0, f"member {sender} stands for election")
    elif message.term < s.view:
        s.promise(sender, Vote(s.view, granted=False))
        return
    granted = s.vote in (0, sender) and _up_to_date(s, message.last_term, message.last_index)
    if granted and s.vote == 0:
        s.vote = sender
        s.save()
        if s.role is Role.PRE_CANDIDATE:
            # Else the answers to its own question could still make it stand, against the one it has voted for.
            s.become_follower(s.view, 0, f"votes for member {sender}")
        s.restart_election_timer()
    # Seeing a term is not granting a vote: a later term was adopted above either way.
    s.promise(sender, Vote(s.view, granted))


def on_vote(s: Server, sender: int, message: Vote) -> None:
    """Count votes of this term."""
    if message.term > s.view:
        s.become_follower(message.term, 0, f"member {sender} is in a later term")
    elif s.role is not Role.CANDIDATE or message.term != s.view:
        s.ignore("VOTE of an earlier election")
    else:
        s.votes[sender] = message.granted
        _lead_if_elected(s)


def _lead_if_elected(s: Server) -> None:
    if s.role is Role.CANDIDATE and s.votes.get(s.me) and _granted(s) >= s.quorum:
        _lead(s)


def _lead(s: Server) -> None:
    """Lead this term, and begin it with a no-op: only an entry of its own term lets a leader commit (5.4.2, 6.4)."""
    now = s.now.monotonic
    s.role = Role.LEADER
    s.leader = s.me
    s.stalled = 0
    s.leading_since = now
    s.election_at = s.resend_at = NEVER
    s.progress = {other: Progress(next=s.log.op + 1) for other in s.others}
    s.check_quorum_at = now + s.timeouts.suspect // 2
    s.heartbeat_at = now + s.timeouts.heartbeat
    s.round = 0
    s.measure_pipeline()
    s.term_began_at = s.order([Proposal(Kind.NOOP, 0, 0, 0, b"", 0)])
    s.explain("elected")


def on_timeout_now(s: Server, sender: int, message: TimeoutNow) -> None:
    """The leader of this term wants me to take over: no pre-vote, and the others are told not to stick to it."""
    if s.role is Role.FOLLOWER and message.term == s.view and s.leader == sender:
        stand(s, f"member {sender} hands over", transferred=True)
    else:
        s.ignore("TIMEOUTNOW from no present leader")
