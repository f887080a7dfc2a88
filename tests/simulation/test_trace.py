"""The trace of a run: every receipt joins its sending, every line has its shape, the same seed gives the same bytes."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter as Multiset
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from statemachine import Counter, KeyValueStore
from tests.simulation.other_processes import outputs_of
from transport.network import LinkFaults
from viewstamp.journal import StorageFailedError
from viewstamp.journal.simulated import Crash, Operation
from viewstamp.protocol import MILLISECOND, SECOND, InvariantError
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.trace import TraceRecorder
from viewstamp.simulation.trace_format import LARGEST_NUMBER, TRACE_VERSION, plain, runs, whole
from viewstamp.simulation.trace_reader import Trace, TraceError, TraceParser, read_trace
from viewstamp.simulation.world import World

PROTOCOLS = ("vsr", "raft")
both = pytest.mark.parametrize("protocol", PROTOCOLS)
HOSTILE = LinkFaults(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.03, replay=0.1)
ADD = Counter.add.bind(1)
GET = Counter.get.bind()
LARGE = KeyValueStore.put.bind("key", "v" * 5000)

NUMBER = (int, str)  # digits in a string where JSON's numbers end
WORDS = (str, type(None))
# What every record may have, by name: (type, whether it must be there). The rest is refused.
ALWAYS: dict[str, tuple[Any, bool]] = {"n": (int, True), "t": (int, True), "event": (str, True)}
STANDING: dict[str, tuple[Any, bool]] = {
    "member": (int, True),
    "status": (str, True),
    "role": (str, True),
    "view": (int, True),
    "primary": ((int, type(None)), True),
    "op": (int, True),
    "commit": (int, True),
    "applied": (int, True),
    "durable": (int, True),
    "base": (int, True),
    "log": (list, True),
    "waiting": (str, False),
    "why": (list, False),
    "writes": (list, False),
    "files": (list, False),
    "sent": (list, False),
    "datagrams": (list, False),
    "received": (list, False),
}
RECEIPT: dict[str, tuple[Any, bool]] = {"from": (str, True), "datagram": ((int, type(None)), True)}
CLIENT: dict[str, tuple[Any, bool]] = {
    "client": (int, True),
    "sent": (list, False),
    "datagrams": (list, False),
    "received": (list, False),
    "answers": (list, False),
}
MEMBER_EVENTS: dict[str, dict[str, tuple[Any, bool]]] = {
    "start": {"life": (int, True), "incarnation": (NUMBER, True)},
    "restart": {"life": (int, True), "incarnation": (NUMBER, True)},
    "receive": {**RECEIPT, "ignored": (list, False), "dropped": (list, False)},
    "tick": {},
    "written": {"write": (int, True)},
    "file": {},
    "restored": {"snapshot": (int, True)},
    "continue": {},
}
CLIENT_EVENTS: dict[str, dict[str, tuple[Any, bool]]] = {
    "call": {"handle": (NUMBER, True)},
    "read": {"handle": (NUMBER, True)},
    "receive": RECEIPT,
    "tick": {},
    "continue": {},
}
KINDS = {"append", "truncate", "state", "snapshot", "founding"}
ENDS = {"crash", "power_lost", "disk_lost", "disk_crash", "storage_failed", "data_lost", "superseded"}
OTHERS: dict[str, dict[str, tuple[Any, bool]]] = {
    "network": {
        "fate": (str, True),
        "datagram": (int, True),
        "from": (str, True),
        "to": (str, True),
        "messages": (list, True),
    },
    "note": {"text": (str, True)},
    "end": {"events": (int, True), "digest": (str, True), "failure": (WORDS, True)},
}


def shape_of(record: dict[str, Any]) -> dict[str, tuple[Any, bool]]:
    event = record["event"]
    if event in ENDS:
        return {**ALWAYS, "member": (int, True)}
    if event in OTHERS:
        return {**ALWAYS, **OTHERS[event]}
    if "client" in record:
        return {**ALWAYS, **CLIENT, **CLIENT_EVENTS[event]}
    if "unfinished" in record:
        return {**ALWAYS, "member": (int, True), "unfinished": (bool, True), **MEMBER_EVENTS[event]}
    return {**ALWAYS, **STANDING, **MEMBER_EVENTS[event]}


def require_shape(record: dict[str, Any]) -> None:
    shape = shape_of(record)
    assert set(record) <= set(shape), record
    for name, (kind, needed) in shape.items():
        assert name in record or not needed, (name, record)
        assert name not in record or isinstance(record[name], kind), (name, record)
    assert all(len(pair) == 2 for pair in record.get("log", ()))
    for message in record.get("sent", ()):
        assert set(message) - {"command"} == {"id", "to", "type", "fields"}
    for message in record.get("received", ()):
        assert set(message) == {"id", "type"}
    for datagram in record.get("datagrams", ()):
        assert set(datagram) - {"fragments"} == {"number", "to", "bytes", "messages", "arrives"}
    for write in record.get("writes", ()):
        assert set(write) == {"number", "records"}
        assert {part["kind"] for part in write["records"]} <= KINDS
    for task in record.get("files", ()):
        assert set(task) == {"task", "fields"}
    for answer in record.get("answers", ()):
        assert set(answer) == {"handle", "called_at", "value"}


def restart_all(world: World) -> None:
    """Start whoever does not run; a fault that its disk still has waiting strikes, and then it starts."""
    for member, node in world.nodes.items():
        while node.replica is None:
            try:
                world.start(member)
            except StorageFailedError:
                world.crash(member)


class Calls:
    """Clients that call and read, each again a moment after its answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.under_way = 0
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def begin(self, client: SimulatedClient) -> None:
        if not self.stopped:
            self.under_way += 1
            if client.random.randrange(4):
                self.world.call(client, ADD)
            else:
                self.world.read(client, GET)

    def answered(self, answer: Answer) -> None:
        self.under_way -= 1
        client = self.world.clients[answer.client]
        self.world.at(self.world.now + 2 * MILLISECOND, lambda: self.begin(client))


