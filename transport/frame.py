"""The frame around every datagram: who sends, to which cluster, in which version, and whether it arrived whole.

Layout, big-endian, 56 bytes before the payload:

    checksum (4), magic (4), version (1), lowest (1), highest (1), flags (1)
    cluster id (8), configuration digest (8), group (4), epoch (4)
    sender (8), incarnation (8), payload length (4)

`version` is the frame's own; `lowest` and `highest` are those that its sender understands. `flags` names the kind of
checksum: 0 is the CRC-32 of all that follows it. A keyed one gets another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeAlias
from zlib import crc32

MAGIC: Final = b"VSTP"
VERSION: Final = 1
LOWEST_VERSION: Final = 1
HIGHEST_VERSION: Final = 1
CRC32_FLAGS: Final = 0
FIRST_CLIENT: Final = 1 << 32
"""Sender ids from here up are clients; members are below."""

_CHECKSUM: Final = Struct(">I")
_PREFIX: Final = Struct(">4sBBBB8s8sII")
_SENDER: Final = Struct(">QQ")
_LENGTH: Final = Struct(">I")
_WITHOUT_PREFIX: Final = Struct(f">I{_PREFIX.size}xQQI")
HEADER_BYTES: Final = _WITHOUT_PREFIX.size
_CHECKSUM_BYTES: Final = _CHECKSUM.size
_pack_number = _LENGTH.pack
_unpack_header = _WITHOUT_PREFIX.unpack_from

DROP_REASONS: Final = (
    "short",
    "magic",
    "version",
    "cluster",
    "configuration",
    "group",
    "epoch",
    "length",
    "checksum",
)
_TOLD: Final = ("cluster", "configuration", "group", "epoch")


@dataclass(frozen=True, slots=True)
class FrameIdentity:
    """Who speaks, and where it belongs. Frames are exchanged only between equal first four fields.

    `cluster_id` and `configuration_digest` are 8 bytes each; `group` and `epoch` are unsigned 32-bit, `sender` (a
    member's id, or a client's from FIRST_CLIENT up) and `incarnation` unsigned 64-bit integers.

    Raises:
      ValueError: a field is out of its range.
    """

    cluster_id: bytes
    configuration_digest: bytes
    group: int
    epoch: int
    sender: int
    incarnation: int

    def __post_init__(self) -> None:
        for name, value in (("cluster_id", self.cluster_id), ("configuration_digest", self.configuration_digest)):
            if len(value) != 8:
                raise ValueError(f"{name} must have 8 bytes, not {len(value)}")
        for name, bits in (("group", 32), ("epoch", 32), ("sender", 64), ("incarnation", 64)):
            value = getattr(self, name)
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} must lie within 0 to 2**{bits} - 1, not {value}")


Frame: TypeAlias = tuple[int, int, bytes]
"""What a datagram carries once every check is passed: sender, its incarnation, payload."""


def incarnation_in(datagram: bytes) -> int:
    """The incarnation that a whole datagram names, unverified: for who watches what is sent."""
    return int(_unpack_header(datagram)[2])


class Framer:
    """Wraps payloads for one identity, and checks what arrives for it."""

    __slots__ = ("_fixed", "_prefix")

    def __init__(self, identity: FrameIdentity) -> None:
        self._prefix = _PREFIX.pack(
            MAGIC,
            VERSION,
            LOWEST_VERSION,
            HIGHEST_VERSION,
            CRC32_FLAGS,
            identity.cluster_id,
            identity.configuration_digest,
            identity.group,
            identity.epoch,
        )
        self._fixed = self._prefix + _SENDER.pack(identity.sender, identity.incarnation)

    def wrap(self, payload: bytes) -> bytes:
        """The datagram that carries `payload`, HEADER_BYTES longer."""
        covered = self._fixed + _pack_number(len(payload)) + payload
        return _pack_number(crc32(covered)) + covered

    def parse(self, datagram: bytes) -> Frame | str:
        """The frame in a datagram, or why it is dropped: one of DROP_REASONS. Never raises."""
        if len(datagram) < HEADER_BYTES:
            return "short"
        covered = datagram[_CHECKSUM_BYTES:]
        if not covered.startswith(self._prefix):  # one comparison passes nearly everything that is wanted
            reason = self._mismatch(covered)
            if reason:
                # People are told of other clusters and other files: damage on the way must not look like one of them.
                whole = reason not in _TOLD or _CHECKSUM.pack(crc32(covered)) == datagram[:_CHECKSUM_BYTES]
                return reason if whole else "checksum"
        checksum, sender, incarnation, length = _unpack_header(datagram)
        if length != len(datagram) - HEADER_BYTES:
            return "length"
        if crc32(covered) != checksum:
            return "checksum"
        return sender, incarnation, datagram[HEADER_BYTES:]

    def _mismatch(self, covered: bytes) -> str:
        """Why a prefix unlike ours is not accepted; empty if it is, as from a peer that also knows newer versions."""
        magic, version, lowest, highest, flags, cluster_id, configuration, group, epoch = _PREFIX.unpack_from(covered)
        _, _, _, _, _, our_cluster_id, our_configuration, our_group, our_epoch = _PREFIX.unpack(self._prefix)
        checks = (
            ("magic", magic == MAGIC),
            ("version", LOWEST_VERSION <= version <= HIGHEST_VERSION and lowest <= version <= highest),
            ("cluster", cluster_id == our_cluster_id),
            ("configuration", configuration == our_configuration),
            ("group", group == our_group),
            ("epoch", epoch == our_epoch),
            ("checksum", flags == CRC32_FLAGS),  # a kind of checksum that we cannot verify
        )
        return next((reason for reason, holds in checks if not holds), "")
