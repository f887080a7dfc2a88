"""`viewstamp inspect` shows what a journal holds, and damage as damage."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

from click.testing import CliRunner

from statemachine import encode_command, encode_list
from viewstamp.cli import main
from viewstamp.journal import (
    EntriesRecord,
    FoundingRecord,
    Journal,
    RealFiles,
    SnapshotFiles,
    SnapshotRecord,
    StateRecord,
)
from viewstamp.protocol import Kind, Proposal, join_entries, make_entry
from viewstamp.replica.founding import FoundingState

CLUSTER = bytes(range(8))


def write_journal(path: Path) -> None:
    listed = encode_list([encode_command("put", ["colour", b"\x00"]), b"\xff"])
    entries = (
        make_entry(1, 1, 1000, Proposal(Kind.REGISTER, 0, 77, 0, b"", 5)),
        make_entry(2, 1, 2000, Proposal(Kind.COMMAND, 1, 1, 0, encode_command("add", [5]), 6)),
        make_entry(3, 2, 3000, Proposal(Kind.COMMAND, 1, 2, 0, listed, 7)),
        make_entry(4, 2, 4000, Proposal(Kind.COMMAND, 1, 3, 0, b"\xff", 8)),
    )
    journal = Journal.open(RealFiles(path), cluster=CLUSTER, replica=2, protocol="vsr", create_incarnation=lambda: 42)
    journal.commit(
        [
            FoundingRecord(FoundingState(complete=True, vector=(41, 42, 43)).encode()),
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
    put, other = entries[2]["commands"]
    assert put == {"command": "put", "arguments": ["colour", "b'\\x00'"]}
    assert "undecodable" in other
    assert "undecodable" in entries[3]


def test_its_entries_for_people(tmp_path: Path) -> None:
    write_journal(tmp_path)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--entries"])
    assert result.exit_code == 0
    assert "verdict      sound\n" in result.stdout
    assert "founding     complete yes, incarnations 41 42 43\n" in result.stdout
    _, two, several, unreadable = result.stdout.splitlines()[-4:]
    assert two == "op 2 view 1 command session 1 request 1 add(5)"
    assert several.startswith('op 3 view 2 command session 1 request 2 put("colour", "b\'\\\\x00\'"); undecodable: ')
    assert unreadable.startswith("op 4 view 2 command session 1 request 3 undecodable: ")


def write_snapshot(path: Path) -> SnapshotRecord:
    files = RealFiles(path)
    journal = Journal.open(files, cluster=CLUSTER, replica=2, protocol="vsr", create_incarnation=lambda: 42)
    body = b"all that was applied up to op 3"
    digest = blake2b(body, digest_size=32).digest()
    record = SnapshotRecord(2, 3, len(body) + 32, digest)
    snapshots = SnapshotFiles(files)
    snapshots.write(0, body + digest)
    snapshots.finish(record)
    journal.commit([record])
    journal.close()
    return record


def test_a_snapshot_is_shown(tmp_path: Path) -> None:
    write_journal(tmp_path)
    assert json.loads(CliRunner().invoke(main, ["inspect", str(tmp_path), "--json"]).stdout)["snapshot"] is None
    record = write_snapshot(tmp_path)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["snapshot"] == {"op": 3, "view": 2, "bytes": 63, "digest": record.digest.hex(), "sound": True}
    assert (summary["first_op"], summary["last_op"]) == (1, 4)
    assert list(summary["segments"]) == ["journal-0000000001"]
    result = CliRunner().invoke(main, ["inspect", str(tmp_path)])
    assert f"snapshot     op 3, view 2, bytes 63, digest {record.digest.hex()}, sound yes\n" in result.stdout


def test_a_snapshot_that_is_damaged_or_missing_is_said_and_fails(tmp_path: Path) -> None:
    write_journal(tmp_path)
    write_snapshot(tmp_path)
    (file,) = tmp_path.glob("snapshot-*")
    file.write_bytes(b"N" + file.read_bytes()[1:])
    for reason in (f"{file.name} is damaged: its digest is wrong", f"{file.name} is missing"):
        result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--json"])
        assert result.exit_code == 1
        assert result.stderr == f"viewstamp: error: {reason}\n"
        summary = json.loads(result.stdout)
        assert (summary["verdict"], summary["snapshot"]["sound"]) == (reason, False)
        file.unlink(missing_ok=True)


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