def keep_calling(world: World, *, clients: int) -> Calls:
    calls = Calls(world)
    world.on_answer = calls.answered
    for _ in range(clients):
        calls.begin(world.add_client())
    return calls


def run(seed: int, protocol: str, file: io.StringIO | None) -> World:
    """A run with every kind of fault; traced, unless there is no file."""
    world = World(seed, protocol=protocol, machine=Counter)
    recorder = TraceRecorder(world, file, seed=seed) if file is not None else None
    world.network.faults = HOSTILE
    world.start_all()
    calls = keep_calling(world, clients=3)
    for turn in range(12):
        world.run_for(400 * MILLISECOND)
        victim = world.primary or 1
        match turn % 4:
            case 0:
                world.crash(victim)
            case 1:
                world.nodes[victim].disk.plan_crash(2, Crash.POWER_LOST)
            case 2:
                world.network.isolate(world.nodes[victim].address)
            case _:
                world.nodes[victim].disk.fail(Operation.SYNC)
        if recorder is not None:
            recorder.note(f"fault {turn % 4} at member {victim}")
        world.run_for(500 * MILLISECOND)
        world.network.heal()
        restart_all(world)
    if protocol == "vsr":
        world.lose_disk(2)
        world.start(2)
    world.network.faults = LinkFaults()
    for _ in range(3):  # Until no disk has a fault waiting.
        world.run_for(300 * MILLISECOND)
        restart_all(world)
    calls.stop()
    assert world.run_until(lambda: not calls.under_way, 10 * SECOND)
    if recorder is not None:
        recorder.close()
    return world


def parse(text: str) -> Trace:
    parser = TraceParser()
    records = parser.feed(text.encode())
    assert not parser.finish()
    assert parser.header is not None
    return Trace(parser.header, tuple(records), cut=False)


@cache
def traced(seed: int, protocol: str) -> tuple[World, Trace]:
    file = io.StringIO()
    world = run(seed, protocol, file)
    return world, parse(file.getvalue())


