"""Reading and verifying all segments of a directory; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from viewstamp.journal.errors import JournalCorruptError, JournalError, JournalFormatError
from viewstamp.journal.files import Files
from viewstamp.journal.fold import Fold, UnfoldableError
from viewstamp.journal.format import (
    SegmentHeader,
    decode_header,
    decode_records,
    find_batch,
    first_chain,
    identity_seed,
    later_batch,
    segment_name,
    segment_number,
)
from viewstamp.journal.records import Identity


class MissingJournalError(JournalError):
    """There is no journal in the directory."""


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One segment file: its size without unused room, how much of that is header and whole batches, and how many.

    `preceding_op` was the op of the last entry when it began.
    """

    name: str
    number: int
    bytes: int
    valid_bytes: int
    batches: int
    preceding_op: int


def segment_names(files: Files) -> list[str]:
    """The segments' file names in order; unfinished ones and other files are left out."""
    return [name for name in files.names() if segment_number(name) is not None]


def last_run(names: list[str]) -> int:
    """Where, in the sorted names of segments, the last run of consecutive numbers begins."""
    start = len(names) - 1
    while start > 0 and segment_number(names[start - 1]) == (segment_number(names[start]) or 0) - 1:
        start -= 1
    return start


class Reader:
    """Reads a journal segment by segment. After an error it still has what it had read before.

    The journal is the last run of consecutive segments. What lies before a gap is left over from a release that a
    crash interrupted: the names of removed files can come back after a power loss, in any combination. Nothing may be
    missing before the run but what the snapshot holds; a release drops a segment only if the snapshot holds all that
    was before the next one, so that each longer run that comes back is as good.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self.identity: Identity | None = None
        self.fold: Fold | None = None
        self.segments: list[SegmentReport] = []
        self.sequence = 0
        """The number of the next batch."""
        self.chain = 0
        self.torn_bytes = 0
        """How much of the last segment is the beginning of a batch that was never finished."""
        self.spare_bytes = 0
        """How much of it, at its end, is room that was never written to: zeros."""
        self.left_over: list[str] = []
        """The segments before the run."""

    def read(self) -> Fold:
        """Read everything.

        Raises:
          MissingJournalError: there is no segment.
          JournalFormatError: a format version that is not known.
          JournalCorruptError: anything is wrong but an unfinished batch at the very end.
          StorageFailedError: a file could not be read.
        """
        where = self._files.location
        names = segment_names(self._files)
        if not names:
            raise MissingJournalError(f"there is no journal in {where}")
        try:
            return self._read(names)
        except JournalCorruptError as error:
            raise JournalCorruptError(error.file, error.offset, error.reason, where) from error
        except JournalFormatError as error:
            raise JournalFormatError(f"{where}: {error}") from error

    def _read(self, names: list[str]) -> Fold:
        start = last_run(names)
        self.left_over = names[:start]
        fold = self._read_segment(names[start], is_last=start == len(names) - 1)
        for name in names[start + 1 :]:
            self._read_segment(name, is_last=name == names[-1])
        self._judge_beginning(fold)
        return fold

    def _judge_beginning(self, fold: Fold) -> None:
        """Tell a journal whose oldest segments were released from one that lacks them."""
        first = self.segments[0]
        snapshot = fold.checkpoint.snapshot
        if first.number != 1 and (snapshot is None or snapshot.op < first.preceding_op):
            raise JournalCorruptError(first.name, 0, f"{segment_name(first.number - 1)} is missing")

    def _read_segment(self, name: str, *, is_last: bool) -> Fold:
        raw = self._files.read(name)
        view = memoryview(raw)
        header, offset = decode_header(name, view)
        fold = self._enter(name, header)
        seed = identity_seed(header.identity)
        batches = 0
        while offset < len(raw):
            frame = find_batch(seed, view, offset)
            if frame is None:
                self._judge_tail(name, raw, offset, seed, is_last=is_last)
                break
            if frame.sequence != self.sequence or frame.chain != self.chain:
                raise JournalCorruptError(
                    name, offset, f"batch {frame.sequence} does not follow the one before it (expected {self.sequence})"
                )
            for record in decode_records(name, 0, view[: frame.end], frame.start):
                try:
                    fold.add(record)
                except UnfoldableError as error:
                    raise JournalCorruptError(name, offset, str(error)) from error
            batches += 1
            offset = frame.end
            self.sequence, self.chain = frame.sequence + 1, frame.checksum
        used = len(raw) - self.spare_bytes
        self.segments.append(SegmentReport(name, header.number, used, offset, batches, header.checkpoint.last_op))
        return fold

    def _enter(self, name: str, header: SegmentHeader) -> Fold:
        """Verify that a segment is where it belongs, and take over what its header says if it is the first."""
        if segment_number(name) != header.number:
            raise JournalCorruptError(name, 0, f"the file says that it is segment {header.number}")
        if self.fold is None or self.identity is None:
            self.identity = header.identity
            self.fold = Fold(header.checkpoint)
            self.sequence, self.chain = header.sequence, header.chain
            if header.number == 1 and header.chain != first_chain(header.identity, header.checkpoint.incarnation):
                raise JournalCorruptError(name, 0, "the first segment is bound to another incarnation")
            return self.fold
        if header.identity != self.identity:
            raise JournalCorruptError(name, 0, "this segment belongs to another cluster, member or protocol")
        if (header.sequence, header.chain, header.checkpoint) != (self.sequence, self.chain, self.fold.checkpoint):
            raise JournalCorruptError(name, 0, "this segment does not continue the one before it")
        return self.fold

    def _judge_tail(self, name: str, raw: bytes, offset: int, seed: int, *, is_last: bool) -> None:
        """Tell unused room and an unfinished batch, which nobody was told of, from damage to what was durable."""
        if not is_last:
            # The next segment begins only when every batch of this one is durable.
            raise JournalCorruptError(name, offset, "a batch is damaged, and a later segment follows")
        later = later_batch(seed, raw, offset, self.sequence)
        if later is not None:
            raise JournalCorruptError(name, offset, f"a batch is damaged, and a whole one follows at byte {later}")
        self.torn_bytes = len(raw[offset:].rstrip(b"\x00"))
        self.spare_bytes = len(raw) - offset - self.torn_bytes
