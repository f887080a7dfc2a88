"""The frame around every datagram: who sends, to which cluster, in which version, and whether it arrived whole.

Layout, big-endian, 56 bytes before the payload:

    magic (4), version (1), lowest (1), highest (1), flags (1)
    cluster id (8), configuration digest (8), group (4), epoch (4)
    sender (8), incarnation (8), payload length (4), checksum (4)

`version` is the frame's own; `lowest` and `highest` are those that its sender understands. `flags` names the kind of
checksum: 0 is the CRC-32 of header (its own field zero) and payload. A keyed one gets another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"VSTP"
VERSION: Final = 1
LOWEST_VERSION: Final = 1
HIGHEST_VERSION: Final = 1
CRC32_FLAGS: Final = 0
FIRST_CLIENT: Final = 1 << 32
"""Sender ids from here up are clients; members are below."""

_HEADER: Final = Struct(">4sBBBB8s8sIIQQII")
_PREFIX: Final = Struct(">4sBBBB8s8sII")
_SENDER: Final = Struct(">QQ")
_ENDING: Final = Struct(">II")
_REST: Final = Struct(">QQII")
HEADER_BYTES: Final = _HEADER.size
_PREFIX_BYTES: Final = _PREFIX.size
_CHECKSUM_AT: Final = HEADER_BYTES - 4
_NO_CHECKSUM: Final = bytes(4)

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


@dataclass(frozen=True, slots=True)
class Identity:
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


class Frame(NamedTuple):
    """What a datagram carries once every check is passed."""

    sender: int
    incarnation: int
    payload: bytes


class Framer:
    """Wraps payloads for one identity, and checks what arrives for it."""

    __slots__ = ("_fixed", "_fixed_checksum", "_prefix")

    def __init__(self, identity: Identity) -> None:
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
        self._fixed_checksum = crc32(self._fixed)

    def wrap(self, payload: bytes) -> bytes:
        """The datagram that carries `payload`, HEADER_BYTES longer."""
        length = len(payload)
        checksum = crc32(payload, crc32(_ENDING.pack(length, 0), self._fixed_checksum))
        return self._fixed + _ENDING.pack(length, checksum) + payload

    def parse(self, datagram: bytes) -> Frame | str:
        """The frame in a datagram, or why it is dropped: one of DROP_REASONS. Never raises."""
        if len(datagram) < HEADER_BYTES:
            return "short"
        if datagram[:_PREFIX_BYTES] != self._prefix:  # one comparison passes nearly everything that is wanted
            reason = self._mismatch(datagram)
            if reason:
                return reason
        sender, incarnation, length, checksum = _REST.unpack_from(datagram, _PREFIX_BYTES)
        payload = datagram[HEADER_BYTES:]
        if length != len(payload):
            return "length"
        if crc32(payload, crc32(_NO_CHECKSUM, crc32(datagram[:_CHECKSUM_AT]))) != checksum:
            return "checksum"
        return Frame(sender, incarnation, payload)

    def _mismatch(self, datagram: bytes) -> str:
        """Why a prefix unlike ours is not accepted; empty if it is, as from a peer that also knows newer versions."""
        magic, version, lowest, highest, flags, cluster_id, configuration, group, epoch = _PREFIX.unpack_from(datagram)
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
