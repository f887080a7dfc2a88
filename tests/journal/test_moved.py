"""A data directory that somebody moves, removes or replaces while its member runs: nothing more is promised."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journal.support import image_of, images, open_journal, scenario
from viewstamp.journal import RealFiles, SnapshotFiles, StorageFailedError

WORDS = "writing to .*data failed: it was moved, removed or replaced while this member ran"


@pytest.fixture
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each sync, and not only after a while."""
    monkeypatch.setattr("viewstamp.journal.files.LOOK_AGAIN_S", 0.0)


def move(data: Path) -> None:
    data.rename(data.with_name("elsewhere"))


def replace(data: Path) -> None:
    move(data)
    data.mkdir()


def put_a_copy(data: Path) -> None:
    move(data)
    shutil.copytree(data.with_name("elsewhere"), data)


def empty(data: Path) -> None:
    for file in data.iterdir():
        file.unlink()


def move_parent(data: Path) -> None:
    data.parent.rename(data.parent.with_name("elsewhere"))


@pytest.mark.parametrize("happens", [move, replace, put_a_copy, empty, move_parent, shutil.rmtree])
@pytest.mark.parametrize("segment_bytes", [1, 1 << 20])
@pytest.mark.usefixtures("looks_always")
def test_what_is_written_after_it_is_not_acknowledged(
    happens: Callable[[Path], None], segment_bytes: int, tmp_path: Path
) -> None:
    """Nor is anything written into what took its place: that may be another member's, which runs already."""
    data = tmp_path / "parent" / "data"
    journal = open_journal(RealFiles(data), segment_bytes=segment_bytes)
    first, second, *_ = scenario()
    journal.commit(first)
    happens(data)
    before = {file.name: file.read_bytes() for file in data.iterdir()} if data.exists() else None
    with pytest.raises(StorageFailedError, match=WORDS):
        journal.commit(second)
    with pytest.raises(StorageFailedError, match=WORDS):
        journal.sync()
    journal.close()
    after = {file.name: file.read_bytes() for file in data.iterdir()} if data.exists() else None
    assert (after or None) == (before or None) or happens is empty


def test_it_is_found_out_at_the_first_sync_after_a_tenth_of_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("viewstamp.journal.files.monotonic", lambda: now[0])
    data = tmp_path / "data"
    journal = open_journal(RealFiles(data), segment_bytes=1 << 20)
    first, second, third, *_ = scenario()
    journal.commit(first)
    shutil.rmtree(data)
    now[0] += 0.09
    journal.commit(second)
    now[0] += 0.02
    with pytest.raises(StorageFailedError, match=WORDS):
        journal.commit(third)
    journal.close()


def test_a_snapshot_does_not_get_its_name_somewhere_else(tmp_path: Path) -> None:
    files = RealFiles(tmp_path / "data")
    files.lock()
    snapshots = SnapshotFiles(files)
    replace(tmp_path / "data")
    with pytest.raises(StorageFailedError, match=WORDS):
        snapshots.write(0, b"block")
    files.unlock()
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("looks_always")
def test_one_that_is_where_it_was_again_in_time_is_none_the_worse(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    journal = open_journal(RealFiles(data), segment_bytes=600)
    first, *others = scenario()
    journal.commit(first)
    data.rename(elsewhere)
    data.symlink_to(elsewhere)
    for records in others:
        journal.commit(records)
    journal.close()
    again = open_journal(RealFiles(data))
    assert image_of(again) == images(scenario())[-1]
    again.close()


@pytest.mark.usefixtures("looks_always")
def test_a_directory_that_may_not_be_looked_for_any_more_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may give up its rights once all is open."""
    journal = open_journal(RealFiles(tmp_path), segment_bytes=600)

    def refused(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr("viewstamp.journal.system.os.path.samestat", refused)
    for records in scenario():
        journal.commit(records)
    journal.close()
    again = open_journal(RealFiles(tmp_path))
    assert image_of(again) == images(scenario())[-1]
    again.close()
