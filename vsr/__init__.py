"""Viewstamped Replication Revisited as a pure state machine. No input or output, no clock, no Trio."""

from vsr.core import ViewstampedReplication
from vsr.messages import (
    Commit,
    CommitPoint,
    DoViewChange,
    DurableState,
    GetCommit,
    GetState,
    NewSnapshot,
    NewState,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    StartView,
    StartViewChange,
)

__all__ = [
    "Commit",
    "CommitPoint",
    "DoViewChange",
    "DurableState",
    "GetCommit",
    "GetState",
    "NewSnapshot",
    "NewState",
    "Prepare",
    "PrepareOk",
    "Recovery",
    "RecoveryResponse",
    "StartView",
    "StartViewChange",
    "ViewstampedReplication",
]
