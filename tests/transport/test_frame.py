"""Frames: what is dropped, and why."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.network_run import identity
from transport import DROP_REASONS, HEADER_BYTES, FrameIdentity, Framer

HERE = identity(2)
PEER = identity(1, incarnation=0xFEDC)


@given(st.binary(max_size=2000), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_frame_comes_back(payload: bytes, sender: int, incarnation: int) -> None:
    datagram = Framer(identity(sender, incarnation)).wrap(payload)
    assert len(datagram) == HEADER_BYTES + len(payload)
    assert Framer(HERE).parse(datagram) == (sender, incarnation, payload)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster_id": b"another!"}, "cluster"),
        ({"configuration_digest": b"another!"}, "configuration"),
        ({"group": 1}, "group"),
        ({"epoch": 1}, "epoch"),
    ],
)
def test_frames_for_others_are_dropped_by_reason(change: dict[str, object], reason: str) -> None:
    other: FrameIdentity = dataclasses.replace(PEER, **change)  # type: ignore[arg-type]  # fields of several types
    assert Framer(HERE).parse(Framer(other).wrap(b"hello")) == reason


def _with_header(datagram: bytes, **bytes_at: int) -> bytes:
    """The datagram with header bytes replaced, and its checksum made right again."""
    changed = bytearray(datagram)
    for position, value in bytes_at.items():
        changed[int(position[2:])] = value
    changed[:4] = struct.pack(">I", zlib.crc32(changed[4:]))
    return bytes(changed)


def test_each_reason_has_its_case() -> None:
    framer = Framer(HERE)
    good = Framer(PEER).wrap(b"hello")
    cases = {
        "short": good[: HEADER_BYTES - 1],
        "magic": good[:4] + b"X" + good[5:],
        "version": _with_header(good, at8=2, at10=2),
        "length": good + b"!",
        "checksum": good[:-1] + b"!",
    }
    for reason, datagram in cases.items():
        assert framer.parse(datagram) == reason
        assert reason in DROP_REASONS
    assert framer.parse(b"") == "short"
    assert framer.parse(good[:-1]) == "length"
    assert framer.parse(_with_header(good, at11=1)) == "checksum"  # a kind of checksum that is not known here


@pytest.mark.parametrize("position", range(12, 36))
def test_damage_on_the_way_is_not_taken_for_another_cluster_or_another_file(position: int) -> None:
    """People are told of those, and would look for a difference that is none."""
    damaged = bytearray(Framer(PEER).wrap(b"hello"))
    damaged[position] ^= 4
    assert Framer(HERE).parse(bytes(damaged)) == "checksum"


def test_a_peer_that_knows_newer_versions_is_understood() -> None:
    newer = _with_header(Framer(PEER).wrap(b"hello"), at10=9)
    assert Framer(HERE).parse(newer) == (1, 0xFEDC, b"hello")


@given(st.binary(max_size=200))
def test_any_bytes_are_dropped_by_a_known_reason(datagram: bytes) -> None:
    assert Framer(HERE).parse(datagram) in DROP_REASONS


@given(st.binary(max_size=50), st.data())
def test_a_flipped_bit_never_passes(payload: bytes, data: st.DataObject) -> None:
    datagram = bytearray(Framer(PEER).wrap(payload))
    bit = data.draw(st.integers(0, 8 * len(datagram) - 1))
    datagram[bit // 8] ^= 1 << bit % 8
    assert Framer(HERE).parse(bytes(datagram)) in DROP_REASONS


@pytest.mark.parametrize(
    "change", [{"cluster_id": b"short"}, {"configuration_digest": b""}, {"group": 1 << 32}, {"epoch": -1}]
)
def test_an_identity_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(PEER, **change)  # type: ignore[arg-type]  # fields of several types
