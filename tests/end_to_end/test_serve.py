"""`viewstamp serve` as a process: refusals in one line, and a clean end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from statemachine import Counter, KeyValueStore
from tests.end_to_end.support import WITHIN_S, increment, open_members, serve, wait_agreed
from viewstamp.cli.demo.members import MemberEndedError, free_ports
from viewstamp.cluster import Cluster
from viewstamp.journal import Journal, RealFiles
from viewstamp.shell.client import open_client

pytestmark = pytest.mark.slow


def cluster_file(folder: Path) -> tuple[Cluster, Path]:
    cluster = Cluster.make("test", "vsr", [("127.0.0.1", port) for port in free_ports(3)])
    file = folder / "cluster.toml"
    file.write_text(cluster.to_toml())
    return cluster, file


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("viewstamp: error: ")
    return line


def test_a_taken_port(tmp_path: Path) -> None:
    cluster, file = cluster_file(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(cluster.member(1).address)
        line = one_line(serve(file, 1, tmp_path / "data"))
    assert line == f"viewstamp: error: cannot bind to 127.0.0.1:{cluster.member(1).port}: Address already in use"
    assert not (tmp_path / "data").exists()


def test_a_directory_in_use(tmp_path: Path) -> None:
    cluster, file = cluster_file(tmp_path)
    files = RealFiles(tmp_path / "data")
    journal = Journal.open(files, cluster=cluster.cluster_id, replica=1, protocol="vsr", create_incarnation=lambda: 1)
    try:
        line = one_line(serve(file, 1, tmp_path / "data"))
    finally:
        journal.close()
    assert str(tmp_path / "data") in line


@pytest.mark.parametrize(
    ("cluster_id", "member", "protocol"), [(b"stranger", 1, "vsr"), (None, 2, "vsr"), (None, 1, "gossip")]
)
def test_a_directory_of_another_cluster_member_or_protocol(
    tmp_path: Path, cluster_id: bytes | None, member: int, protocol: str
) -> None:
    cluster, file = cluster_file(tmp_path)
    Journal.open(
        RealFiles(tmp_path / "data"),
        cluster=cluster_id or cluster.cluster_id,
        replica=member,
        protocol=protocol,
        create_incarnation=lambda: 1,
    ).close()
    line = one_line(serve(file, 1, tmp_path / "data"))
    assert str(tmp_path / "data") in line


def test_a_damaged_journal_is_named_with_its_directory(tmp_path: Path) -> None:
    cluster, file = cluster_file(tmp_path)
    files = RealFiles(tmp_path / "data")
    Journal.open(files, cluster=cluster.cluster_id, replica=1, protocol="vsr", create_incarnation=lambda: 1).close()
    (segment,) = (path for path in (tmp_path / "data").iterdir() if path.name.startswith("journal"))
    content = segment.read_bytes()
    for place, said in (
        (20, f"{segment} is damaged at byte 0"),
        (8, f"{tmp_path / 'data'}: {segment.name} has format"),
    ):
        damaged = bytearray(content)
        damaged[place] ^= 1
        segment.write_bytes(damaged)
        assert said in one_line(serve(file, 1, tmp_path / "data"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    _, file = cluster_file(tmp_path)
    command = [sys.executable, "-m", "viewstamp", "serve", "--cluster", str(file), "--id", "1"]
    command += ["--data", str(tmp_path / "data")]
    process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        with trio.fail_after(WITHIN_S):
            log = b""
            while b"member 1 is not ready: waiting for all members to be seen once: not yet seen 2, 3" not in log:
                log += await process.stderr.receive_some()
            process.send_signal(number)
            async for chunk in process.stderr:
                log += chunk
            assert await process.wait() == 0
        assert b"serving cluster test" in log
    finally:
        process.kill()
        await process.wait()
        if process.stderr is not None:
            await process.stderr.aclose()
    assert f"{number.name}: stopping".encode() in log
    assert {line.count(b"member 1") for line in log.splitlines()} == {1}
    assert b"Traceback" not in log


async def test_a_client_with_another_cluster_file_is_told_of_at_the_members(tmp_path: Path) -> None:
    async with open_members(tmp_path) as members, open_client(members.cluster, Counter) as client:
        await client.call(Counter.add, 1)
        other = tmp_path / "other.toml"
        other.write_text(members.file.read_text().replace("window = 4096", "window = 1024"))
        told = "refused "
        for file, found in ((members.file, False), (other, False), (members.file, True)):
            command = [sys.executable, "-m", "viewstamp", "status", "--cluster", str(file)]
            with trio.fail_after(WITHIN_S):
                result = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            assert result.returncode == (file == other)
            assert (told.encode() in result.stdout) == found
        assert b"datagrams since its start: their senders have another cluster file" in result.stdout


async def test_a_cluster_from_the_command_line(tmp_path: Path) -> None:
    """What a person types: call, read, status, inspect; and a primary that is told to stop gives way."""

    async def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "viewstamp", *arguments]
        with trio.fail_after(2 * WITHIN_S):
            result = await trio.run_process(command, capture_stdout=True)
        return result.stdout.decode()

    async with open_members(tmp_path) as members:
        cluster = ("--cluster", str(members.file))
        assert await run("call", *cluster, "add", "5") == "5\n"
        assert await run("call", *cluster, "--json", "add", "-2") == "3\n"
        assert await run("read", *cluster, "get") == "3\n"
        status = json.loads(await run("status", *cluster, "--json"))
        assert [row["reachable"] for row in status["members"]] == [True, True, True]
        assert max(row["op"] for row in status["members"]) >= 4
        table = await run("status", *cluster)
        assert "primary" in table
        assert "backup" in table
        entries = await run("inspect", str(members.data(status["primary"])), "--entries")
        assert "add(5)" in entries
        assert "sound" in entries

        async with open_client(members.cluster, Counter) as client:
            await wait_agreed(client, [1, 2, 3])
            members.terminate(status["primary"])
            assert await increment(client, 1) == 4
            assert await members.wait_ended(status["primary"]) == 0


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
async def test_members_that_keep_their_data_in_memory(tmp_path: Path, protocol: str) -> None:
    """One that is killed comes back by the others' help, or is refused; and no directory is ever made."""
    async with open_members(tmp_path, protocol=protocol, storage="memory") as members:
        async with open_client(members.cluster, Counter) as client:
            await increment(client, 3)
            await wait_agreed(client, [1, 2, 3])
            await members.kill(2)
            await increment(client, 1)
            await members.start(2)
            if protocol == "vsr":
                await wait_agreed(client, [1, 2, 3])
            else:
                with pytest.raises(MemberEndedError) as ended:
                    with trio.fail_after(WITHIN_S):
                        await members.watch()
                assert 'went its data (storage = "memory")' in ended.value.log
            assert await increment(client, 1) == 5
        assert not any(members.data(member).exists() for member in members.ids)


async def test_a_disk_that_refuses_a_write_ends_the_member(tmp_path: Path) -> None:
    """A member alone, with room for 20 kB: it says in a line what the disk said, and fails."""
    (port,) = free_ports(1)
    cluster = Cluster.make("alone", "vsr", [("127.0.0.1", port)])
    file = tmp_path / "cluster.toml"
    file.write_text(cluster.to_toml())
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from viewstamp.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "serve", "--cluster", str(file), "--id", "1", "--quiet"]
    command += ["--machine", "kv", "--data", str(tmp_path / "data")]
    process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        with trio.fail_after(WITHIN_S):
            async with open_client(cluster, KeyValueStore) as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.call, KeyValueStore.put, "key", "x" * 30_000)
                assert await process.wait() == 1
                nursery.cancel_scope.cancel()
            (line,) = [chunk async for chunk in process.stderr]
    finally:
        process.kill()
        await process.wait()
        if process.stderr is not None:
            await process.stderr.aclose()
    assert line.startswith(b"viewstamp: error: ")
    assert line.count(b"\n") == 1
    assert b"File too large" in line
