"""The codec of messages: one message, one encoding, one error."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport import CodecError, MessageCodec


@dataclass(frozen=True, slots=True)
class Everything:
    number: int
    flag: bool
    body: bytes
    text: str
    numbers: tuple[int, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class One:
    number: int


@dataclass(frozen=True, slots=True)
class Blob:
    body: bytes


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(frozen=True, slots=True)
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("odd")


def _join(words: tuple[str, ...]) -> bytes:
    return "\0".join(words).encode()


def _split(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode().split("\0"))


CODEC = MessageCodec({64: Everything, 65: One, 66: Nothing, 255: Even, 67: Blob}, {tuple[str, ...]: (_join, _split)})
UNSIGNED = st.integers(0, 2**64 - 1)
WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)
MESSAGES = (
    st.builds(
        Everything,
        UNSIGNED,
        st.booleans(),
        st.binary(),
        st.text(),
        st.lists(UNSIGNED).map(tuple),
        WORDS.map(tuple),
    )
    | st.builds(One, UNSIGNED)
    | st.builds(Blob, st.binary())
    | st.just(Nothing())
)


class Colour(IntEnum):
    RED = 1


@given(MESSAGES)
def test_messages_come_back(message: object) -> None:
    assert CODEC.decode(CODEC.encode(message)) == message


@given(MESSAGES)
def test_a_message_that_is_never_made_has_the_same_bytes(message: Any) -> None:
    kind = type(message)
    assert CODEC.encoder(kind)(*[getattr(message, field.name) for field in dataclasses.fields(kind)]) == CODEC.encode(
        message
    )


@given(MESSAGES, st.data())
def test_a_damaged_message_decodes_to_itself_or_raises_codec_error(message: object, data: st.DataObject) -> None:
    damaged = bytearray(CODEC.encode(message))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for hostile in (bytes(damaged), bytes(damaged[:cut]), bytes(damaged) + b"\0"):
        try:
            decoded = CODEC.decode(hostile)
        except CodecError:
            continue
        assert CODEC.encode(decoded) == hostile


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_raise_codec_error(data: bytes) -> None:
    try:
        message = CODEC.decode(data)
    except CodecError:
        return
    assert CODEC.encode(message) == data


EVERYTHING = CODEC.encode(Everything(1, True, b"body", "text", (2, 3), ("four", "five")))


def _with(position: int, value: int) -> bytes:
    return EVERYTHING[:position] + bytes([value]) + EVERYTHING[position + 1 :]


def test_the_layout_is_as_documented() -> None:
    assert EVERYTHING.hex(" ", -4).startswith("40000000 00000000 01010000 00040000 00040000 0010")
    assert EVERYTHING[22:] == b"bodytext" + bytes([0] * 7 + [2] + [0] * 7 + [3]) + b"four\0five"
    assert CODEC.encode(One(258)).hex() == "410000000000000102"
    assert CODEC.encode(Blob(b"abc")) == b"Cabc"
    assert CODEC.encode(Nothing()) == b"B"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "nothing"),
        (b"\x00" + bytes(8), "an unknown tag"),
        (b"A" + bytes(7), "an integer cut short"),
        (b"A" + bytes(9), "more than an integer"),
        (b"B\x00", "more than nothing"),
        (b"\xff" + bytes(7) + b"\x01", "what its class refuses"),
        (_with(9, 2), "a bool that is neither"),
        (_with(10, 0xFF), "a length beyond the end"),
        (_with(18, 0xFF), "another length beyond the end"),
        (_with(21, 15), "a vector whose length is no multiple of 8"),
        (_with(26, 0xFF), "a text that is not UTF-8"),
        (EVERYTHING[:21], "a head cut short"),
        (EVERYTHING[:37], "a vector cut short"),
        (EVERYTHING[:-1] + b"\xff", "a value that its converter refuses"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(CodecError):
        CODEC.decode(data)


@pytest.mark.parametrize(
    "message",
    [
        One(-1),
        One(2**64),
        One(True),
        One("1"),  # type: ignore[arg-type]  # the point of the test
        One(Colour.RED),
        Everything(1, True, b"", "", (-1,), ("",)),
        Everything(1, True, b"", "", ("x",), ("",)),  # type: ignore[arg-type]  # the point of the test
        Everything(1, True, b"", "", (), (5,)),  # type: ignore[arg-type]  # the point of the test
        Everything(1, True, b"", "\ud800", (), ("",)),
        "no message",
    ],
)
def test_a_message_with_a_wrong_field_is_not_sent(message: object) -> None:
    with pytest.raises(CodecError):
        CODEC.encode(message)


def test_classes_that_cannot_travel_are_refused_at_once() -> None:
    @dataclass(frozen=True, slots=True)
    class Nested:
        values: dict[str, int]

    with pytest.raises(TypeError, match="values"):
        MessageCodec({1: Nested})
    with pytest.raises(TypeError, match="dataclass"):
        MessageCodec({1: int})
    with pytest.raises(ValueError, match="tag"):
        MessageCodec({256: One})


def test_a_class_that_checks_its_fields_does_so_when_it_is_decoded() -> None:
    assert CODEC.decode(CODEC.encode(Even(2))) == Even(2)
    with pytest.raises(CodecError, match="odd"):
        CODEC.decode(CODEC.encode(Even(2))[:-1] + b"\x01")


def test_what_is_decoded_is_frozen_and_equal_in_every_way() -> None:
    message = Everything(1, False, b"body", "text", (2, 3), ("four",))
    decoded = CODEC.decode(CODEC.encode(message))
    assert repr(decoded) == repr(message)
    assert hash(decoded) == hash(message)
    with pytest.raises(dataclasses.FrozenInstanceError):
        decoded.number = 2
