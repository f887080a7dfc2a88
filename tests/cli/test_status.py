"""`viewstamp status`: members that do not answer are shown, and a missing primary is explained."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from viewstamp.cli import main, status
from viewstamp.cli.demo.members import free_ports
from viewstamp.cli.poll import Sighting, primary_of
from viewstamp.cli.status import differences
from viewstamp.cluster import Cluster
from viewstamp.shell.client import Client
from viewstamp.status import Status


def status_of(member: int, *, view: int, primary: int, waiting: str = "") -> Status:
    return Status(
        member=member,
        protocol="vsr",
        status="normal",
        role="primary" if member == primary else "backup",
        view=view,
        primary=primary,
        op=0,
        commit=0,
        applied=0,
        waiting=waiting,
        silence_ns={},
        wall_ns=0,
        journal_bytes=0,
        digest=b"",
    )


def test_a_cluster_that_is_down(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    CliRunner().invoke(main, ["init", str(tmp_path), "--replicas", "1", "--base-port", str(port), "--name", "till"])
    arguments = ["status", "--cluster", str(tmp_path / "cluster.toml"), "--timeout", "0.05"]
    table = CliRunner().invoke(main, arguments)
    assert table.exit_code == 1
    assert "till (vsr)" in table.stdout
    assert "no answer" in table.stdout
    assert table.stderr == "viewstamp: error: no primary: no answer from member 1\n"
    answer = CliRunner().invoke(main, [*arguments, "--json"])
    assert answer.exit_code == 1
    assert json.loads(answer.stdout) == {
        "cluster": "till",
        "protocol": "vsr",
        "primary": None,
        "members": [{"member": 1, "reachable": False, "last_heard_ms": None}],
        "waiting": ["no answer from member 1"],
        "different": [],
    }


@pytest.mark.parametrize("name", ["till [bold]", "till [/b] 2"])
def test_a_name_in_brackets_is_shown_as_it_is(tmp_path: Path, name: str) -> None:
    CliRunner().invoke(main, ["init", str(tmp_path), "--name", name])
    table = CliRunner().invoke(main, ["status", "--cluster", str(tmp_path / "cluster.toml"), "--timeout", "0.05"])
    assert f"{name} (vsr)" in table.stdout


def test_a_terminal_that_lacks_a_character_of_a_name_gets_an_escape(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["init", str(tmp_path), "--name", "zürich"])
    arguments = ["status", "--cluster", str(tmp_path / "cluster.toml"), "--timeout", "0.05"]
    done = subprocess.run(
        [sys.executable, "-m", "viewstamp", *arguments],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "z\\xfcrich (vsr)" in done.stdout
    assert done.stderr.startswith("viewstamp: error: no primary")


def test_a_table_that_finds_no_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is a file on a disk that is full."""

    def full(cluster: object, seen: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(status, "_print_table", full)
    (port,) = free_ports(1)
    CliRunner().invoke(main, ["init", str(tmp_path), "--replicas", "1", "--base-port", str(port)])
    arguments = ["status", "--cluster", str(tmp_path / "cluster.toml"), "--timeout", "0.05"]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr) == (1, "viewstamp: error: No space left on device\n")


@pytest.mark.parametrize(("columns", "tables"), [(200, 1), (80, 2), (20, 2)])
def test_a_narrow_terminal_shows_all_that_a_wide_one_does(
    columns: int, tables: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Squeezed into 80 characters, the table had no room for the roles, nor for which member is meant."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    cluster = Cluster.make("till", "vsr", [("127.0.0.1", port) for port in (1, 2, 3)])
    far = replace(status_of(1, view=1234, primary=1), op=10**7, commit=10**7, applied=10**7)
    behind = replace(far, member=2, role="backup", status="state-transfer", applied=10**7 - 50_000)
    silence_ns = {"3": 754 * 10**9, "2": 1_234_567}
    seen = {1: Sighting(replace(far, silence_ns=silence_ns), 0, 0), 2: Sighting(behind, 0, 0)}
    status._print_table(cluster, seen)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert shown.count("member") == tables
    for text in ("primary", "backup", "state-transfer", "no answer", "1234", "50000", "1.2 ms", "754 s", "clock skew"):
        assert text in shown
    assert "…" not in shown
    if columns > 20:
        assert max(len(line.rstrip()) for line in shown.splitlines()) <= columns


def test_ctrl_c_while_a_member_is_silent_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are asked beside each other, in a nursery, and what is raised in one leaves it in a group."""

    async def interrupted(_: Client, member: int) -> Status:
        if member == 2:
            signal.raise_signal(signal.SIGINT)
        return await trio.sleep_forever()

    monkeypatch.setattr(Client, "status", interrupted)
    CliRunner().invoke(main, ["init", str(tmp_path)])
    result = CliRunner().invoke(main, ["status", "--cluster", str(tmp_path / "cluster.toml")])
    assert (result.exit_code, result.stderr) == (130, "viewstamp: interrupted\n")


def test_the_primary_is_who_says_so_in_the_highest_view() -> None:
    old, new = status_of(1, view=1, primary=1), status_of(2, view=2, primary=2)
    assert primary_of([old, new, status_of(3, view=2, primary=2)]) is new


def test_a_primary_that_waits_is_none() -> None:
    assert primary_of([status_of(1, view=1, primary=1, waiting="hears no majority")]) is None
    assert primary_of([status_of(2, view=1, primary=1)]) is None


def test_members_that_gave_different_replies_up_to_the_same_op_are_told() -> None:
    standing = status_of(1, view=1, primary=1)
    same, other, behind = replace(standing, digest=b"a"), replace(standing, digest=b"b"), replace(standing, applied=-1)
    assert differences({1: same, 2: same, 3: behind}) == []
    (told,) = differences({1: same, 2: other, 3: same, 4: behind})
    assert told.startswith("up to op 0 replies differ (members 1, 3; member 2): ")
