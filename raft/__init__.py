"""Raft as a pure state machine. No input or output, no clock, no Trio."""

from raft.core import Raft
from raft.messages import (
    Appended,
    AppendEntries,
    Installing,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    Rejected,
    RequestVote,
    TermAndVote,
    TimeoutNow,
    Vote,
)

__all__ = [
    "AppendEntries",
    "Appended",
    "InstallSnapshot",
    "Installing",
    "PreVote",
    "PreVoteReply",
    "Raft",
    "ReadIndex",
    "ReadIndexReply",
    "Rejected",
    "RequestVote",
    "TermAndVote",
    "TimeoutNow",
    "Vote",
]
