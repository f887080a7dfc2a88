"""What every protocol behind the contract must do with snapshots. Subclass `SnapshotConformance`."""

from __future__ import annotations

import pytest

from tests.protocol.cluster import WALL, Body, BodyCluster, proposal
from tests.protocol.conformance import ProtocolConformance
from viewstamp.protocol import SECOND, InvariantError, Lost, Snapshot


class SnapshotConformance(ProtocolConformance):
    """Members compact their logs, and what another lacks it is handed as a snapshot."""

    # Compaction: the log begins behind a snapshot.

    def test_what_a_snapshot_stands_for_is_gone_from_memory_and_disk_but_for_a_margin(self, size: int) -> None:
        cluster = self.cluster(size)
        last = cluster.fill(5)
        cluster.run(SECOND)
        stamps = [cluster.bodies[1].core.viewstamp_of(op) for op in range(last + 1)]
        cluster.compact(*cluster.bodies, keep=2)
        for body in cluster.bodies.values():
            assert (body.core.standing.base, body.core.standing.op) == (last - 2, last)
            assert [entry.op for entry in body.disk.entries] == [last - 1, last]
            assert [body.core.viewstamp_of(op) for op in range(last - 2, last + 1)] == stamps[-3:]
            with pytest.raises(InvariantError):
                body.core.entry(last - 2)

    def test_ordering_goes_on_behind_a_snapshot(self, size: int) -> None:
        cluster = self.cluster(size)
        for keep in (0, 1, 0):
            cluster.fill(3)
            cluster.run(SECOND)
            cluster.compact(*cluster.bodies, keep=keep)
        last = cluster.fill(2)
        cluster.run(SECOND)
        for body in cluster.bodies.values():
            assert body.commit == last
            assert (body.core.standing.base, body.restored) == (last - 2, [])
        assert len({body.state for body in cluster.bodies.values()}) == 1

    def test_what_a_snapshot_holds_is_committed_after_all_restart(self, size: int) -> None:
        cluster = self.cluster(size)
        last = cluster.fill(3)
        cluster.run(SECOND)
        cluster.compact(*cluster.bodies)
        for member in cluster.bodies:
            cluster.restart(member)
            body = cluster.bodies[member]
            assert body.commit >= last
            assert body.core.standing.base == last
        cluster.deliver()
        cluster.run(3 * SECOND)
        assert cluster.fill(1) > last
        cluster.run(SECOND)
        assert len({(body.commit, body.state) for body in cluster.bodies.values()}) == 1

    def test_a_margin_survives_a_restart(self, size: int) -> None:
        cluster = self.cluster(size)
        cluster.fill(3)
        cluster.run(SECOND)
        cluster.compact(*cluster.bodies, keep=2)
        last = cluster.fill(2)
        cluster.run(SECOND)
        for member in cluster.bodies:
            cluster.restart(member)
            body = cluster.bodies[member]
            assert body.commit >= last - 2
            assert body.core.standing.op >= last
        cluster.deliver()
        cluster.run(3 * SECOND)
        assert all(body.commit >= last for body in cluster.bodies.values())
        assert len({(body.commit, body.state) for body in cluster.bodies.values()}) == 1

    def test_news_of_snapshots_that_nobody_wants_change_nothing(self, size: int) -> None:
        cluster = self.cluster(size)
        last = cluster.fill(3)
        cluster.run(SECOND)
        for member, body in cluster.bodies.items():
            before = body.core.standing
            for op in (1, last, last + 5):
                unwanted = Snapshot(1, op, WALL, 100, bytes(32))
                cluster.act(member, lambda core, unwanted=unwanted: core.fetching(unwanted, cluster.now))  # type: ignore[misc]  # bound now
                cluster.act(member, lambda core, unwanted=unwanted: core.fetched(unwanted, cluster.now))  # type: ignore[misc]  # bound now
                cluster.act(member, lambda core, unwanted=unwanted: core.fetch_failed(unwanted, cluster.now))  # type: ignore[misc]  # bound now
            assert body.core.standing == before
            assert body.restored == []

    # Catching up by a snapshot.

    def left_behind(self, size: int, *, keep: int = 0) -> tuple[BodyCluster, int]:
        """A cluster, and its one member that has missed what all others hold by a snapshot only; it is cut off."""
        cluster = self.cluster(size)
        cluster.fill(2)
        cluster.run(SECOND)
        behind = max(member for member in cluster.bodies if member != cluster.leader)
        cluster.cut = {behind}
        cluster.fill(6)
        cluster.run(SECOND)
        cluster.compact(*cluster.configuration.others(behind), keep=keep)
        cluster.fill(2)
        cluster.run(SECOND)
        return cluster, behind

    def caught_up(self, cluster: BodyCluster, behind: int) -> None:
        """All members hold the same, and the one that was behind takes part."""
        cluster.run(SECOND)
        body = cluster.bodies[behind]
        assert body.restored
        assert len({(body.commit, body.state) for body in cluster.bodies.values()}) == 1
        logs = [{entry.op: entry.encoded for entry in body.disk.entries} for body in cluster.bodies.values()]
        common = set.intersection(*(set(held) for held in logs))
        assert len({tuple(held[op] for op in sorted(common)) for held in logs}) == 1
        others = list(cluster.configuration.others(behind))
        cluster.cut = set(others[: len(cluster.bodies) - cluster.configuration.quorum])
        cluster.run(2 * SECOND)
        last = cluster.act(
            next(member for member, body in cluster.bodies.items() if self.serves(cluster, member)),
            lambda core: core.propose([proposal("together")], cluster.now),
        )
        cluster.run(SECOND)
        assert body.commit == last, "a majority needs it"

    def serves(self, cluster: BodyCluster, member: int) -> bool:
        return member not in cluster.cut and cluster.bodies[member].core.standing.leads

    def test_a_member_left_behind_catches_up_by_a_snapshot(self, size: int) -> None:
        if size < 3:
            return
        cluster, behind = self.left_behind(size)
        cluster.cut = set()
        self.caught_up(cluster, behind)

    def test_a_member_within_the_margin_needs_none(self, size: int) -> None:
        if size < 3:
            return
        cluster, behind = self.left_behind(size, keep=6)
        cluster.cut = set()
        cluster.run(SECOND)
        assert cluster.bodies[behind].restored == []
        assert len({(body.commit, body.state) for body in cluster.bodies.values()}) == 1

    def test_a_member_left_behind_catches_up_after_all_restart(self, size: int) -> None:
        if size < 3:
            return
        cluster, behind = self.left_behind(size)
        for member in cluster.bodies:
            cluster.restart(member)
        cluster.cut = set()
        cluster.deliver()
        cluster.run(3 * SECOND)
        self.caught_up(cluster, behind)

    def test_a_member_that_restarts_while_a_snapshot_comes_begins_with_its_old_log(self, size: int) -> None:
        if size < 3:
            return
        cluster, behind = self.left_behind(size)
        before = cluster.bodies[behind].core.standing
        cluster.cut = set()
        cluster.snapshots_held = True
        cluster.run(SECOND)
        assert cluster.bodies[behind].wanted is not None
        assert cluster.bodies[behind].restored == []
        cluster.restart(behind)
        standing = cluster.bodies[behind].core.standing
        assert (standing.op, standing.base) == (before.op, before.base)
        cluster.snapshots_held = False
        cluster.deliver()
        cluster.run(2 * SECOND)
        self.caught_up(cluster, behind)

    def test_a_snapshot_that_its_source_has_no_more_is_replaced_by_a_newer_one(self, size: int) -> None:
        if size < 3:
            return
        cluster, behind = self.left_behind(size)
        cluster.cut = set()
        cluster.snapshots_held = True
        cluster.run(SECOND)
        body = cluster.bodies[behind]
        assert body.wanted is not None
        old = body.wanted.snapshot
        cluster.fill(4)
        cluster.run(SECOND)
        cluster.compact(*cluster.configuration.others(behind))
        cluster.snapshots_held = False
        cluster.deliver()
        cluster.run(2 * SECOND)
        assert all(snapshot.op > old.op for snapshot in body.restored)
        self.caught_up(cluster, behind)

    def test_load_goes_on_while_a_snapshot_comes(self, size: int) -> None:
        if size < 3:
            return
        cluster, behind = self.left_behind(size)
        leader = cluster.leader
        cluster.cut = set()
        cluster.snapshots_held = True
        for _ in range(20):
            cluster.run(SECOND // 4)
            last = cluster.fill(1)
        assert cluster.leader == leader
        assert cluster.bodies[leader].commit == last
        cluster.snapshots_held = False
        cluster.deliver()
        self.caught_up(cluster, behind)

    def test_what_a_deposed_primary_ordered_alone_gives_way_to_a_snapshot(self, size: int) -> None:
        if size < 3:
            return
        cluster = self.cluster(size)
        cluster.fill(2)
        old = cluster.leader
        cluster.cut = {old}
        cluster.act(old, lambda core: core.propose([proposal("alone")] * 8, cluster.now))
        cluster.run(3 * SECOND)
        cluster.fill(4)
        cluster.run(SECOND)
        cluster.compact(*cluster.configuration.others(old))
        cluster.cut = set()
        cluster.run(2 * SECOND)
        assert b"alone" not in [entry.body for entry in cluster.bodies[old].disk.entries]
        self.caught_up(cluster, old)

    def test_a_lost_disk_is_recovered_from_a_snapshot(self, size: int) -> None:
        if size < 3 or not self.protocol.recovers_lost_disk:
            return
        cluster = self.cluster(size)
        cluster.fill(5)
        cluster.run(SECOND)
        cluster.compact(*cluster.bodies)
        cluster.fill(2)
        body = Body(self.protocol, cluster.configuration, size, Lost(2), cluster.now)
        body.incarnation = 2
        body.turn(cluster.now)
        cluster.bodies[size] = body
        cluster.run(3 * SECOND)
        self.caught_up(cluster, size)