def trace_digest(seed: int, protocol: str) -> str:
    file = io.StringIO()
    run(seed, protocol, file)
    return sha256(file.getvalue().encode()).hexdigest()


@both
def test_every_line_has_its_shape(protocol: str) -> None:
    _, trace = traced(1, protocol)
    assert [record["n"] for record in trace.records] == list(range(1, len(trace.records) + 1))
    times = [record["t"] for record in trace.records]
    assert times == sorted(times)
    for record in trace.records:
        require_shape(record)
    events = {record["event"] for record in trace.records}
    wanted = {"start", "restart", "receive", "tick", "written", "call", "read", "network", "note", "end"}
    assert events >= wanted | {"crash", "disk_crash", "storage_failed"}
    fates = {record["fate"] for record in trace.records if record["event"] == "network"}
    assert fates == {"lost", "cut", "damaged", "duplicated", "replayed", "unheard"}
    assert trace.records[-1]["event"] == "end"


@both
def test_every_receipt_joins_its_sending(protocol: str) -> None:
    _, trace = traced(1, protocol)
    sent: dict[int, tuple[str, str, str]] = {}
    received: Multiset[int] = Multiset()
    for record in trace.records:
        place = f"member-{record['member']}" if "member" in record else f"client-{record.get('client')}"
        for message in record.get("received", ()):
            to, kind, sender = sent[message["id"]]
            assert (to, kind, sender) == (place, message["type"], record["from"])
            received[message["id"]] += 1
        for message in record.get("sent", ()):
            assert message["id"] not in sent
            sent[message["id"]] = (message["to"], message["type"], place)
    assert len(received) > 200
    assert max(received.values()) > 1, "a duplicate"
    assert set(sent) - set(received), "a loss"


@both
def test_what_becomes_of_every_datagram_is_told(protocol: str) -> None:
    """Each arrives as often as announced, or is said not to."""
    _, trace = traced(1, protocol)
    announced: Multiset[int] = Multiset()
    arrived: Multiset[int] = Multiset()
    spoilt: set[int] = set()
    for record in trace.records:
        for datagram in record.get("datagrams", ()):
            announced[datagram["number"]] += len(datagram["arrives"])
        if record["event"] == "receive" and record["datagram"] is not None:
            arrived[record["datagram"]] += 1
        elif record["event"] == "network":
            match record["fate"]:
                case "unheard":
                    arrived[record["datagram"]] += 1
                case "replayed":
                    announced[record["datagram"]] += 1
                case "lost" | "cut" | "damaged":
                    spoilt.add(record["datagram"])
    end = trace.records[-1]["t"]
    late = {
        datagram["number"]
        for record in trace.records
        for datagram in record.get("datagrams", ())
        if any(when >= end for when in datagram["arrives"])
    }
    assert {number for number, count in announced.items() if count == 0} <= spoilt | set(arrived)
    assert {number for number in announced if arrived[number] != announced[number]} <= late


@both
def test_the_standing_agrees_with_the_log(protocol: str) -> None:
    standing_agrees(traced(1, protocol)[1])


def standing_agrees(trace: Trace) -> None:
    for record in trace.records:
        if "log" in record and record["status"] != "founding":
            ops = [op for _, op in record["log"]]
            assert ops == list(range(max(record["base"] + 1, record["op"] - 4), record["op"] + 1)), record
            assert record["durable"] <= record["op"]
            assert record["applied"] <= record["commit"] <= record["op"]


@both
def test_a_majority_has_made_durable_what_is_committed(protocol: str) -> None:
    """When it is first committed, that is: a disk may be lost later. A tool can check this on a trace alone."""
    _, trace = traced(2, protocol)
    durable: dict[int, int] = {}
    highest = 0
    for record in trace.records:
        if "durable" in record:
            durable[record["member"]] = record["durable"]
            if record["commit"] > highest:
                highest = record["commit"]
                assert sorted(durable.values())[-trace.header.quorum] >= record["commit"], record


@both
def test_tracing_changes_nothing(protocol: str) -> None:
    world, _ = traced(1, protocol)
    assert run(1, protocol, None).digest == world.digest


