"""Torn tails and damage: which is which, on real journal files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.journal.support import image_of, images, open_journal, scenario
from viewstamp.journal import (
    Journal,
    JournalCorruptError,
    JournalError,
    MissingJournalError,
    RealFiles,
    StateRecord,
    inspect_journal,
)
from viewstamp.journal.format import BATCH_MAGIC

FIRST = "journal-0000000001"


def write_scenario(path: Path, segment_bytes: int) -> list[tuple[str, int]]:
    """Commits the scenario, and leaves no room at its end; gives (file, size) where each batch ended, beginning with
    the blank journal."""
    journal = open_journal(RealFiles(path), segment_bytes=segment_bytes)
    ends = [last_segment(path)]
    for records in scenario():
        journal.commit(records)
        ends.append(last_segment(path))
    journal.close()
    name, size = ends[-1]
    os.truncate(path / name, size)
    return ends


def last_segment(path: Path) -> tuple[str, int]:
    last = inspect_journal(path).segments[-1]
    return last.name, last.bytes


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def open_copy(path: Path) -> Journal:
    return open_journal(RealFiles(path))


def test_cut_at_every_byte_gives_the_batches_that_are_whole(tmp_path: Path) -> None:
    """Power loss, wherever it stops the writing: a prefix of the batches, and never less than was synced."""
    ends = write_scenario(tmp_path / "whole", 1 << 20)
    expected = images(scenario())
    boundaries = [size for _, size in ends]
    for size in range(boundaries[0], boundaries[-1] + 1):
        path = copy(tmp_path / "whole", tmp_path / "cut")
        with (path / FIRST).open("r+b") as file:
            file.truncate(size)
        whole = sum(boundary <= size for boundary in boundaries) - 1
        torn = len((path / FIRST).read_bytes()[boundaries[whole] :].rstrip(b"\x00"))  # Zeros could be unused room.
        report = inspect_journal(path)
        assert report.is_sound
        assert report.torn_bytes == torn
        journal = open_copy(path)
        assert image_of(journal) == expected[whole]
        assert journal.recovered.cut_bytes == torn
        assert (path / FIRST).stat().st_size == boundaries[whole]
        journal.commit([StateRecord(b"goes on")])
        journal.close()
        journal = open_copy(path)
        assert journal.recovered.state == b"goes on"
        assert journal.recovered.cut_bytes == 0
        journal.close()


def test_cut_at_every_sync_boundary_of_several_segments(tmp_path: Path) -> None:
    ends = write_scenario(tmp_path / "whole", 600)
    expected = images(scenario())
    assert len({name for name, _ in ends}) > 2
    for count, (name, size) in enumerate(ends):
        path = copy(tmp_path / "whole", tmp_path / "cut")
        for segment in path.glob("journal-*"):
            if segment.name > name:
                segment.unlink()
        with (path / name).open("r+b") as file:
            file.truncate(size)
        journal = open_copy(path)
        assert image_of(journal) == expected[count]
        journal.close()


def test_a_flipped_bit_before_a_later_batch_is_a_lost_disk(tmp_path: Path) -> None:
    ends = write_scenario(tmp_path / "whole", 1 << 20)
    last_begins = ends[-2][1]
    for offset in range(last_begins):
        path = copy(tmp_path / "whole", tmp_path / "flipped")
        raw = bytearray((path / FIRST).read_bytes())
        raw[offset] ^= 1 << offset % 8
        (path / FIRST).write_bytes(raw)
        with pytest.raises(JournalError) as raised:
            open_copy(path)
        if offset not in (8, 9):  # the format version
            assert isinstance(raised.value, JournalCorruptError)
            assert raised.value.file == FIRST
            assert raised.value.offset <= offset
            assert FIRST in str(raised.value)
        report = inspect_journal(path)
        assert not report.is_sound
        assert report.verdict == str(raised.value)
        assert (path / FIRST).read_bytes() == raw


def test_a_flipped_bit_in_the_last_batch_is_a_torn_tail(tmp_path: Path) -> None:
    ends = write_scenario(tmp_path / "whole", 1 << 20)
    for offset in range(ends[-2][1], ends[-1][1]):
        path = copy(tmp_path / "whole", tmp_path / "flipped")
        raw = bytearray((path / FIRST).read_bytes())
        raw[offset] ^= 1 << offset % 8
        (path / FIRST).write_bytes(raw)
        journal = open_copy(path)
        assert image_of(journal) == images(scenario())[-2]
        journal.close()


def test_damage_at_the_end_of_a_segment_that_is_not_the_last(tmp_path: Path) -> None:
    write_scenario(tmp_path, 600)
    raw = (tmp_path / FIRST).read_bytes()
    for damaged in (raw[:-1], raw + b"\x00", raw[:-1] + bytes([raw[-1] ^ 1])):
        (tmp_path / FIRST).write_bytes(damaged)
        with pytest.raises(JournalCorruptError, match=r"a later segment follows|does not continue"):
            open_copy(tmp_path)


def test_a_whole_batch_missing_from_the_middle(tmp_path: Path) -> None:
    ends = [size for _, size in write_scenario(tmp_path, 1 << 20)]
    raw = (tmp_path / FIRST).read_bytes()
    (tmp_path / FIRST).write_bytes(raw[: ends[2]] + raw[ends[3] :])
    with pytest.raises(JournalCorruptError, match="batch 4 does not follow"):
        open_copy(tmp_path)


def test_a_batch_of_another_history_with_the_right_number(tmp_path: Path) -> None:
    """A stale sector of this very journal, from before a lost disk: only the chain gives it away."""
    blobs = []
    for name, states in (("mine", (b"a", b"b")), ("stale", (b"x", b"y"))):
        journal = open_journal(RealFiles(tmp_path / name))
        for state in states:
            journal.commit([StateRecord(state)])
        journal.close()
        blobs.append((tmp_path / name / FIRST).read_bytes())
    mine, stale = blobs
    second = mine.rindex(BATCH_MAGIC)
    (tmp_path / "mine" / FIRST).write_bytes(mine[:second] + stale[second:])
    with pytest.raises(JournalCorruptError, match="batch 2 does not follow the one before it"):
        open_copy(tmp_path / "mine")


@pytest.mark.parametrize("tail", [bytes(5000), b"\xff" * 300, BATCH_MAGIC * 100, BATCH_MAGIC + bytes(40)])
def test_rubbish_at_the_end_is_cut(tmp_path: Path, tail: bytes) -> None:
    _, size = write_scenario(tmp_path, 1 << 20)[-1]
    with (tmp_path / FIRST).open("ab") as file:
        file.write(tail)
    journal = open_copy(tmp_path)
    assert image_of(journal) == images(scenario())[-1]
    assert journal.recovered.cut_bytes == len(tail.rstrip(b"\x00"))
    assert (tmp_path / FIRST).stat().st_size == size
    journal.close()


def test_room_is_made_for_a_segment_and_taken_back_at_its_end(tmp_path: Path) -> None:
    """While it is written to, a segment has its full size; it must not be taken for damage, nor be counted."""
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1000)
    ends = [last_segment(tmp_path)]
    for number in range(80):
        journal.commit([StateRecord(b"state %d" % number)])
        name, size = last_segment(tmp_path)
        assert (tmp_path / name).stat().st_size == 1000
        assert journal.statistics().bytes == sum(segment.bytes for segment in inspect_journal(tmp_path).segments)
        if name != ends[-1][0]:
            assert (tmp_path / ends[-1][0]).stat().st_size == ends[-1][1]
        ends.append((name, size))
    assert inspect_journal(tmp_path).verdict == "sound"
    journal.close()
    for expected in (b"state 79", b"the next life"):
        journal = open_journal(RealFiles(tmp_path), segment_bytes=1000)
        assert (journal.recovered.state, journal.recovered.cut_bytes) == (expected, 0)
        journal.commit([StateRecord(b"the next life")])
        journal.close()
    assert len({name for name, _ in ends}) > 2


def test_a_batch_that_room_could_not_hold_makes_its_segment_longer(tmp_path: Path) -> None:
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1000)
    journal.commit([StateRecord(b"x" * 3000)])
    journal.commit([StateRecord(b"y")])
    journal.close()
    assert [segment.batches for segment in inspect_journal(tmp_path).segments] == [1, 1]
    assert open_copy(tmp_path).recovered.state == b"y"


def test_room_is_made_step_by_step(tmp_path: Path) -> None:
    """A segment may be large, and a small cluster's journal should not be."""
    journal = open_journal(RealFiles(tmp_path), segment_bytes=10_000, room_bytes=400)
    sizes = set()
    for number in range(80):
        journal.commit([StateRecord(b"state %d" % number)])
        size = (tmp_path / FIRST).stat().st_size
        assert 0 <= size - journal.statistics().bytes < 400
        sizes.add(size)
    journal.close()
    assert 5 < len(sizes) < 20
    assert open_copy(tmp_path).recovered.state == b"state 79"


