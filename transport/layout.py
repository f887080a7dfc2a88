"""How one class of messages lies in bytes, as two functions made for it.

    tag (1); integers (8 each) and bools (1 each: 0 or 1), in the order of the fields; the lengths (4 each) of all byte
    strings but the last; the byte strings, one behind the other

All big-endian. The last byte string is what remains. So a message has one encoding, and all that can be wrong with
bytes is their number, a bool, or what is within a byte string: nothing needs to be encoded again to be compared.

The functions are generated, as those of dataclasses are, since each message of each command passes through them:
with one struct and no loop over fields they take a quarter of the time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from inspect import ismemberdescriptor
from struct import Struct
from typing import Any, NamedTuple, get_type_hints

Converter = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]
"""How one field type travels: (to bytes, from bytes). The second raises ValueError for bytes that the first would not
have written."""


class Layout(NamedTuple):
    """`write` gives the bytes of a message, `read` the message in such bytes; the tag is in them.

    `write_fields` takes the fields of a message, in their order, instead of it.

    `read` raises ValueError or struct.error, whatever the bytes. The others raise TypeError or struct.error for a field
    of a wrong type or range, and whatever a converter raises for a value that is not of its type.
    """

    write: Callable[[Any], bytes]
    write_fields: Callable[..., bytes]
    read: Callable[[bytes], Any]


class _Field(NamedTuple):
    """A field, its name in the generated functions, and its type: bytes, too, where a converter makes it that."""

    name: str
    local: str
    plain: type
    converted: bool


def make_layout(tag: int, kind: type, converters: Mapping[Any, Converter]) -> Layout:
    """The layout of a dataclass with fields of int (0 to 2**64 - 1), bool, bytes, and what `converters` has.

    A slotted class without a `__post_init__` is made without its `__init__`, which takes twice as long.

    Raises:
      TypeError: it is no dataclass, or a field is of another type.
      ValueError: the tag takes more than a byte.
    """
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is not a dataclass")
    if not 0 <= tag <= 255:
        raise ValueError(f"a tag lies within 0 to 255; {kind.__name__} has {tag}")
    hints = get_type_hints(kind)
    scope: dict[str, Any] = {"kind": kind, "new": object.__new__}
    fields: list[_Field] = []
    for index, name in enumerate(field.name for field in dataclasses.fields(kind)):
        local, hint = f"field_{index}", hints[name]
        if hint in _PLAIN:
            fields.append(_Field(name, local, hint, converted=False))
        elif hint in converters:
            fields.append(_Field(name, local, bytes, converted=True))
            scope[f"pack_{local}"], scope[f"unpack_{local}"] = converters[hint]
        else:
            raise TypeError(f"{kind.__name__}.{name} has type {hint}, which no converter carries")
    head = [field for field in fields if field.plain is not bytes]
    tail = [field for field in fields if field.plain is bytes]
    form = Struct(">B" + "".join(_PLAIN[field.plain] for field in head) + "I" * (len(tail) - 1))
    scope |= {"pack": form.pack, "unpack": form.unpack, "unpack_from": form.unpack_from}
    setters = _slot_setters(kind, fields)
    scope |= setters
    lines = [*_write(tag, fields, head, tail), *_read(form.size, head, tail), *_make(fields, setters)]
    exec(compile("\n".join(lines), f"<layout of {kind.__name__}>", "exec"), scope)  # noqa: S102  # names of our classes
    return Layout(scope["write"], scope["write_fields"], scope["read"])


_PLAIN = {int: "Q", bool: "B", bytes: ""}


def _slot_setters(kind: type, fields: list[_Field]) -> dict[str, Any]:
    """What sets each field of a frozen object by its name in the generated code; empty if that would not do."""
    slots: list[Any] = [getattr(kind, field.name, None) for field in fields]
    if hasattr(kind, "__post_init__") or not all(map(ismemberdescriptor, slots)):
        return {}
    return {f"set_{field.local}": slot.__set__ for field, slot in zip(fields, slots, strict=True)}


def _write(tag: int, fields: list[_Field], head: list[_Field], tail: list[_Field]) -> list[str]:
    converted = [f"    {field.local} = pack_{field.local}({field.local})" for field in fields if field.converted]
    # A struct would take True for 1, and an enum's member for its number: they would arrive as something else.
    exact = [f"type({field.local}) is {field.plain.__name__}" for field in (*head, *tail)]
    packed = [str(tag), *[field.local for field in head], *[f"len({field.local})" for field in tail[:-1]]]
    parts = [f"pack({', '.join(packed)})", *[field.local for field in tail]]
    from_fields = [
        *converted,
        f"    if {' and '.join(exact) or 'True'}:",
        f"        return {' + '.join(parts)}",
        "    raise TypeError('a field is of a wrong type')",
    ]
    taken = [f"    {field.local} = message.{field.name}" for field in fields]
    parameters = ", ".join([field.local for field in fields])
    return ["def write(message):", *taken, *from_fields, f"def write_fields({parameters}):", *from_fields]


def _read(size: int, head: list[_Field], tail: list[_Field]) -> list[str]:
    ends = [f"end_{field.local}" for field in tail[:-1]]
    unpacked = ["_", *[field.local for field in head], *ends]
    unpack = "unpack_from" if tail else "unpack"  # which also wants the size to be exact
    lines = ["def read(data):", f"    {', '.join(unpacked)}, = {unpack}(data)"]
    for field in head:
        if field.plain is bool:
            lines += [
                f"    if {field.local} > 1:",
                "        raise ValueError('a bool is neither 0 nor 1')",
                f"    {field.local} = {field.local} == 1",
            ]
    starts = [str(size), *ends]
    lines += [f"    {end} += {start}" for start, end in zip(starts, ends, strict=False)]
    if ends:
        lines += [f"    if {ends[-1]} > len(data):", "        raise ValueError('a byte string is cut short')"]
    for field, start, end in zip(tail, starts, [*ends, ""], strict=False):
        value = f"data[{start}:{end}]"
        lines.append(f"    {field.local} = {f'unpack_{field.local}({value})' if field.converted else value}")
    return lines


def _make(fields: list[_Field], setters: dict[str, Any]) -> list[str]:
    """The end of `read`."""
    if not setters:
        return [f"    return kind({', '.join(field.local for field in fields)})"]
    return [
        "    message = new(kind)",
        *[f"    set_{field.local}(message, {field.local})" for field in fields],
        "    return message",
    ]
