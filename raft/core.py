"""Raft behind the contract: events are dispatched to the parts of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, assert_never, cast

from raft import election, replication, snapshots
from raft.invariants import Invariants
from raft.messages import (
    Appended,
    AppendEntries,
    Installing,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    RaftMessage,
    ReadIndex,
    ReadIndexReply,
    Rejected,
    RequestVote,
    TermAndVote,
    TimeoutNow,
    Vote,
    malformed,
)
from raft.server import LONGEST_STALL, Role, Server
from viewstamp.protocol import (
    NEVER,
    Configuration,
    Durable,
    Effects,
    Founded,
    Lost,
    MemberCore,
    Message,
    Origin,
    Proposal,
    Reads,
    RefusesLostDiskError,
    Snapshot,
    Standing,
    State,
    Time,
    check,
)


class Raft(MemberCore):
    """One member of a cluster that runs Raft (Ongaro and Ousterhout 2014; Ongaro's dissertation)."""

    name: ClassVar[str] = "raft"
    messages: ClassVar[Mapping[int, type[Message]]] = {
        80: PreVote,
        81: PreVoteReply,
        82: RequestVote,
        83: Vote,
        84: AppendEntries,
        85: Appended,
        86: Rejected,
        87: TimeoutNow,
        88: ReadIndex,
        89: ReadIndexReply,
        90: InstallSnapshot,
        91: Installing,
    }
    states: ClassVar[Mapping[int, type[State]]] = {129: TermAndVote}
    recovers_lost_disk: ClassVar[bool] = False

    def __init__(self, configuration: Configuration, me: int, origin: Origin, random: Random, now: Time) -> None:
        check(me in configuration.members, "member {} is not in the configuration", me)
        self._s = s = Server(configuration, me, random, now)
        match origin:
            case Founded(incarnations):
                s.incarnations = dict(zip(s.members, incarnations, strict=True))
                s.save()
            case Durable(state, entries, snapshot):
                kept = cast("TermAndVote", state)
                s.view = s.durable_view = kept.term
                s.vote = kept.vote
                s.incarnations = dict(zip(s.members, kept.incarnations, strict=True))
                s.resume(entries, snapshot)
            case Lost():
                raise RefusesLostDiskError("a Raft member cannot come back under its old identity without its data")
            case _:
                assert_never(origin)
        s.restart_election_timer()
        if (isinstance(origin, Founded) and me == s.members[0]) or not s.others:
            # One of them may as well begin; at first start there is no leader to disturb.
            s.election_at = now.monotonic
        self._reads = Reads(s, random, s.timeouts)
        self._invariants = Invariants(s)

    def receive(self, sender: int, incarnation: int, message: Message, now: Time) -> None:
        s = self._s
        s.now = now
        peer = cast("RaftMessage", message)
        if sender not in s.incarnations or sender == s.me:
            s.ignore("unknown sender")
        elif incarnation != s.incarnations[sender]:
            # A member whose data is gone does not come back under its old identity: it has forgotten its votes.
            s.ignore("another incarnation")
        elif wrong := malformed(peer, s.view):
            s.ignore(f"malformed: {wrong}")
        else:
            self._dispatch(sender, peer)

    def _dispatch(self, sender: int, message: RaftMessage) -> None:
        s = self._s
        match message:
            case AppendEntries():
                replication.on_append_entries(s, sender, message)
            case Appended():
                replication.on_appended(s, sender, message)
            case Rejected():
                replication.on_rejected(s, sender, message)
            case InstallSnapshot():
                snapshots.on_install_snapshot(s, sender, message)
            case Installing(term, number):
                replication.on_installing(s, sender, term, number)
            case PreVote():
                election.on_pre_vote(s, sender, message)
            case PreVoteReply():
                election.on_pre_vote_reply(s, sender, message)
            case RequestVote():
                election.on_request_vote(s, sender, message)
            case Vote():
                election.on_vote(s, sender, message)
            case TimeoutNow():
                election.on_timeout_now(s, sender, message)
            case ReadIndex():
                if s.leads and message.term == s.view:
                    self._reads.asked(sender, message.number)
                else:
                    s.ignore("READINDEX for another term or role")
            case ReadIndexReply():
                expected = message.term == s.view and sender == s.follows
                if not expected or not self._reads.told(message.number, message.index):
                    s.ignore("READINDEX answer that was not asked for")
            case _:
                assert_never(message)

    def propose(self, proposals: Sequence[Proposal], now: Time) -> int:
        self._s.now = now
        return replication.propose(self._s, proposals)

    def read(self, read: int, now: Time) -> None:
        self._s.now = now
        self._reads.read(read)

    def written(self, write: int, now: Time) -> None:
        s = self._s
        s.now = now
        s.finish_writes(write)
        election.written(s)  # The role first, then what counts in it; alike in VSR.
        replication.count_commit(s)

    def fetched(self, snapshot: Snapshot, now: Time) -> None:
        self._s.now = now
        snapshots.fetched(self._s, snapshot)

    def fetching(self, snapshot: Snapshot, now: Time) -> None:
        """Nothing hangs on it: INSTALLSNAPSHOT is repeated as the heartbeat."""

    def fetch_failed(self, snapshot: Snapshot, now: Time) -> None:
        self._s.now = now
        snapshots.fetch_failed(self._s, snapshot)

    def tick(self, now: Time) -> None:
        s = self._s
        s.now = now
        replication.tick(s)
        election.tick(s)
        self._reads.tick()

    def resign(self, now: Time) -> None:
        self._s.now = now
        self.transfer(replication.most_caught_up(self._s), now)

    def give_way(self, reason: str, now: Time) -> None:
        s = self._s
        s.now = now
        if s.role is Role.LEADER and s.others:
            s.stalled = LONGEST_STALL  # It leaves the election to others, or would win it as before.
            s.become_follower(s.view, 0, f"leader steps down: {reason}")

    def transfer(self, target: int, now: Time) -> None:
        """Hand leadership over to a member; completes or gives up within the suspect time-out (dissertation 3.10)."""
        self._s.now = now
        replication.transfer(self._s, target)

    def drain(self) -> Effects:
        s = self._s
        # 1. Reads ask before the turn is closed: the round that they need begins with this turn's APPENDENTRIES,
        #    and not with those of the next heartbeat.
        self._reads.before_close()
        # 2. To each follower what it lacks by now, however many events that came from.
        replication.close_turn(s)
        # 3. Reads are answered once the round has begun: a member that is alone is its own majority, at once. And
        #    before the effects are taken: a follower's question is answered with a message.
        reads = self._reads.after_close()
        # 4. Only now is the turn's write numbered: an answer waits for the entries, or the vote, of the same turn.
        effects = s.take_effects()
        effects.reads = reads
        # 5. What holds between turns need not hold within one.
        self._invariants.watch(s)
        return effects

    @property
    def pending(self) -> bool:
        s = self._s
        if s.pending or s.round_due or s.heartbeat_due or self._reads.pending:
            return True
        return s.role is Role.LEADER and any(p.next <= s.log.op and not p.full for p in s.progress.values())

    @property
    def deadline(self) -> int:
        s = self._s
        if s.role is Role.LEADER:
            deadline = min(s.heartbeat_at, s.check_quorum_at, s.transfer_ends_at)
        else:
            deadline = min(s.election_at, s.resend_at)
        return min(deadline, self._reads.deadline, NEVER)

    @property
    def leading(self) -> int:
        s = self._s
        return s.view if s.leads else -1

    @property
    def standing(self) -> Standing:
        s = self._s
        waiting = s.full if s.leader else f"{s.role.value} in term {s.view}: no leader is known"
        if s.transfer_to:
            waiting = f"handing over to member {s.transfer_to}"
        if s.installing is not None:
            waiting = f"fetching a snapshot from member {s.installing.source}"
        if s.leader and s.disk_trouble:
            waiting = s.disk_trouble
        primary = s.leader or None
        role = s.contract_role
        return Standing(
            s.role.value, role, s.view, primary, s.leads, s.log.op, s.commit, waiting, s.log.base, s.log.bytes
        )

    @property
    def _member(self) -> Server:
        return self._s
