"""The form of an executor's snapshot: framed chunks with a checksum each, and a digest of it all at the end.

Only the concatenation counts when it is stored or sent; the frames bring back the chunks as they were. Each chunk is
verified before a state machine sees it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from zlib import crc32

from statemachine.errors import SnapshotError

# magic, format version, applied op, rolling digest
_HEADER = struct.Struct(">8sBQ16s")
_MAGIC = b"VSTSNAP\n"
_VERSION = 2
# length of the chunk (0 ends a section), its checksum
_FRAME = struct.Struct(">II")
_END = _FRAME.pack(0, 0)
DIGEST_BYTES = 32
PIECE_BYTES = 64 * 1024
_MAXIMUM_CHUNK_BYTES = (1 << 32) - 1


def write_stream(applied: int, digest: bytes, sections: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """The snapshot in pieces of at most PIECE_BYTES; the last one is the digest of all before it."""
    whole = blake2b(digest_size=DIGEST_BYTES)
    for piece in _pieces(_HEADER.pack(_MAGIC, _VERSION, applied, digest), sections):
        whole.update(piece)
        yield piece
    yield whole.digest()


def _pieces(header: bytes, sections: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    yield header
    for section in sections:
        for chunk in section:
            if not isinstance(chunk, (bytes, bytearray)):
                # Others have lengths too, in items of several bytes: what is written of them could not be read again.
                raise SnapshotError(f"a chunk of a snapshot must be bytes, and not a {type(chunk).__name__}")
            if not chunk:
                continue
            if len(chunk) > _MAXIMUM_CHUNK_BYTES:
                raise SnapshotError(f"a chunk of a snapshot has {len(chunk)} bytes; give it in smaller ones")
            frame = _FRAME.pack(len(chunk), crc32(chunk))
            if len(frame) + len(chunk) <= PIECE_BYTES:
                yield frame + chunk
                continue
            yield frame
            for start in range(0, len(chunk), PIECE_BYTES):
                yield chunk[start : start + PIECE_BYTES]
        yield _END


class StreamReader:
    """Reads what `write_stream` wrote, from pieces cut anywhere.

    Raises SnapshotError from each method when the bytes are something else.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._buffer = bytearray()
        self._whole = blake2b(digest_size=DIGEST_BYTES)

    def header(self) -> tuple[int, bytes]:
        """The applied op and the rolling digest."""
        magic, version, applied, digest = _HEADER.unpack(self._take(_HEADER.size))
        if magic != _MAGIC:
            raise SnapshotError("these bytes are no snapshot")
        if version != _VERSION:
            raise SnapshotError(f"it is of format {version}, and this program reads format {_VERSION} alone")
        return applied, digest

    def section(self) -> Iterator[bytes]:
        """The chunks of the next section; all of them must be taken before the next section is."""
        while True:
            length, checksum = _FRAME.unpack(self._take(_FRAME.size))
            if length == 0:
                return
            chunk = self._take(length)
            if crc32(chunk) != checksum:
                raise SnapshotError("a chunk of the snapshot is damaged")
            yield chunk

    def finish(self) -> bytes:
        """The digest. Nothing else may be left, and it must be right."""
        expected = self._whole.digest()
        if self._take(DIGEST_BYTES) != expected:
            raise SnapshotError("the snapshot's digest does not match")
        if self._buffer or any(self._pieces):
            raise SnapshotError("bytes follow the snapshot")
        return expected

    def _take(self, count: int) -> bytes:
        buffer = self._buffer
        while len(buffer) < count:
            piece = next(self._pieces, None)
            if piece is None:
                raise SnapshotError(f"the snapshot is cut short: {count - len(buffer)} more bytes were expected")
            buffer += piece
        taken = bytes(buffer[:count])
        del buffer[:count]
        self._whole.update(taken)
        return taken