def test_a_seed_gives_the_same_bytes_in_another_process() -> None:
    program = "from tests.simulation.test_trace import trace_digest as t; print(t(3, 'vsr'), t(3, 'raft'))"
    digests = outputs_of(program)
    assert len(digests) == 1


def test_the_header_tells_what_made_the_run() -> None:
    _, trace = traced(1, "raft")
    header = trace.header
    assert (header.version, header.protocol, header.seed) == (TRACE_VERSION, "raft", 1)
    assert (header.members, header.quorum) == ((1, 2, 3), 2)
    assert header.python == ".".join(map(str, sys.version_info[:3]))
    assert set(header.libraries) == {"viewstamp", "cbor2", "trio"}
    assert header.configuration["timeouts_ns"]["suspect"] == 300 * MILLISECOND


def test_large_messages_keep_their_id_through_fragments() -> None:
    world = World(4, machine=KeyValueStore)
    file = io.StringIO()
    recorder = TraceRecorder(world, file, seed=4)
    world.network.faults = LinkFaults(loss=0.05, duplicate=0.05, reorder=0.1)
    world.start_all()
    client = world.add_client()
    for _ in range(5):
        world.call(client, LARGE)
    assert world.run_until(lambda: len(world.answers) == 5, 10 * SECOND)
    recorder.close()
    trace = parse(file.getvalue())
    parts = [d for record in trace.records for d in record.get("datagrams", ()) if d.get("fragments")]
    assert parts
    assert all(datagram["messages"] for datagram in parts)
    received = [message for record in trace.records for message in record.get("received", ())]
    assert None not in {message["id"] for message in received}
    large = {number for datagram in parts for number in datagram["messages"]}
    assert large & {message["id"] for message in received}


@both
def test_what_is_forwarded_is_told_with_its_command_and_a_registration_without(protocol: str) -> None:
    world = World(4, protocol=protocol, machine=Counter)
    file = io.StringIO()
    recorder = TraceRecorder(world, file, seed=4)
    world.start_all()
    assert world.run_until(lambda: world.primary is not None, 5 * SECOND)
    client = world.add_client()
    world.network.cut(client.address, f"member-{world.primary}")
    world.call(client, ADD)
    assert world.run_until(lambda: len(world.answers) == 1, 5 * SECOND)
    recorder.close()
    sent = [message for record in parse(file.getvalue()).records for message in record.get("sent", ())]
    forwards = [message for message in sent if message["type"] == "Forward"]
    assert {message.get("command") for message in forwards} == {None, "add"}


@both
def test_snapshots_and_where_logs_begin_are_told(protocol: str) -> None:
    """A member that was away is given a snapshot; its log begins behind it, and the others' behind their own."""
    world = World(5, protocol=protocol, machine=Counter)
    world.cluster = replace(world.cluster, snapshot_entries=20)
    file = io.StringIO()
    recorder = TraceRecorder(world, file, seed=5)
    world.start_all()
    calls = keep_calling(world, clients=2)
    world.run_for(300 * MILLISECOND)
    world.crash(3)
    world.run_for(600 * MILLISECOND)
    world.start(3)
    world.run_for(400 * MILLISECOND)
    calls.stop()
    world.run_for(200 * MILLISECOND)
    recorder.close()
    trace = parse(file.getvalue())
    for record in trace.records:
        require_shape(record)
    standing_agrees(trace)
    restored = [record["snapshot"] for record in trace.records if record["event"] == "restored"]
    assert restored
    kinds = {
        part["kind"] for record in trace.records for write in record.get("writes", ()) for part in write["records"]
    }
    assert "snapshot" in kinds
    bases = {record["member"]: record["base"] for record in trace.records if "base" in record}
    assert min(bases.values()) > 0
    assert bases[3] >= restored[0]


def test_a_failure_is_written_at_the_end_and_an_unfinished_step_with_it() -> None:
    world = World(1)
    file = io.StringIO()
    recorder = TraceRecorder(world, file, seed=1)
    world.start_all()
    recorder.event(world.nodes[2], "tick")
    recorder.close(failure=str(InvariantError("commit 2 beyond op 1")))
    trace = parse(file.getvalue())
    unfinished, end = trace.records[-2:]
    assert (unfinished["member"], unfinished["event"], unfinished["unfinished"]) == (2, "tick", True)
    assert end["failure"] == "commit 2 beyond op 1"
    assert world.observer is None


