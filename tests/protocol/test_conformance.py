"""Viewstamped Replication, Raft and the toy protocol keep the contract."""

from __future__ import annotations

from random import Random

import pytest

from raft import Raft
from tests.protocol.conformance_snapshots import SnapshotConformance
from tests.protocol.toy import SingleMemberLog
from viewstamp.protocol import Configuration, Founded, Time
from vsr import ViewstampedReplication


class TestViewstampedReplication(SnapshotConformance):
    protocol = ViewstampedReplication
    sizes = (1, 2, 3, 4, 5)


class TestRaft(SnapshotConformance):
    protocol = Raft
    sizes = (1, 2, 3, 4, 5)


class TestSingleMemberLog(SnapshotConformance):
    protocol = SingleMemberLog
    sizes = (1,)


def test_the_toy_protocol_has_one_member() -> None:
    with pytest.raises(ValueError, match="one member"):
        SingleMemberLog(Configuration((1, 2)), 1, Founded((1, 1)), Random(1), Time(0, 0))
