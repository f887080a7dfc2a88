"""The key-value store against a dict, and its snapshot beside commands."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from statemachine import Executor, KeyValueStore, SnapshotError, Value, encode_value
from statemachine.key_value import (
    MAXIMUM_VALUE_BYTES,
    BadKeyError,
    BadValueError,
    CannotAppendError,
    _place,
)
from tests.statemachine.driving import apply
from tests.statemachine.test_values import values

keys = st.sampled_from(["", "a", "b", "ä", "key"])
some_values = st.sampled_from([0, 1, True, 1.0, "", "x", "1", b"", b"y", [], [1], {"k": None}, False])


def content(store: KeyValueStore) -> bytes:
    return b"".join(store.snapshot())


def restored(chunks: list[bytes]) -> KeyValueStore:
    store = KeyValueStore()
    store.restore(iter(chunks))
    return store


def same(left: Value, right: Value) -> bool:
    return encode_value(left) == encode_value(right)


class AgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = KeyValueStore()
        self.model: dict[str, tuple[Value, int]] = {}
        self.versions: set[int] = set()
        self.open: list[tuple[list[bytes], Callable[[], bytes | None], bytes]] = []

    def wrote(self, key: str, value: Value, version: int) -> None:
        assert not self.versions or version > max(self.versions)
        self.versions.add(version)
        self.model[key] = (value, version)

    @rule(key=keys, value=some_values)
    def put(self, key: str, value: Value) -> None:
        self.wrote(key, value, self.store.put(key, value))

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert self.store.delete(key) is (self.model.pop(key, None) is not None)

    @rule(key=keys, suffix=some_values)
    def append(self, key: str, suffix: Value) -> None:
        for kind in (str, bytes, list):
            present = self.model[key][0] if key in self.model else kind()
            if type(present) is kind and type(suffix) is kind:
                self.wrote(key, present + suffix, self.store.append(key, suffix))  # type: ignore[operator]  # same kind
                return
        with pytest.raises(CannotAppendError):
            self.store.append(key, suffix)

    @rule(key=keys, expected=some_values | st.none(), value=some_values)
    def compare_and_swap(self, key: str, expected: Value, value: Value) -> None:
        current = self.model.get(key, (None, 0))
        result = self.store.compare_and_swap(key, expected, value)
        assert result["swapped"] is same(current[0], expected)
        if result["swapped"]:
            self.wrote(key, value, result["version"])
        else:
            assert result["current"] == self.store.get(key)

    @rule(key=keys, version=st.integers(0, 8), value=some_values)
    def swap_if_version(self, key: str, version: int, value: Value) -> None:
        current = self.model.get(key, (None, 0))
        result = self.store.swap_if_version(key, version, value)
        assert result["swapped"] is (current[1] == version)
        if result["swapped"]:
            self.wrote(key, value, result["version"])

    @rule()
    def begin_snapshot(self) -> None:
        expected, chunks = content(self.store), self.store.snapshot()
        self.open.append(([], lambda: next(chunks, None), expected))

    @rule()
    def continue_snapshot(self) -> None:
        for taken, advance, _ in self.open:
            chunk = advance()
            if chunk is not None:
                taken.append(chunk)

    @rule()
    def restore(self) -> None:
        self.store = restored(list(self.store.snapshot()))

    @invariant()
    def equal(self) -> None:
        for key in ("", "a", "b", "ä", "key", "never"):
            found = self.store.get(key)
            if key in self.model:
                assert found is not None
                assert same(found["value"], self.model[key][0])
                assert found["version"] == self.model[key][1]
            else:
                assert found is None
        assert self.store.size() == len(self.model)

    def teardown(self) -> None:
        for taken, advance, expected in self.open:
            while (chunk := advance()) is not None:
                taken.append(chunk)
            assert b"".join(taken) == expected


TestAgainstDict = AgainstDict.TestCase
TestAgainstDict.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=8), values.filter(lambda value: value is not None), max_size=20), st.randoms())
def test_the_snapshot_follows_from_the_content_alone(items: dict[str, Value], random: object) -> None:
    first, second = KeyValueStore(), KeyValueStore()
    for store in (first, second):
        for key, value in items.items():
            store.put(key, value)
    # Another past: snapshots that made copies of buckets, and a restore.
    second = restored(list(second.snapshot()))
    second.snapshot()
    for store in (first, second):
        for key in list(items)[::2]:
            store.delete(key)
            store.put(key, items[key])
    assert content(first) == content(second)


def test_keys_of_one_bucket_come_in_their_own_order() -> None:
    bucket = _place("0")
    first, second = [key for key in map(str, range(60_000)) if _place(key) == bucket][:2]
    stores = KeyValueStore(), KeyValueStore()
    for store in stores:
        store.put(second, 1)
        store.put(first, 2)
        store.put(second, 3)
    stores[1].delete(second)
    stores[1].put(second, 3)
    stores[0].put(second, 3)
    assert content(stores[0]) == content(stores[1])


def mixed_store() -> Executor:
    executor = Executor(KeyValueStore())
    apply(executor, 1, 2, 0, 0, 0, 0, 0, b"")
    for op in range(2, 120):
        key = f"key-{op % 37}"
        body = KeyValueStore.delete.bind(key) if op % 5 == 0 else KeyValueStore.put.bind(key, {"z": op, "a": [op]})
        apply(executor, op, 1, 1, op, op - 1, op, op, body)
    return executor


def test_a_large_snapshot_comes_in_pieces_and_stays_as_it_was() -> None:
    store = KeyValueStore()
    for number in range(3000):
        store.put(f"key-{number}", "v" * 200)
    expected = content(store)
    early, chunks = store.snapshot(), []
    for number, chunk in enumerate(early):
        assert len(chunk) < 70_000
        chunks.append(chunk)
        for changed in range(number, 3000, 50):
            store.put(f"key-{changed}", "changed")
            store.delete(f"key-{changed + 1}")
        if number == 3:
            later_expected, later = content(store), store.snapshot()
    assert len(chunks) > 8
    assert b"".join(chunks) == expected != content(store)
    assert b"".join(later) == later_expected
    assert content(restored(chunks)) == expected


def test_a_command_copies_a_shared_bucket_once() -> None:
    store = KeyValueStore()
    store.put("a", 1)
    bucket = store._buckets[_place("a")]
    store.put("a", 2)
    assert store._buckets[_place("a")] is bucket
    store.snapshot()
    store.put("a", 3)
    copied = store._buckets[_place("a")]
    assert copied is not bucket
    store.put("a", 4)
    assert store._buckets[_place("a")] is copied


def test_a_version_is_not_repeated_after_a_delete() -> None:
    store = KeyValueStore()
    first = store.put("a", 1)
    store.delete("a")
    assert store.swap_if_version("a", first, 2) == {"swapped": False, "current": None}
    assert store.put("a", 1) > first


@pytest.mark.parametrize("key", [1, None, b"a", "x" * 5000, "ä" * 2049])
def test_bad_keys_are_refused(key: Value) -> None:
    store = KeyValueStore()
    with pytest.raises(BadKeyError):
        store.put(key, 1)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(BadKeyError):
        store.get(key)  # type: ignore[arg-type]  # the point of the test


def test_bad_values_are_refused_and_change_nothing() -> None:
    store = KeyValueStore()
    store.put("a", b"x" * (MAXIMUM_VALUE_BYTES - 10))
    before = content(store)
    for attempt in (
        lambda: store.put("a", None),
        lambda: store.compare_and_swap("b", None, None),
        lambda: store.put("a", bytes(MAXIMUM_VALUE_BYTES)),
        lambda: store.append("a", bytes(20)),
    ):
        with pytest.raises(BadValueError):
            attempt()
    assert content(store) == before


@pytest.mark.parametrize(
    "chunks",
    [[], [b"\xff"], [encode_value([1])], [encode_value([1, 5])], [encode_value([1, 1]), encode_value(["a", 1])]],
)
def test_other_chunks_are_no_snapshot(chunks: list[bytes]) -> None:
    with pytest.raises((SnapshotError, ValueError)):
        restored(chunks)
