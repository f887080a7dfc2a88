"""What every journal does, on real files and on the simulated disk alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journal.support import (
    BLANK,
    INCARNATION,
    blank_disk,
    entries,
    image_of,
    images,
    open_journal,
    scenario,
)
from viewstamp.journal import (
    DirectoryInUseError,
    EntriesRecord,
    Files,
    IncarnationRecord,
    JournalClosedError,
    JournalCorruptError,
    JournalFormatError,
    RealFiles,
    StateRecord,
    TruncateRecord,
    WrongJournalError,
    inspect_journal,
)
from viewstamp.protocol import InvariantError

Opener = Callable[[], Files]


@pytest.fixture(params=["real", "simulated"])
def files_of(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Each call gives another process's view of the same directory."""
    if request.param == "real":
        return lambda: RealFiles(tmp_path / "deep" / "data")
    disk = blank_disk()
    return disk.files


def test_a_blank_directory_gets_an_incarnation_and_keeps_it(files_of: Opener) -> None:
    first = open_journal(files_of())
    assert image_of(first) == BLANK
    assert first.incarnation == INCARNATION
    first.close()
    second = open_journal(files_of(), incarnation=99)
    assert (second.incarnation, image_of(second)) == (INCARNATION, BLANK)
    second.close()


@pytest.mark.parametrize("segment_bytes", [1, 600, 1 << 20])
def test_batches_come_back_in_order(files_of: Opener, segment_bytes: int) -> None:
    batches = scenario()
    expected = images(batches)
    for count, records in enumerate(batches):
        journal = open_journal(files_of(), segment_bytes=segment_bytes)
        assert image_of(journal) == expected[count]
        journal.commit(records)
        assert journal.last_op == len(expected[count + 1][2])
        journal.close()
    journal = open_journal(files_of(), segment_bytes=segment_bytes)
    assert image_of(journal) == expected[-1]
    statistics = journal.statistics()
    assert statistics.segments == (1 if segment_bytes == 1 << 20 else statistics.segments)
    assert statistics.segments > 1 or segment_bytes == 1 << 20
    assert statistics.bytes == sum(files_of().size(name) for name in files_of().names() if name != "lock")
    journal.close()


def test_one_life_with_rotation(files_of: Opener) -> None:
    journal = open_journal(files_of(), segment_bytes=600)
    for records in scenario():
        journal.write(journal.encode_batch(records))
        journal.sync()
    statistics = journal.statistics()
    assert (statistics.batches, statistics.syncs) == (7, 7)
    assert statistics.segments > 2
    journal.close()
    report = inspect_journal(files_of())
    assert report.is_sound
    assert report.verdict == "sound"
    assert report.batches == 7
    assert len(report.segments) == statistics.segments


def test_the_next_batch_can_be_encoded_while_one_is_written(files_of: Opener) -> None:
    batches = scenario()
    journal = open_journal(files_of(), segment_bytes=600)
    encoded = journal.encode_batch(batches[0])
    for records in batches[1:]:
        journal.write(encoded)
        encoded = journal.encode_batch(records)
        journal.sync()
    journal.write(encoded)
    journal.sync()
    journal.close()
    journal = open_journal(files_of())
    assert image_of(journal) == images(batches)[-1]
    journal.close()


def test_a_new_segment_holds_no_state_of_a_batch_beyond_it(files_of: Opener) -> None:
    """The state of a batch that was only encoded must not reach the disk in the header of a new segment."""
    journal = open_journal(files_of(), segment_bytes=1)
    journal.commit([StateRecord(b"view 1")])
    second = journal.encode_batch([entries(1, [b"one"])])
    journal.encode_batch([StateRecord(b"view 2")])
    journal.write(second)
    journal.sync()
    journal.close()
    journal = open_journal(files_of())
    assert journal.recovered.state == b"view 1"
    journal.close()


def test_a_member_can_take_a_larger_incarnation(files_of: Opener) -> None:
    journal = open_journal(files_of(), segment_bytes=1)
    journal.set_incarnation(INCARNATION + 5)
    assert journal.incarnation == INCARNATION + 5
    with pytest.raises(InvariantError):
        journal.set_incarnation(INCARNATION)
    journal.close()
    journal = open_journal(files_of(), segment_bytes=1)
    assert journal.incarnation == INCARNATION + 5
    assert journal.recovered.state is None
    journal.commit([StateRecord(b"view 0")])
    journal.commit([StateRecord(b"view 1")])
    journal.close()
    journal = open_journal(files_of())
    assert (journal.incarnation, journal.recovered.state) == (INCARNATION + 5, b"view 1")
    journal.close()


