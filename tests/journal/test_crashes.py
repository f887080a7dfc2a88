"""Crashes of the simulated disk anywhere: a prefix of the batches comes back, at least all that were synced."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.support import Image, apply, entries, image_of, images, open_journal, scenario
from viewstamp.journal import FoundingRecord, Journal, JournalRecord, StateRecord, TruncateRecord
from viewstamp.journal.simulated import Crash, SimulatedCrashError, SimulatedDisk


class Life:
    """A member's disk, what may come back from it, and how much of that must."""

    def __init__(self, seed: int, segment_bytes: int) -> None:
        self.disk = SimulatedDisk(Random(seed))
        self.segment_bytes = segment_bytes
        self.possible: list[Image] = [(None, None, ())]
        """What a restart may find: the last that is known to be durable, then what was begun after it."""

    def restart(self, crash: tuple[int, Crash] | None = None) -> Journal | None:
        """The next process; None if it crashes while it starts. What it finds is durable from then on."""
        if crash is not None:
            self.disk.plan_crash(*crash)
        try:
            journal = open_journal(self.disk.files(), segment_bytes=self.segment_bytes)
        except SimulatedCrashError:
            return None
        found = image_of(journal)
        assert found in self.possible
        self.possible = [found]
        return journal

    def commit(self, journal: Journal, records: Sequence[JournalRecord]) -> bool:
        """One batch; False if the process crashed in it."""
        after = apply(self.possible[-1], records)
        self.possible.append(after)
        try:
            journal.commit(records)
        except SimulatedCrashError:
            return False
        self.possible = [after]
        return True


def settle(life: Life, journal: Journal | None) -> None:
    """Restart until it holds, through the loss of power: what was recovered once must come back again."""
    while journal is None:
        journal = life.restart()
    life.disk.lose_power()
    while (again := life.restart()) is None:
        pass  # a crash that was planned and not reached before
    again.close()


@pytest.mark.parametrize("crash", list(Crash))
@pytest.mark.parametrize("segment_bytes", [1, 600, 1 << 20])
def test_crash_inside_every_operation(crash: Crash, segment_bytes: int) -> None:
    for seed in range(6):
        finished = False
        nth = 0
        while not finished:
            nth += 1
            life = Life(seed * 1000 + nth, segment_bytes)
            journal = life.restart((nth, crash))
            if journal is not None:
                finished = all(life.commit(journal, records) for records in scenario())
            settle(life, journal if finished else None)
        assert nth > 15


@pytest.mark.parametrize("crash", list(Crash))
def test_crash_inside_every_operation_of_a_restart_after_a_crash(crash: Crash) -> None:
    """The cut of a torn tail is itself interrupted, at any point, and the log then goes on."""
    for seed in range(40):
        for nth in range(1, 8):
            life = Life(seed, 600)
            journal = life.restart()
            assert journal is not None
            for records in scenario()[:3]:
                assert life.commit(journal, records)
            life.disk.plan_crash(1, Crash.KILLED)  # inside the write: a torn tail that survives
            assert not life.commit(journal, scenario()[3])
            journal = life.restart((nth, crash))
            while journal is None:
                journal = life.restart()
            op = len(life.possible[0][2]) + 1
            life.commit(journal, [entries(op, [b"short"])])
            settle(life, journal)


def test_what_was_read_back_after_a_kill_survives_the_power() -> None:
    """A killed process leaves a batch written and not synced; a restart that has shown it must have synced it."""
    for seed in range(30):
        disk = SimulatedDisk(Random(seed))
        journal = open_journal(disk.files())
        journal.write(journal.encode_batch(scenario()[0]))
        disk.kill()
        journal = open_journal(disk.files())
        assert image_of(journal) == images(scenario())[1]
        disk.lose_power()
        journal = open_journal(disk.files())
        assert image_of(journal) == images(scenario())[1]


records_of = st.lists(
    st.one_of(
        st.tuples(st.just("state"), st.binary(max_size=30)),
        st.tuples(st.just("founding"), st.binary(max_size=30)),
        st.tuples(st.just("truncate"), st.integers(0, 12)),
        st.tuples(st.just("entries"), st.lists(st.binary(max_size=900), min_size=1, max_size=4)),
    ),
    max_size=4,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), records_of),
        st.tuples(st.just("crash in"), st.integers(1, 12), st.sampled_from(Crash)),
        st.tuples(st.just("crash"), st.sampled_from(Crash)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)


def concrete(image: Image, drawn: Sequence[tuple[str, object]]) -> list[JournalRecord]:
    """Drawn records with the op-numbers that continue `image`."""
    result: list[JournalRecord] = []
    for kind, value in drawn:
        record: JournalRecord
        match kind, value:
            case "state", bytes():
                record = StateRecord(value)
            case "founding", bytes():
                record = FoundingRecord(value)
            case "truncate", int():
                record = TruncateRecord(value)
            case _, list():
                record = entries(len(image[2]) + 1, value)
            case _:
                raise TypeError(kind)
        image = apply(image, [record])
        result.append(record)
    return result


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([1, 700, 1 << 20]), steps)
def test_any_history_keeps_a_prefix(seed: int, segment_bytes: int, history: list[tuple[object, ...]]) -> None:
    life = Life(seed, segment_bytes)
    journal = life.restart()
    for step in history:
        while journal is None:
            journal = life.restart()
        match step:
            case ("commit", list() as drawn):
                if not life.commit(journal, concrete(life.possible[-1], drawn)):
                    journal = None
            case ("crash in", int() as nth, Crash() as crash):
                life.disk.plan_crash(nth, crash)
            case ("crash", Crash() as crash):
                if crash is Crash.KILLED:
                    life.disk.kill()
                else:
                    life.disk.lose_power()
                journal = None
            case _:
                journal.close()
                journal = None
    settle(life, journal)


def commit_all(journal: Journal) -> None:
    for records in scenario():
        journal.commit(records)


def test_the_same_seed_gives_the_same_disk_to_the_byte() -> None:
    def run() -> dict[str, bytes]:
        disk = SimulatedDisk(Random(5))
        journal = open_journal(disk.files(), segment_bytes=600)
        disk.plan_crash(14, Crash.POWER_LOST)
        with pytest.raises(SimulatedCrashError):
            commit_all(journal)
        return disk.contents()

    assert run() == run()
