"""Snapshots of real processes: the journal stays short, a member that was down is sent one, restarts begin from one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from statemachine import Counter
from tests.end_to_end.support import PROTOCOLS, WITHIN_S, open_members, serve, values, wait_agreed
from viewstamp.cli.poll import poll, primary_of
from viewstamp.journal import inspect_journal
from viewstamp.shell.client import Client, open_client

pytestmark = pytest.mark.slow

_OFTEN = 200


async def add_together(client: Client, times: int) -> None:
    """So many increments, many at once, each an entry of its own: a list goes alone, though it is short."""

    async def work() -> None:
        nonlocal times
        while times > 0:
            times -= 1
            await client.call_all([Counter.add.bind(1)])

    with trio.fail_after(3 * WITHIN_S):
        async with trio.open_nursery() as nursery:
            for _ in range(32):
                nursery.start_soon(work)


@PROTOCOLS
async def test_a_member_that_was_down_is_sent_a_snapshot_and_all_restart_from_theirs(
    tmp_path: Path, protocol: str
) -> None:
    async with open_members(tmp_path, protocol=protocol, snapshot_entries=_OFTEN) as members:
        async with open_client(members.cluster, Counter) as client:
            await add_together(client, 10)
            primary = primary_of(each.status for each in (await poll(client, members.ids, 1.0)).values())
            assert primary is not None
            down = next(member for member in members.ids if member != primary.member)
            await members.kill(down)
            await add_together(client, 3000)
            await members.start(down)
            await add_together(client, 500)
            seen = await wait_agreed(client, list(members.ids), 3500)
        assert "needs a snapshot up to" in members.log_file(down).read_text()
        for sighting in seen.values():
            assert sighting.status.snapshot.op > 2500
            assert sighting.status.op - sighting.status.base <= 3 * _OFTEN

        for member in members.ids:
            await members.kill(member)
        for member in members.ids:
            report = inspect_journal(members.data(member))
            assert report.is_sound
            assert report.snapshot_sound
            await members.start(member)
        async with open_client(members.cluster, Counter) as client:
            await add_together(client, 1)
            await wait_agreed(client, list(members.ids), 3500)
        assert await values(members) == {3511}


async def test_a_member_with_a_damaged_snapshot_refuses_to_start_and_recovers_on_a_blank_disk(tmp_path: Path) -> None:
    async with (
        open_members(tmp_path, snapshot_entries=_OFTEN) as members,
        open_client(members.cluster, Counter) as client,
    ):
        await add_together(client, 1000)
        await wait_agreed(client, list(members.ids), 1000)
        await members.kill(1)
        [file] = [file for file in members.data(1).iterdir() if file.name.startswith("snapshot-")]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
        ended = await trio.to_thread.run_sync(serve, members.file, 1, members.data(1))
        assert ended.returncode == 1
        assert f"{file} is damaged at byte 0: its digest is wrong" in ended.stderr
        assert "Traceback" not in ended.stderr
        shutil.rmtree(members.data(1))
        await members.start(1)
        await add_together(client, 1)
        await wait_agreed(client, list(members.ids), 1001)