def test_a_second_opener_is_refused(files_of: Opener) -> None:
    journal = open_journal(files_of())
    with pytest.raises(DirectoryInUseError, match="in use by another process"):
        open_journal(files_of())
    journal.commit([StateRecord(b"unharmed")])
    journal.close()
    journal = open_journal(files_of())
    assert journal.recovered.state == b"unharmed"
    journal.close()


def test_another_journal_is_refused_and_left_alone(files_of: Opener) -> None:
    journal = open_journal(files_of())
    journal.commit([StateRecord(b"mine")])
    journal.close()
    with pytest.raises(WrongJournalError, match=rf"belongs to the cluster {b'cluster1'.hex()}, .* made anew\?"):
        open_journal(files_of(), cluster=b"cluster2")
    with pytest.raises(WrongJournalError, match="belongs to member 1, not to member 2"):
        open_journal(files_of(), replica=2)
    with pytest.raises(WrongJournalError, match="written by the protocol vsr, not by raft"):
        open_journal(files_of(), protocol="raft")
    journal = open_journal(files_of())
    assert journal.recovered.state == b"mine"
    journal.close()


@pytest.mark.parametrize("version", [1, 3])
def test_an_unknown_format_version_is_refused(files_of: Opener, version: int) -> None:
    open_journal(files_of()).close()
    files = files_of()
    blob = bytearray(files.read("journal-0000000001"))
    blob[8:10] = version.to_bytes(2, "big")
    files.lock()
    handle = files.open("journal-0000000001")
    files.truncate(handle, 0)
    files.append(handle, bytes(blob))
    files.sync(handle)
    files.unlock()
    with pytest.raises(JournalFormatError, match=f"format version {version}; this program knows version 2"):
        open_journal(files_of())
    assert f"format version {version}" in inspect_journal(files_of()).verdict


def test_an_unfinished_segment_is_removed(files_of: Opener) -> None:
    open_journal(files_of()).close()
    files = files_of()
    files.lock()
    files.append(files.create("journal-0000000002.new"), b"half a header")
    files.unlock()
    open_journal(files_of()).close()
    assert [name for name in files_of().names() if name != "lock"] == ["journal-0000000001"]


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_segment_is_a_lost_disk(files_of: Opener, missing: int) -> None:
    journal = open_journal(files_of(), segment_bytes=1)
    for records in scenario():
        journal.commit(records)
    journal.close()
    files = files_of()
    files.remove(f"journal-000000000{missing}")
    with pytest.raises(JournalCorruptError, match=f"journal-000000000{missing} is missing"):
        open_journal(files_of())


def test_what_does_not_continue_the_log_is_refused_before_anything_is_written(files_of: Opener) -> None:
    journal = open_journal(files_of())
    journal.commit([entries(1, [b"one"])])
    for wrong in (entries(1, [b"again"]), entries(3, [b"gap"]), EntriesRecord(2, 0, b"")):
        with pytest.raises(InvariantError, match="cannot follow op 1"):
            journal.commit([wrong])
    with pytest.raises(InvariantError):
        journal.commit([IncarnationRecord(INCARNATION)])
    journal.commit([TruncateRecord(50), entries(2, [b"two"])])
    journal.close()
    journal = open_journal(files_of())
    assert image_of(journal)[2] == ((1, b"one"), (2, b"two"))
    journal.close()


def test_batches_are_written_in_order_and_each_synced_before_the_next(files_of: Opener) -> None:
    journal = open_journal(files_of())
    first = journal.encode_batch([StateRecord(b"1")])
    second = journal.encode_batch([StateRecord(b"2")])
    with pytest.raises(InvariantError, match="batch 2 was written in the place of 1"):
        journal.write(second)
    journal.sync()
    journal.write(first)
    with pytest.raises(InvariantError, match="not synced"):
        journal.write(second)
    journal.sync()
    with pytest.raises(InvariantError, match="batch 1 was written in the place of 2"):
        journal.write(first)
    journal.write(second)
    journal.sync()
    assert journal.statistics().syncs == 2
    journal.close()


def test_a_closed_journal_refuses_everything_but_close(files_of: Opener) -> None:
    journal = open_journal(files_of())
    journal.close()
    journal.close()
    with pytest.raises(JournalClosedError):
        journal.commit([StateRecord(b"1")])
    with pytest.raises(JournalClosedError):
        journal.sync()


def test_what_was_recovered_can_be_released(files_of: Opener) -> None:
    journal = open_journal(files_of())
    assert journal.recovered.entries == b""
    journal.release_recovered()
    with pytest.raises(JournalClosedError):
        _ = journal.recovered
    journal.close()


def test_an_empty_and_a_large_batch(files_of: Opener) -> None:
    journal = open_journal(files_of())
    journal.commit([])
    journal.commit([entries(1, [b"z" * 3_000_000])])
    journal.commit([])
    journal.close()
    journal = open_journal(files_of())
    assert len(journal.recovered.entries) > 3_000_000
    journal.close()