def test_room_is_written_before_it_is_needed(tmp_path: Path) -> None:
    """A sync of blocks that lie nowhere yet waits for the file system's journal as well."""
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1 << 20, room_bytes=1 << 17)
    journal.commit([StateRecord(b"state")])
    journal.close()
    size = (tmp_path / FIRST).stat().st_size
    assert size > 1 << 17
    with (tmp_path / FIRST).open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == size


def test_a_batch_of_another_journal_proves_nothing(tmp_path: Path) -> None:
    """A misdirected sector, or a client's value that contains a journal, after a torn batch."""
    write_scenario(tmp_path / "mine", 1 << 20)
    other = open_journal(RealFiles(tmp_path / "other"), replica=2)
    for records in scenario():
        other.commit(records)
    for state in (b"more", b"and more"):
        other.commit([StateRecord(state)])
    other.close()
    with (tmp_path / "mine" / FIRST).open("ab") as file:
        file.write(b"torn" + (tmp_path / "other" / FIRST).read_bytes())
    journal = open_copy(tmp_path / "mine")
    assert image_of(journal) == images(scenario())[-1]
    journal.close()


def test_segments_of_two_journals_do_not_mix(tmp_path: Path) -> None:
    write_scenario(tmp_path / "mine", 600)
    other = open_journal(RealFiles(tmp_path / "other"), incarnation=5, segment_bytes=600)
    for records in scenario():
        other.commit(records)
    other.close()
    second = "journal-0000000002"
    shutil.copy(tmp_path / "other" / second, tmp_path / "mine" / second)
    with pytest.raises(JournalCorruptError, match="does not continue the one before it"):
        open_copy(tmp_path / "mine")
    shutil.copy(tmp_path / "mine" / FIRST, tmp_path / "mine" / second)
    with pytest.raises(JournalCorruptError, match="says that it is segment 1"):
        open_copy(tmp_path / "mine")


