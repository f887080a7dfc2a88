from __future__ import annotations

import enum
import math
import subprocess
import sys
import time

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import Value, ValueDecodingError, ValueEncodingError, decode_value, encode_value

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
)
values: st.SearchStrategy[Value] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def identical(left: object, right: object) -> bool:
    """Equal with equal types: True is not 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(identical, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(identical(left[key], right[key]) for key in left)
    return left == right


@given(values)
def test_a_value_arrives_as_it_was(value: Value) -> None:
    data = encode_value(value)
    assert identical(decode_value(data), value)
    assert encode_value(decode_value(data)) == data


EDGES = [edge + step for bits in (0, 8, 16, 32, 63, 64) for edge in (1 << bits, -(1 << bits)) for step in range(-2, 2)]


@given(values | st.sampled_from([*EDGES, 22, 23, 24, 25, -24, -25]).filter(lambda edge: -(2**63) <= edge < 2**64))
def test_the_encoding_is_canonical_cbor(value: Value) -> None:
    assert encode_value(value) == cbor2.dumps(value, canonical=True)


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65_535, 65_536])
def test_strings_of_each_length_are_canonical_cbor(size: int) -> None:
    for value in ("x" * size, "é" * size, bytes(size)):
        assert encode_value(value) == cbor2.dumps(value, canonical=True)


def _longer(data: bytes, position: int) -> bytes:
    """The head at this place in the next longer form, which says the same."""
    major, width = data[position] & 0xE0, data[position] & 31
    size = 0 if width < 24 else 1 << (width - 24)
    number = width if width < 24 else int.from_bytes(data[position + 1 : position + 1 + size], "big")
    longer = size * 2 or 1
    head = bytes([major | (23 + longer.bit_length())]) + number.to_bytes(longer, "big")
    return data[:position] + head + data[position + 1 + size :]


@given(st.lists(st.none() | st.integers(-(2**32), 2**32 - 1) | st.text() | st.binary(), max_size=30), st.data())
def test_longer_forms_of_plain_lists_are_refused(value: list[Value], data: st.DataObject) -> None:
    encoded = encode_value(value)
    parts = [encode_value(part) for part in value]
    position, heads = len(encoded) - sum(map(len, parts)), [0]
    for part in parts:
        heads.append(position)
        position += len(part)
    positions = [position for position in heads if encoded[position] >> 5 < 7]  # None has no other form
    longer = _longer(encoded, data.draw(st.sampled_from(positions)))
    assert cbor2.loads(longer) == value
    with pytest.raises(ValueDecodingError, match="not canonical"):
        decode_value(longer)


@given(st.integers(0, 2**32 - 1) | st.integers(0, 300))
def test_longer_forms_of_a_number_are_refused(value: int) -> None:
    """Numbers by themselves are decoded without the decoder."""
    assert decode_value(encode_value(value)) == value
    with pytest.raises(ValueDecodingError, match="not canonical"):
        decode_value(_longer(encode_value(value), 0))


@given(st.dictionaries(st.text(), st.integers(0, 9), min_size=2))
def test_equal_dicts_have_equal_bytes_whatever_their_order(value: dict[str, int]) -> None:
    assert encode_value(value) == encode_value(dict(reversed(value.items())))


def decoded_or_refused(data: bytes) -> None:
    try:
        value = decode_value(data)
    except ValueDecodingError:
        return
    assert encode_value(value) == data


@given(st.binary(max_size=40))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    decoded_or_refused(data)


@given(values, st.data())
def test_damaged_encodings_are_decoded_or_refused(value: Value, data: st.DataObject) -> None:
    encoded = bytearray(encode_value(value))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= 1 << data.draw(st.integers(0, 7))
    decoded_or_refused(bytes(encoded))


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [1, {2}]}, r"value\['a'\]\[1\]: a set has no agreed order"),
        ([frozenset()], r"value\[0\]: a frozenset has no agreed order"),
        (object(), "value: a object cannot travel"),
        (Colour.RED, "value: a Colour cannot travel"),
        (bytearray(b"x"), "value: a bytearray cannot travel"),
        ({1: 2}, "value: a dict key is a int"),
        (math.nan, "nan is not a finite number"),
        ([math.inf], r"value\[0\]: inf is not a finite number"),
        (2**64, "value: 0x10000000000000000 is outside"),
        (-(2**63) - 1, "is outside"),
        pytest.param(-(1 << 20_000), "is outside", id="huge"),
        ("\ud800", "is no text"),
    ],
)
def test_what_cannot_travel_is_refused_by_place_and_reason(value: object, words: str) -> None:
    with pytest.raises(ValueEncodingError, match=words):
        encode_value(value)


def test_depth_is_bounded_both_ways() -> None:
    value: list[object] = []
    for _ in range(15):
        value = [value]
    assert decode_value(encode_value(value)) == value
    with pytest.raises(ValueEncodingError, match="too many containers"):
        encode_value([value])
    with pytest.raises(ValueDecodingError):
        decode_value(cbor2.dumps([value]))


def test_a_tuple_arrives_as_a_list() -> None:
    assert decode_value(encode_value((1, (2,)))) == [1, [2]]


@pytest.mark.parametrize(
    "hexadecimal",
    [
        "0102",  # bytes behind the value
        "1801",  # 1 in two bytes
        "fb3ff8000000000000",  # 1.5 in eight bytes
        "9fff",  # indefinite length
        "a2616101616102",  # one key twice
        "a2616201616101",  # keys not in order
        "a10102",  # a key that is no str
        "c074323032302d30312d30315430303a30303a30305a",  # a date
        "c249010000000000000000",  # a large number
        "d81c81d81d00",  # a list in itself
        "d82361",  # a regular expression
        "d9010281",  # a set
        "f7",  # undefined
        "e0",  # a simple value
        "f97e00",  # not a number
        "3bffffffffffffffff",  # -2**64
        "9b7fffffffffffffff",  # a list of that many
        "bb7fffffffffffffff",  # a dict of that many
        "5b7fffffffffffffff",  # bytes beyond the end
        "bfff",  # a dict of indefinite length
        "5f4161ff",  # bytes of indefinite length
        "bf0102ff",  # a dict of indefinite length with a key that is no str
        "a1f501",  # True as a key
        "a1810102",  # a list as a key
        "a1f90000f6",  # a float as a key
        "a101c100",  # a tag behind a key that is no str
        "61ff",  # text that is no UTF-8
        "f97c00",  # infinity
        "c11a514b67b0",  # a date as a number
        "d9d9f700",  # a value that says it is CBOR
        "dbffffffffffffffff00",  # a tag that nobody knows
        "",
    ],
)
def test_other_encodings_are_refused(hexadecimal: str) -> None:
    with pytest.raises(ValueDecodingError):
        decode_value(bytes.fromhex(hexadecimal))


@pytest.mark.parametrize("tag", [*range(300), 1001, 1004, 43_000, 55_799])
def test_no_tag_is_decoded(tag: int) -> None:
    head = bytearray(cbor2.dumps(tag))
    head[0] |= 0xC0
    for body in (b"\x61a", b"\x01", b"\x82\x01\x02", b"\x41a"):
        with pytest.raises(ValueDecodingError, match="tag"):
            decode_value(bytes(head) + body)


def test_keys_chosen_to_collide_are_refused_before_they_are_hashed() -> None:
    keys = b"".join(cbor2.dumps([number, number]) + b"\0" for number in range(50_000))
    begun = time.process_time()
    with pytest.raises(ValueDecodingError, match="key"):
        decode_value(b"\xb9\xc3\x50" + keys)
    assert time.process_time() - begun < 1.0


def test_a_decoder_that_cannot_be_strict_is_an_error_at_import() -> None:
    """Older ones of cbor2 know none of these arguments. Of each value it would be said that it is none."""
    program = "import cbor2; cbor2.loads = lambda data, *, tag_hook=None: 0; import statemachine"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unexpected keyword argument 'max_depth'" in done.stderr