def test_a_datagram_from_nowhere_brings_nothing_and_says_why() -> None:
    world = World(1)
    file = io.StringIO()
    recorder = TraceRecorder(world, file, seed=1)
    world.start_all()
    world._transmit("stranger-1", "member-1", b"rubbish")
    world.run_for(10 * MILLISECOND)
    recorder.close()
    records = [record for record in parse(file.getvalue()).records if record.get("from") == "stranger-1"]
    assert [(record["event"], record["dropped"]) for record in records] == [("receive", ["short"])]
    assert "received" not in records[0]


# Reading.


def lines_of(seed: int = 1) -> list[str]:
    world = World(seed)
    file = io.StringIO()
    recorder = TraceRecorder(world, file, seed=seed)
    world.start_all()
    recorder.close()
    return file.getvalue().splitlines(keepends=True)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    path.write_text("".join(lines_of()))
    trace = read_trace(path)
    assert not trace.cut
    assert [record["event"] for record in trace.records] == ["start", "start", "start", "end"]


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    path.write_text("".join(lines_of())[:-20])
    trace = read_trace(path)
    assert trace.cut
    assert [record["event"] for record in trace.records] == ["start", "start", "start"]


def test_bytes_may_come_in_any_pieces() -> None:
    data = "".join(lines_of()).encode()
    parser = TraceParser()
    records = [record for index in range(len(data)) for record in parser.feed(data[index : index + 1])]
    assert parser.ended
    assert len(records) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is no trace: it is empty"),
        ("no newline", "its first line does not end"),
        ("hello\n", "does not say that its format is 'viewstamp-trace'"),
        ('{"format":"other"}\n', "does not say that its format"),
        ('{"format":"viewstamp-trace","version":"x"}\n', "has no version: 'x'"),
        ('{"format":"viewstamp-trace","version":99}\n', "has format version 99; this program reads versions up to 1"),
        ('{"format":"viewstamp-trace","version":1}\n', "the header of this trace is damaged: KeyError 'protocol'"),
        ("x" * ((1 << 20) + 1), "its first line does not end"),
        ("[" * 100_000 + "\n", "does not say that its format"),
    ],
)
def test_what_is_no_trace_is_said(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense\n", "line 3 is no JSON object"),
        ("[1]\n", "line 3 is no JSON object"),
        ('{"n":1,"t":2}\n', "line 3 is no record of a trace: it has no 'event'"),
        ('{"n":1,"t":"2","event":"tick"}\n', "it has no 't'"),
    ],
)
def test_a_damaged_line_is_named(line: str, said: str) -> None:
    lines = lines_of()
    with pytest.raises(TraceError) as caught:
        TraceParser().feed("".join([*lines[:2], line, *lines[2:]]).encode())
    assert said in str(caught.value)


def test_numbers_beyond_those_of_every_reader_are_strings() -> None:
    assert whole(LARGEST_NUMBER) == LARGEST_NUMBER
    assert whole(LARGEST_NUMBER + 1) == "9007199254740992"


def test_values_are_short_and_the_same_in_every_process() -> None:
    assert plain([1, "a", None, True, 1.5, b"abc", (2,)]) == [1, "a", None, True, 1.5, {"bytes": 3}, [2]]
    assert plain({"a": float("nan"), 1: {"b": 1 << 60}}) == {"a": "nan", "1": {"b": str(1 << 60)}}
    assert plain(ValueError("at 0x7f")) == "ValueError"
    assert len(str(plain("x" * 1000))) == 200
    json.dumps(plain([float("inf")]), allow_nan=False)


def test_runs_join_ops_of_one_view() -> None:
    assert runs([(1, 1), (1, 2), (3, 3)]) == [[1, 1, 2], [3, 3, 3]]
    assert runs([]) == []
