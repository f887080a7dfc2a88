"""What is told of two members that differ."""

from __future__ import annotations

from statemachine import encode_command, encode_gathered, encode_list
from viewstamp.protocol import Kind, Proposal, make_entry
from viewstamp.simulation.executed import called, executed_between


def entry(op: int, body: bytes, kind: Kind = Kind.COMMAND) -> bytes:
    return make_entry(op, 0, 0, Proposal(kind=kind, session=1, request=op, mark=0, seed=0, body=body)).encoded


def test_the_commands_behind_the_last_agreement_are_named() -> None:
    put, roll = encode_command("put", ["a"]), encode_command("roll", [])
    entries = {
        1: entry(1, roll),
        2: entry(2, b"", Kind.NOOP),
        3: entry(3, put),
        4: entry(4, encode_list([roll, put])),
        5: entry(5, b"\xff"),
    }
    told = executed_between(entries, 1, 5)
    assert told.endswith(
        "since op 1, where its replies were last found equal, it has executed put (2 times), roll, something malformed"
    )
    assert executed_between(entries, 1, 2).endswith("no command")


def test_what_a_request_calls_is_named_however_many_there_are() -> None:
    put, roll = encode_command("put", ["a"]), encode_command("roll", [])
    assert called(put) == "put"
    assert called(encode_gathered([roll, put, roll])) == called(encode_list([put, roll, roll])) == "roll (2 times), put"
    assert called(encode_gathered([roll, b""])) is None
    assert called(b"\xff") is None
