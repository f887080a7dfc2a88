"""Which seed of a fuzzer notices which revert; `corrections_table --hunt ... --rewrite` writes it."""

from __future__ import annotations

from typing import NamedTuple


class Found(NamedTuple):
    """`level` is "core" (protocols alone) or "cluster" (everything); the seed may have moved on by now."""

    level: str
    seed: int
    property: str


FOUND: dict[str, Found] = {
    "raft: INSTALLING counts for commit": Found(level="cluster", seed=1, property="majority"),
    "raft: a candidate asks for votes before its own is durable": Found(level="core", seed=0, property="promises"),
    "raft: a follower acknowledges its whole log": Found(level="core", seed=0, property="promises"),
    "raft: a follower commits up to the end of its log": Found(level="core", seed=11, property="agreement"),
    "raft: a follower that falls behind the log's base is asked to follow what is gone": Found(
        level="cluster", seed=1, property="convergence"
    ),
    "raft: a heartbeat begins with what the follower is known to hold": Found(
        level="core", seed=33, property="liveness"
    ),
    "raft: a leader that nobody answers goes on leading": Found(level="core", seed=27, property="liveness"),
    "raft: a lost request is never sent again": Found(level="core", seed=0, property="liveness"),
    "raft: a member that lost its disk begins anew under its old identity": Found(
        level="core", seed=38, property="complete log"
    ),
    "raft: a read is served before the first commit of the term": Found(level="core", seed=19, property="reads"),
    "raft: a read is served without asking a majority": Found(level="core", seed=10, property="reads"),
    "raft: a round that began before the read confirms it": Found(level="core", seed=56, property="reads"),
    "raft: a snapshot counts as acknowledged before its installation is durable": Found(
        level="core", seed=0, property="promises"
    ),
    "raft: a transfer of leadership has no end": Found(level="core", seed=79, property="liveness"),
    "raft: a vote is not asked for twice": Found(level="core", seed=2, property="liveness"),
    "raft: a write in flight counts for the entries that replaced those it holds": Found(
        level="core", seed=0, property="invariant"
    ),
    "raft: every request cuts the log to its own end": Found(level="core", seed=0, property="promises"),
    "raft: no pre-vote": Found(level="core", seed=2, property="liveness"),
    "raft: no pre-vote, and nobody sticks to a leader": Found(level="core", seed=2, property="liveness"),
    "raft: nobody sticks to a leader whom it hears": Found(level="core", seed=2, property="liveness"),
    "raft: the leader counts itself before its write is durable": Found(level="core", seed=0, property="majority"),
    "raft: the vote is cleared when a candidate begins to follow in its own term": Found(
        level="core", seed=0, property="monotone"
    ),
    "raft: the vote is not in the durable state": Found(level="core", seed=0, property="promises"),
    "raft: votes are counted instead of voters": Found(level="core", seed=38, property="complete log"),
    "raft: what lies below the commit index counts as a conflict": Found(level="core", seed=76, property="liveness"),
    "vsr: COMMIT carries no round": Found(level="cluster", seed=5, property="service"),
    "vsr: COMMIT is not answered by who has committed everything": Found(level="core", seed=2, property="liveness"),
    "vsr: DOVIEWCHANGE leaves before the view is durable": Found(level="core", seed=0, property="promises"),
    "vsr: PREPAREOK leaves before the log is durable": Found(level="core", seed=0, property="promises"),
    "vsr: RECOVERY is answered before the new incarnation is durable": Found(level="core", seed=5, property="promises"),
    "vsr: RECOVERY of an incarnation that is older than a known one is not answered": Found(
        level="core", seed=18, property="liveness"
    ),
    "vsr: STARTVIEW leaves before log and last normal view are durable": Found(
        level="core", seed=0, property="promises"
    ),
    "vsr: a backup that hears its primary goes along with a proposal": Found(level="core", seed=2, property="liveness"),
    "vsr: a blank disk founds the cluster again": Found(level="cluster", seed=2, property="durability"),
    "vsr: a blank member beside a founded cluster takes this for its first start": Found(
        level="cluster", seed=2, property="durability"
    ),
    "vsr: a commit-number beyond the log is taken": Found(level="core", seed=0, property="invariant"),
    "vsr: a confirmed read is served from whatever is applied": Found(level="cluster", seed=0, property="viewstamps"),
    "vsr: a duplicated STARTVIEW is applied again": Found(level="core", seed=0, property="invariant"),
    "vsr: a heartbeat does not show what was missed": Found(level="core", seed=4, property="liveness"),
    "vsr: a late duplicate lowers the mark": Found(level="cluster", seed=1, property="exactly once"),
    "vsr: a new primary begins before its log is durable": Found(level="core", seed=1, property="one primary"),
    "vsr: a primary resumes its view after a restart": Found(level="core", seed=0, property="one primary"),
    "vsr: a primary that gives way goes on with its heartbeats": Found(level="core", seed=0, property="liveness"),
    "vsr: a primary that nobody answers goes on": Found(level="core", seed=53, property="liveness"),
    "vsr: a proposal is not withdrawn when the primary is heard again": Found(
        level="core", seed=3, property="liveness"
    ),
    "vsr: a read is served before what the view began with is committed": Found(
        level="core", seed=14, property="reads"
    ),
    "vsr: a read is served without asking a majority": Found(level="core", seed=10, property="reads"),
    "vsr: a read takes the commit-number of whoever is asked": Found(level="core", seed=2, property="reads"),
    "vsr: a request with a lower number than one that was executed counts as a duplicate": Found(
        level="cluster", seed=0, property="answers"
    ),
    "vsr: a round that began before the read confirms it": Found(level="core", seed=10, property="reads"),
    "vsr: a superseded incarnation comes back": Found(level="core", seed=62, property="liveness"),
    "vsr: a timer enters the next view": Found(level="core", seed=3, property="liveness"),
    "vsr: a view is entered without being saved": Found(level="core", seed=0, property="promises"),
    "vsr: a working primary goes along with a proposal": Found(level="core", seed=2, property="liveness"),
    "vsr: a write in flight counts for the entries that replaced those it holds": Found(
        level="core", seed=0, property="promises"
    ),
    "vsr: an entry has the time of its primary's clock": Found(level="cluster", seed=3, property="agreed time"),
    "vsr: duplicate-executed": Found(level="cluster", seed=1, property="exactly once"),
    "vsr: half of an even number of members is a quorum": Found(level="core", seed=2, property="complete log"),
    "vsr: nobody learns of incarnations from others": Found(level="core", seed=18, property="liveness"),
    "vsr: passed-request-executed": Found(level="cluster", seed=1, property="exactly once"),
    "vsr: promises leave before their write is durable": Found(level="core", seed=0, property="promises"),
    "vsr: reads-hide-silence": Found(level="cluster", seed=27, property="service"),
    "vsr: recorded replies are dropped by guess: all but the last": Found(
        level="cluster", seed=1, property="exactly once"
    ),
    "vsr: the best log is fetched from one's own end on, whichever view that is of": Found(
        level="core", seed=12, property="majority"
    ),
    "vsr: the best log is the longest": Found(level="core", seed=6, property="complete log"),
    "vsr: the body lets promises leave before their write is durable": Found(
        level="cluster", seed=0, property="promises"
    ),
    "vsr: the first primary orders before its founding is durable": Found(level="core", seed=1, property="one primary"),
    "vsr: the last normal view is taken before the log of that view is in hand": Found(
        level="core", seed=1, property="liveness"
    ),
    "vsr: the last op-number of GETSTATE counts without its view": Found(level="core", seed=7, property="promises"),
    "vsr: the log goes before the record of its snapshot is durable": Found(
        level="cluster", seed=1, property="invariants inside"
    ),
    "vsr: the log is cut to the commit-number before the new one is fetched": Found(
        level="core", seed=11, property="promises"
    ),
    "vsr: the primary counts itself as soon as it has ordered": Found(level="core", seed=0, property="majority"),
    "vsr: the view is taken when its log is asked for": Found(level="core", seed=6, property="promises"),
    "vsr: the view of any STARTVIEWCHANGE is entered": Found(level="core", seed=2, property="liveness"),
    "vsr: who restarts in the middle of a view change goes back to its last normal view": Found(
        level="core", seed=2, property="monotone"
    ),
    "vsr: who restarts in the middle of a view change is normal in that view": Found(
        level="core", seed=6, property="promises"
    ),
}
