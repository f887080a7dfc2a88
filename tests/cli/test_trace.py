"""`viewstamp trace`: a column per member, only what changed, filters, growing files, and files that are no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from trio.testing import MockClock

from statemachine import Counter
from viewstamp.cli import main
from viewstamp.cli.trace import follow
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.trace import TraceRecorder
from viewstamp.simulation.trace_reader import TraceParser
from viewstamp.simulation.world import World

TIME_WIDTH = 12


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run: a few commands, a crash of the primary, another primary."""
    path = tmp_path_factory.mktemp("trace") / "run.trace"
    world = World(7, machine=Counter)
    with path.open("w", encoding="utf-8") as opened:
        recorder = TraceRecorder(world, opened, seed=7)
        world.start_all()
        client = world.add_client()
        for _ in range(3):
            world.call(client, Counter.add.bind(1))
        assert world.run_until(lambda: len(world.answers) == 3, 5 * SECOND)
        recorder.note("the primary is killed")
        first = world.primary or 0
        world.crash(first)
        world.run_for(800 * MILLISECOND)
        world.start(first)
        world.run_for(100 * MILLISECOND)
        recorder.close()
    return path


def show(file: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["trace", str(file), *options])


def rows(result: Result) -> list[str]:
    """The lines below the titles, those continued joined."""
    assert result.exit_code == 0, result.stderr
    joined: list[str] = []
    for line in result.stdout.splitlines()[2:]:
        if line[:TIME_WIDTH].strip():
            joined.append(line)
        else:
            joined[-1] += " " + line.strip()
    return joined


def test_a_column_for_each_member_and_only_what_changed(file: Path) -> None:
    result = show(file)
    titles = result.stdout.splitlines()[:2]
    assert titles[0] == "vsr, seed 7, members 1, 2, 3, quorum 2"
    assert titles[1].split() == ["ms", "member", "1", "member", "2", "member", "3"]
    shown = rows(result)
    assert shown[0].startswith("    1000.000 start, life 1: founding")
    (note,) = [row for row in shown if "the primary is killed" in row]
    killed = shown[shown.index(note) + 1]
    assert killed.endswith("killed")
    assert any("restart, life 2" in row for row in shown)
    assert any(row.endswith("commit 4") for row in shown)
    assert any("view-change" in row for row in shown)
    assert "the end, after" in shown[-1]
    assert max(len(line) for line in result.stdout.splitlines()) <= TIME_WIDTH + 1 + 3 * 36


def test_one_member_alone(file: Path) -> None:
    result = show(file, "--member", "2")
    assert "member 1 " not in result.stdout.splitlines()[1]
    assert all(row[TIME_WIDTH + 1] != " " for row in rows(result))


def test_messages_of_a_type_where_they_are_sent_and_received(file: Path) -> None:
    shown = rows(show(file, "--message", "prepare"))
    assert any("Prepare to 2 (view 0 ops 1..1 of 0 commit 0 round" in row for row in shown)
    assert any("Prepare from 1" in row for row in shown)
    assert not any("StartViewChange" in row for row in shown)
    assert any("Commit from" in row and "nobody runs there" in row for row in rows(show(file, "--message", "Commit")))


def test_a_time_is_as_shown_and_a_limit_counts_lines(file: Path) -> None:
    times = [float(row[:TIME_WIDTH]) for row in rows(show(file, "--from", "1100", "--to", "1500.5"))]
    assert times
    assert 1100 <= min(times) <= max(times) <= 1500.5
    assert len(rows(show(file, "--limit", "4"))) == 4


def test_what_happened_before_the_first_time_shown_is_known(file: Path) -> None:
    """The first line shown tells a change, not the member's whole standing."""
    first = rows(show(file, "--from", "1500"))[0]
    assert "waits for nothing" not in first
    assert "primary 1, op" not in first


def test_a_cut_last_line_is_left_out_and_said(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.trace"
    cut.write_bytes(file.read_bytes()[:-30])
    result = show(cut)
    assert result.exit_code == 0
    assert result.stderr == f"viewstamp: {cut}: the last line is cut off, and left out\n"
    assert "the end, after" not in result.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is no trace: it is empty"),
        ("# Read me\n", "this is no trace: its first line does not say that its format is 'viewstamp-trace'"),
        ('{"format":"viewstamp-trace","version":2}\n', "this trace has format version 2; this program reads"),
    ],
)
def test_what_is_no_trace_is_one_line_and_exit_code_1(text: str, said: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(text)
    result = show(other)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"viewstamp: error: {other}: {said}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "nan"], "--from nan is no time of a run"),
        (["--to", "inf"], "--to inf is no time of a run"),
        (["--member", "9"], "--member: expected one of 1, 2, 3, found 9"),
        (["--from", "20", "--to", "10.5"], "--to 10.5 lies before --from 20"),
        (["--message", "Prepared"], "--message: expected one of Prepare, PrepareOk, "),
        (["--limit", "0"], "is not in the range"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(options: list[str], said: str, file: Path) -> None:
    result = show(file, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert said in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = show(tmp_path / "nothing")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_watching_a_finished_run_shows_it_and_ends(file: Path) -> None:
    assert rows(show(file, "--watch")) == rows(show(file))


def contents_and_copy(file: Path, folder: Path) -> tuple[bytes, Path]:
    """What a file holds, and an empty one to be filled with it."""
    growing = folder / "growing.trace"
    growing.touch()
    return file.read_bytes(), growing


async def test_watching_follows_a_file_as_it_grows(file: Path, tmp_path: Path, autojump_clock: MockClock) -> None:
    data, growing = contents_and_copy(file, tmp_path)
    parser = TraceParser()
    seen: list[int] = []

    async def grow() -> None:
        for start in range(0, len(data), 5000):  # Also in the middle of lines.
            with growing.open("ab") as opened:
                opened.write(data[start : start + 5000])
            await trio.sleep(1)

    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grow)
            async for records in follow(growing, parser, watch=True):
                seen += [record["n"] for record in records]
    assert parser.ended
    assert seen == list(range(1, len(data.splitlines())))