def test_inspect_shows_what_is_there_and_takes_no_lock(tmp_path: Path) -> None:
    journal = open_journal(RealFiles(tmp_path))
    for records in scenario():
        journal.commit(records)
    report = inspect_journal(tmp_path)
    journal.close()
    founding, state, log = images(scenario())[-1]
    assert report.identity == journal.identity
    assert (report.incarnation, report.founding, report.state) == (journal.incarnation, founding, state)
    assert report.last_op == len(log)
    assert [op for op, _ in report.entries()] == [op for op, _ in log]
    assert all(body in encoded for (_, encoded), (_, body) in zip(report.entries(), log, strict=True))
    assert (report.batches, report.torn_bytes, report.verdict) == (7, 0, "sound")
    assert [(segment.name, segment.batches) for segment in report.segments] == [(FIRST, 7)]


class ReadWhileWritten(RealFiles):
    """Reads the first half of the last segment, and the rest only when two more batches have been written."""

    def __init__(self, path: Path, journal: Journal, halves: int) -> None:
        super().__init__(path)
        self._journal = journal
        self._halves = halves

    def read(self, name: str) -> bytes:
        before = super().read(name)
        if self._halves == 0:
            return before
        self._halves -= 1
        half = self._journal.statistics().bytes + 40  # In the middle of the first of the two.
        for _ in range(2):
            self._journal.commit([StateRecord(b"written beside the reading")])
        return before[:half] + super().read(name)[half:]


def test_what_is_written_while_it_is_read_is_no_damage(tmp_path: Path) -> None:
    journal = open_journal(RealFiles(tmp_path))
    journal.commit([StateRecord(b"first")])
    for halves in range(4):
        report = inspect_journal(ReadWhileWritten(tmp_path, journal, halves))
        assert report.verdict == "sound"
    journal.close()


def test_inspect_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingJournalError):
        inspect_journal(tmp_path / "nowhere")
    with pytest.raises(MissingJournalError):
        inspect_journal(tmp_path)
    assert not (tmp_path / "nowhere").exists()
