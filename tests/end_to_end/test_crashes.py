"""Crashes of real processes: what was acknowledged is there afterwards, and nothing twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from statemachine import Counter
from tests.end_to_end.support import (
    PROTOCOLS,
    WITHIN_S,
    assert_linearizable,
    increment,
    open_members,
    values,
    wait_agreed,
)
from viewstamp.cli.demo.load import Load
from viewstamp.cli.demo.result import count_duplicated, count_lost
from viewstamp.cli.poll import poll, primary_of, until
from viewstamp.shell.client import open_client

pytestmark = pytest.mark.slow


@PROTOCOLS
async def test_all_are_killed_at_once_under_load(tmp_path: Path, protocol: str) -> None:
    async with open_members(tmp_path, protocol=protocol) as members:
        load = Load(members.cluster, clients=8, total=None)
        with trio.fail_after(3 * WITHIN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await until(lambda: load.acknowledged >= 200)
                async with trio.open_nursery() as killers:
                    for member in members.ids:
                        killers.start_soon(members.kill, member)
                before = load.acknowledged
                for member in members.ids:
                    await members.start(member)
                await until(lambda: load.acknowledged >= before + 200)
                load.stop()
        async with open_client(members.cluster, Counter) as client:
            await wait_agreed(client, [1, 2, 3])
        (final,) = await values(members)
        assert load.unknown == 0
        assert count_lost(load.values, final) == 0
        assert count_duplicated(load.values, 0, final) == 0
        load.write_history(tmp_path / "history.jsonl")
        assert_linearizable(tmp_path / "history.jsonl", final)


@PROTOCOLS
async def test_the_primary_stands_still_under_load_and_is_replaced(tmp_path: Path, protocol: str) -> None:
    """When it goes on, it takes itself for the primary until it hears of another: nobody may be told what was."""
    async with open_members(tmp_path, protocol=protocol) as members:
        load = Load(members.cluster, clients=8, total=None)
        async with open_client(members.cluster, Counter) as client:
            with trio.fail_after(4 * WITHIN_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(load.run)
                    for _ in range(3):
                        before = load.acknowledged
                        await until(lambda before=before: load.acknowledged >= before + 100)  # type: ignore[misc]  # bound now
                        primary = primary_of(each.status for each in (await poll(client, members.ids, 1.0)).values())
                        assert primary is not None
                        members.freeze(primary.member)
                        before = load.acknowledged
                        await until(lambda before=before: load.acknowledged >= before + 100)  # type: ignore[misc]  # bound now
                        members.thaw(primary.member)
                    load.stop()
            await wait_agreed(client, [1, 2, 3])
        (final,) = await values(members)
        load.write_history(tmp_path / "history.jsonl")
        assert_linearizable(tmp_path / "history.jsonl", final)


async def test_a_member_whose_data_is_deleted_recovers_from_the_others(tmp_path: Path) -> None:
    async with open_members(tmp_path) as members, open_client(members.cluster, Counter) as client:
        await increment(client, 50)
        for member in members.ids:  # the primary among them
            await members.kill(member)
            shutil.rmtree(members.data(member))
            await members.start(member)
            made = await increment(client, 20)
            await wait_agreed(client, list(members.ids), made)
        assert await values(members) == {110}


async def test_a_raft_member_whose_data_is_deleted_refuses_and_says_what_can_be_done(tmp_path: Path) -> None:
    async with (
        open_members(tmp_path, protocol="raft") as members,
        open_client(members.cluster, Counter) as client,
    ):
        await increment(client, 20)
        await wait_agreed(client, list(members.ids), 20)
        await members.kill(3)
        shutil.rmtree(members.data(3))
        await members.start(3)
        with trio.fail_after(WITHIN_S):
            assert await members.wait_ended(3) == 1
        assert "data" in members.log(3)
        assert await increment(client, 20) == 40  # the others go on
        members.state[3] = "killed"


async def test_no_cluster_is_founded_while_one_member_has_data(tmp_path: Path) -> None:
    """Two of three lose their disks at once. They are a majority, and must not begin again from nothing."""
    async with open_members(tmp_path) as members, open_client(members.cluster, Counter) as client:
        await increment(client, 10)
        for member in members.ids:
            await members.kill(member)
        for member in (2, 3):
            shutil.rmtree(members.data(member))
            await members.start(member)
        await poll(client, (2, 3), WITHIN_S)  # They run, however long it takes to start them.
        await trio.sleep(1.0)
        seen = await poll(client, (2, 3), WITHIN_S)
        assert [sighting.status.status for sighting in seen.values()] == ["founding", "founding"]
        assert "not yet seen 1" in seen[2].status.waiting

        await members.start(1)
        await poll(client, (1,), WITHIN_S)
        await trio.sleep(1.5)
        seen = await poll(client, members.ids, WITHIN_S)
        assert {sighting.status.applied for sighting in seen.values() if sighting.status.member != 1} == {0}
        assert "lost its disk" in seen[2].status.waiting
        with trio.move_on_after(0.5) as scope:
            await client.call(Counter.add, 1)
        assert scope.cancelled_caught


@PROTOCOLS
async def test_five_members_with_two_dead_still_serve(tmp_path: Path, protocol: str) -> None:
    async with (
        open_members(tmp_path, replicas=5, protocol=protocol) as members,
        open_client(members.cluster, Counter) as client,
    ):
        await increment(client, 20)
        seen = await wait_agreed(client, list(members.ids))
        primary = seen[1].status.primary
        dead = [primary, primary % 5 + 1]  # the primary, and who would follow it
        for member in dead:
            await members.kill(member)
        assert await increment(client, 20) == 40
        await wait_agreed(client, [member for member in members.ids if member not in dead])
        assert await values(members) == {40}
