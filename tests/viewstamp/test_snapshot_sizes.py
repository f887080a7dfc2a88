"""Snapshots of every size near a border of chunks and blocks: taken, given, fetched and read back, in any order."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import pytest

from viewstamp.journal import MemoryFiles, SnapshotFiles
from viewstamp.protocol import MILLISECOND, SNAPSHOT_DIGEST_BYTES, Snapshot, Viewstamp
from viewstamp.replica.chunks import BLOCK_BYTES, CHUNK_BYTES
from viewstamp.replica.fetching import Fetching
from viewstamp.replica.file_tasks import ReadBlock, WriteBlock, perform
from viewstamp.replica.records import record_of
from viewstamp.replica.serving import Serving
from viewstamp.replica.taking import Taking
from viewstamp.wire import Chunk, GetChunk

BORDERS = (CHUNK_BYTES, 5 * CHUNK_BYTES, BLOCK_BYTES, BLOCK_BYTES + CHUNK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES)
SIZES = (SNAPSHOT_DIGEST_BYTES + 1, *(border + delta for border in BORDERS for delta in (-1, 0, 1, 31, 32, 33)))
RETRY_NS = 20 * MILLISECOND


def pieces_of(state: bytes, random: Random) -> list[bytes]:
    """As a state machine may give them: short, long, as long as a block, and at the end the digest."""
    pieces = []
    at = 0
    while at < len(state):
        length = random.choice((1000, CHUNK_BYTES, 64 * 1024, BLOCK_BYTES, 2 * BLOCK_BYTES))
        pieces.append(state[at : at + length])
        at += length
    return [*pieces, blake2b(state, digest_size=SNAPSHOT_DIGEST_BYTES).digest()]


def taken(files: SnapshotFiles, state: bytes, random: Random) -> Snapshot:
    """The snapshot of this state, written to these files."""
    taking = Taking(Viewstamp(1, 7), 0, iter(pieces_of(state, random)), random.choice((1, 64 * 1024, 10 * BLOCK_BYTES)))
    for _ in range(100_000):
        block = taking.next_block()
        if block is not None:
            perform(block, files)
            taking.written(0)
            if block.finished is not None:
                assert not taking.wants_turn
                return block.finished
    raise AssertionError("never finished")


class Transfer:
    """One member that gives and one that fetches; datagrams between them are lost, doubled and late."""

    def __init__(self, source: SnapshotFiles, target: SnapshotFiles, snapshot: Snapshot, random: Random) -> None:
        self.files = {1: source, 2: target}
        self.snapshot = snapshot
        self.random = random
        self.now = 0
        self.questions: list[GetChunk] = []
        self.answers: list[Chunk] = []
        self.serving = Serving(self.answer, 10**12)
        self.fetching = Fetching(snapshot, 1, RETRY_NS, 0)
        self.reads: list[ReadBlock] = []
        self.block: WriteBlock | None = None
        self.done = False

    def answer(self, _: int, message: object) -> None:
        assert isinstance(message, Chunk), "a sound snapshot is never withheld"
        assert len(message.data) == min(CHUNK_BYTES, self.snapshot.size - message.offset)
        self.answers.append(message)

    def step(self) -> None:
        draw = self.random
        self.now += draw.randrange(RETRY_NS)
        self.questions += self.fetching.questions(self.now)
        draw.shuffle(self.questions)
        for question in self.questions[:4]:
            if draw.random() > 0.1:
                self.serving.ask(2, question, [self.snapshot], self.now)
        del self.questions[: draw.randrange(5)]  # Some are asked again.
        self.reads += self.serving.take_reads()
        if self.reads and draw.random() > 0.3:
            read = self.reads.pop(0)
            self.serving.read(read, perform(read, self.files[1]))
        draw.shuffle(self.answers)
        for chunk in self.answers[:4]:
            if draw.random() > 0.1:
                self.fetching.take(chunk, self.now)
        del self.answers[: draw.randrange(5)]
        if self.block is None:
            self.block = self.fetching.next_block()
        elif draw.random() > 0.3:
            perform(self.block, self.files[2])
            self.done = self.block.finished is not None
            self.fetching.written(self.now)
            self.block = None


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_of_any_size_comes_over_as_it_is(seed: int) -> None:
    random = Random(seed)
    for size in SIZES:
        state = random.randbytes(size - SNAPSHOT_DIGEST_BYTES)
        source, target = SnapshotFiles(MemoryFiles()), SnapshotFiles(MemoryFiles())
        snapshot = taken(source, state, random)
        assert snapshot.size == size
        assert b"".join(source.pieces(record_of(snapshot))) == state + snapshot.digest
        transfer = Transfer(source, target, snapshot, random)
        for _ in range(3000):
            transfer.step()
            if transfer.done:
                break
        assert transfer.done, f"{size} bytes are never there: {transfer.fetching.received}"
        assert transfer.fetching.next_block() is None
        assert b"".join(target.pieces(record_of(snapshot))) == state + snapshot.digest


def test_a_disk_that_takes_long_is_no_silence_of_the_source() -> None:
    """It asks for nothing meanwhile. Taken for silence, all that has come would be fetched anew, and again."""
    data = bytes(6 * BLOCK_BYTES)
    fetching = Fetching(Snapshot(1, 7, 0, len(data), bytes(SNAPSHOT_DIGEST_BYTES)), 1, RETRY_NS, 0)
    now, patience, block = 0, 10 * RETRY_NS, None
    for _ in range(3):
        while questions := fetching.questions(now):
            for question in questions:
                fetching.take(Chunk(7, b"", question.offset, data[question.offset :][:CHUNK_BYTES]), now)
            block = block or fetching.next_block()
        assert block is not None
        now += 10 * patience
        assert not fetching.overdue(patience, now)
        fetching.written(now)
        block = fetching.next_block()
        assert not fetching.overdue(patience, now)
    assert fetching.questions(now)
    assert fetching.overdue(patience, now + patience + 1)


def test_chunks_that_come_again_or_unasked_are_not_kept() -> None:
    """As old datagrams do; of a large snapshot they could be many."""
    data = bytes(30 * CHUNK_BYTES)
    fetching = Fetching(Snapshot(1, 7, 0, len(data), bytes(SNAPSHOT_DIGEST_BYTES)), 1, RETRY_NS, 0)
    for _ in range(4):
        for question in fetching.questions(0):
            chunk = Chunk(7, b"", question.offset, data[:CHUNK_BYTES])
            assert fetching.take(chunk, 0)
            assert not fetching.take(chunk, 0)
            assert not fetching.take(Chunk(7, b"", 29 * CHUNK_BYTES, data[:CHUNK_BYTES]), 0)
    assert fetching.received == 20 * CHUNK_BYTES
    assert not fetching._early
