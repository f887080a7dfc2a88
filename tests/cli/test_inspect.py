"""`viewstamp inspect` shows what a journal holds, and damage as damage."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from statemachine import encode_command
from viewstamp.cli import main
from viewstamp.journal import EntriesRecord, FoundingRecord, Journal, RealFiles, StateRecord
from viewstamp.protocol import Kind, Proposal, join_entries, make_entry
from viewstamp.replica.founding import FoundingRecord as Founding

CLUSTER = bytes(range(8))


def write_journal(path: Path) -> None:
    entries = (
        make_entry(1, 1, 1000, Proposal(Kind.REGISTER, 0, 77, 0, b"", 5)),
        make_entry(2, 1, 2000, Proposal(Kind.COMMAND, 1, 1, 0, encode_command("add", [5]), 6)),
        make_entry(3, 2, 3000, Proposal(Kind.COMMAND, 1, 2, 0, encode_command("put", ["colour", b"\x00"]), 7)),
        make_entry(4, 2, 4000, Proposal(Kind.COMMAND, 1, 3, 0, b"\xff", 8)),
    )
    journal = Journal.open(RealFiles(path), cluster=CLUSTER, replica=2, protocol="vsr", create_incarnation=lambda: 42)
    journal.commit(
        [
            FoundingRecord(Founding(complete=True, vector=(41, 42, 43)).encode()),
            StateRecord(b"not a state"),
            EntriesRecord(1, 4, join_entries(entries)),
        ]
    )
    journal.close()


def test_the_state_of_a_sound_journal(tmp_path: Path) -> None:
    write_journal(tmp_path)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["verdict"] == "sound"
    assert summary["cluster_id"] == CLUSTER.hex()
    assert (summary["member"], summary["protocol"], summary["incarnation"]) == (2, "vsr", 42)
    assert summary["founding"] == {"complete": True, "incarnations": [41, 42, 43]}
    assert "undecodable" in summary["state"]
    assert summary["last_op"] == 4


def test_its_entries_for_programs(tmp_path: Path) -> None:
    write_journal(tmp_path)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--json", "--entries"])
    _, *entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["kind"] for entry in entries] == ["register", "command", "command", "command"]
    assert entries[1] == {
        "op": 2,
        "view": 1,
        "kind": "command",
        "session": 1,
        "request": 1,
        "stamp_ns": 2000,
        "command": "add",
        "arguments": [5],
    }
    assert entries[2]["arguments"] == ["colour", "b'\\x00'"]
    assert "undecodable" in entries[3]


def test_its_entries_for_people(tmp_path: Path) -> None:
    write_journal(tmp_path)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--entries"])
    assert result.exit_code == 0
    assert "verdict      sound\n" in result.stdout
    assert "founding     complete yes, incarnations 41 42 43\n" in result.stdout
    assert "op 2 view 1 command session 1 request 1 add(5)\n" in result.stdout


def test_damage_is_said_and_fails(tmp_path: Path) -> None:
    write_journal(tmp_path)
    (segment,) = [path for path in tmp_path.iterdir() if path.stat().st_size > 0 and "lock" not in path.name]
    data = bytearray(segment.read_bytes())
    data[10] ^= 0x40
    segment.write_bytes(data)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path)])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("viewstamp: error: ")


def test_where_there_is_no_journal(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        result = CliRunner().invoke(main, ["inspect", str(directory)])
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("viewstamp: error: ")
    assert list(tmp_path.iterdir()) == []
