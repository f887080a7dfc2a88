"""Cluster files: what is read and written, what members must agree on, and how each mistake is explained."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.cluster import Cluster, ClusterError, ClusterFileError, Member, UnknownMemberError
from viewstamp.cluster_text import PROTOCOL_LIMITS
from viewstamp.journal.format import MAXIMUM_BATCH_BYTES
from viewstamp.protocol import MILLISECOND, Limits, Timeouts
from viewstamp.registry import protocol_names

ADDRESSES = [("10.0.0.1", 7401), ("node-2.example.org", 7401), ("fd00::3", 7401)]
TEXT = """\
format = 1
name = "orders"
cluster_id = "0123456789abcdef"
protocol = "vsr"

[[members]]
id = 1
host = "10.0.0.1"
port = 7401

[[members]]
id = 2
host = "10.0.0.2"
port = 7402
bind_host = "0.0.0.0"
bind_port = 9402

[[members]]
id = 3
host = "10.0.0.3"
port = 7403

[timeouts]
heartbeat_ms = 50

[limits]
window = 16
"""


def changed(old: str, new: str) -> str:
    """The good text with one mistake made in it."""
    assert TEXT.count(old) == 1, old
    return TEXT.replace(old, new)


def complaint(text: str) -> str:
    with pytest.raises(ClusterFileError) as caught:
        Cluster.parse(text, "cluster.toml")
    return str(caught.value)


def test_a_file_is_read_with_defaults_for_what_it_leaves_out() -> None:
    cluster = Cluster.parse(TEXT)
    assert cluster.name == "orders"
    assert cluster.cluster_id == bytes.fromhex("0123456789abcdef")
    assert cluster.protocol == "vsr"
    assert cluster.members[0] == Member(1, "10.0.0.1", 7401)
    assert cluster.timeouts == Timeouts(heartbeat=50 * MILLISECOND)
    assert cluster.limits == Limits()
    assert (cluster.window, cluster.datagram_bytes, cluster.max_sessions) == (16, 1200, 1024)


def test_bind_and_advertised_address_are_apart() -> None:
    cluster = Cluster.parse(TEXT)
    assert cluster.member(1).bind_address == cluster.member(1).address == ("10.0.0.1", 7401)
    assert cluster.member(2).address == ("10.0.0.2", 7402)
    assert cluster.member(2).bind_address == ("0.0.0.0", 9402)


def test_the_protocol_is_told_members_timeouts_and_limits() -> None:
    configuration = Cluster.parse(TEXT).configuration
    assert configuration.members == (1, 2, 3)
    assert configuration.quorum == 2
    assert configuration.timeouts.heartbeat == 50 * MILLISECOND


def test_make_numbers_the_members_and_draws_a_new_id() -> None:
    one, two = (Cluster.make("orders", "vsr", ADDRESSES) for _ in range(2))
    assert [(member.id, *member.address) for member in one.members] == [
        (1, *ADDRESSES[0]),
        (2, *ADDRESSES[1]),
        (3, *ADDRESSES[2]),
    ]
    assert len(one.cluster_id) == 8
    assert one.cluster_id != two.cluster_id


def test_make_takes_options() -> None:
    cluster = Cluster.make("orders", "vsr", ADDRESSES, datagram_bytes=9000, window=8, timeouts=Timeouts(heartbeat=1))
    assert (cluster.datagram_bytes, cluster.window, cluster.timeouts.heartbeat) == (9000, 8, 1)


def test_data_is_kept_on_disk_unless_the_file_says_otherwise() -> None:
    assert Cluster.parse(TEXT).storage == Cluster.make("orders", "vsr", ADDRESSES).storage == "disk"
    kept = Cluster.make("orders", "vsr", ADDRESSES, storage="memory")
    assert kept.storage == "memory"
    assert Cluster.parse(kept.to_toml()) == kept
    assert '\nstorage = "memory"\n' in kept.to_toml()


def test_a_written_file_reads_back_equal() -> None:
    cluster = replace(
        Cluster.make("Größe \"x\" \\ 'y'", "vsr", ADDRESSES, timeouts=Timeouts(heartbeat=1_500_001, jitter=0)),
        members=(Member(9, "::1", 1), Member(4, "a.b", 65_535, "::", 7), Member(5, "c", 3, None, 4)),
        limits=Limits(page_entries=7),
        max_command_bytes=100,
    )
    again = Cluster.parse(cluster.to_toml())
    assert again == cluster
    assert again.digest == cluster.digest
    assert again.to_toml() == cluster.to_toml()


@given(
    heartbeat=st.integers(1, 10**11),
    extra=st.integers(0, 10**11),
    jitter=st.integers(0, 6 * 10**11),
    name=st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=64),
)
def test_any_cluster_reads_back_equal(heartbeat: int, extra: int, jitter: int, name: str) -> None:
    timeouts = Timeouts(heartbeat=heartbeat, suspect=2 * heartbeat + extra, jitter=jitter)
    cluster = Cluster.make(name, "vsr", ADDRESSES, timeouts=timeouts)
    assert Cluster.parse(cluster.to_toml()) == cluster


def test_the_written_file_explains_every_value() -> None:
    text = Cluster.make("orders", "vsr", ADDRESSES).to_toml()
    before, _, members_and_rest = text.partition("[[members]]")
    after = members_and_rest.partition("[timeouts]\n")[2]
    for previous, line in pairwise([*before.splitlines(), *after.splitlines()]):
        if line and not line.startswith(("#", "[")):
            assert previous.startswith("# "), line
    assert "# between the heartbeats of an idle primary (default 100)\nheartbeat_ms = 100\n" in text
    assert max(map(len, text.splitlines())) <= 120


def test_members_are_kept_in_order_of_their_ids() -> None:
    backwards = replace(Cluster.parse(TEXT), members=Cluster.parse(TEXT).members[::-1])
    assert backwards == Cluster.parse(TEXT)
    assert [member.id for member in backwards.members] == [1, 2, 3]


def test_a_member_that_does_not_exist() -> None:
    with pytest.raises(UnknownMemberError) as caught:
        Cluster.parse(TEXT).member(4)
    assert caught.value.known == (1, 2, 3)
    assert str(caught.value) == "id: expected the id of a member (1, 2, 3), found 4"
    with pytest.raises(UnknownMemberError, match=r"found '1'$"):
        Cluster.parse(TEXT).member("1")  # type: ignore[arg-type]  # as it comes from the environment


AGREED: list[Callable[[Cluster], Cluster]] = [
    lambda cluster: replace(cluster, name="others"),
    lambda cluster: replace(cluster, storage="memory"),
    lambda cluster: replace(cluster, cluster_id=bytes(8)),
    lambda cluster: replace(cluster, members=cluster.members[:2]),
    lambda cluster: replace(cluster, members=(*cluster.members[:2], replace(cluster.members[2], id=4))),
    lambda cluster: replace(cluster, members=(*cluster.members[:2], replace(cluster.members[2], host="10.0.0.4"))),
    lambda cluster: replace(cluster, members=(*cluster.members[:2], replace(cluster.members[2], port=1))),
    lambda cluster: replace(cluster, timeouts=replace(cluster.timeouts, heartbeat=1)),
    lambda cluster: replace(cluster, timeouts=replace(cluster.timeouts, suspect=10**9)),
    lambda cluster: replace(cluster, timeouts=replace(cluster.timeouts, jitter=1)),
    lambda cluster: replace(cluster, timeouts=replace(cluster.timeouts, retry=1)),
    lambda cluster: replace(cluster, limits=replace(cluster.limits, page_entries=1)),
    lambda cluster: replace(cluster, limits=replace(cluster.limits, page_bytes=1 << 20)),
    lambda cluster: replace(cluster, limits=replace(cluster.limits, pipeline_entries=1)),
    lambda cluster: replace(cluster, limits=replace(cluster.limits, pipeline_bytes=1 << 20)),
    lambda cluster: replace(cluster, datagram_bytes=1201),
    lambda cluster: replace(cluster, max_sessions=1),
    lambda cluster: replace(cluster, window=1),
    lambda cluster: replace(cluster, max_command_bytes=1000),
]


def test_each_value_that_members_must_agree_on_is_in_the_digest() -> None:
    cluster = Cluster.parse(TEXT)
    digests = {cluster.digest, *(change(cluster).digest for change in AGREED)}
    assert len(digests) == len(AGREED) + 1
    assert {len(digest) for digest in digests} == {8}


def test_the_digest_leaves_out_what_concerns_one_member_only() -> None:
    elsewhere = Cluster.parse(changed('bind_host = "0.0.0.0"\nbind_port = 9402\n', ""))
    assert elsewhere != Cluster.parse(TEXT)
    assert elsewhere.digest == Cluster.parse(TEXT).digest


def test_the_digest_does_not_depend_on_spelling_or_order() -> None:
    one = Cluster.make("orders", "vsr", [("Host.Example", 1), ("::1", 1)])
    members = (Member(2, "0:0:0:0:0:0:0:1", 1), Member(1, "host.example", 1))
    assert replace(one, members=members).digest == one.digest


def test_the_digest_is_the_same_in_every_release() -> None:
    # A change here keeps old and new members from talking during an upgrade: it needs a new format version.
    assert Cluster.parse(TEXT).digest.hex() == "2ba81a0fd753cd2c"


def test_a_cluster_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Cluster.parse(TEXT).name = "others"  # type: ignore[misc]  # the mistake under test


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("format = 1\n", "", "format: expected a value, found nothing"),
        ("format = 1", "format = 2", "format: expected 1, found 2"),
        ('name = "orders"\n', "", "name: expected a value, found nothing"),
        ('name = "orders"', 'name = "a\\nb"', r"name: expected a line of printable text, found 'a\nb'"),
        ('name = "orders"', "name = 7", "name: expected a line of printable text, found 7"),
        (
            '"0123456789abcdef"',
            '"0123"',
            "cluster_id: expected 16 hexadecimal digits as text, found '0123'",
        ),
        ('"0123456789abcdef"', "12", "cluster_id: expected 16 hexadecimal digits as text, found 12"),
        ('"vsr"', '"paxos"', "protocol: expected NAMES, found 'paxos'"),
        ('"vsr"', '"vrs"', "protocol: expected NAMES, found 'vrs' (did you mean 'vsr'?)"),
        ('"vsr"', "true", "protocol: expected text, found true"),
        (
            '"vsr"',
            '"vsr"\nstorage = "memroy"',
            "storage: expected one of 'disk', 'memory', found 'memroy' (did you mean 'memory'?)",
        ),
        ('"vsr"', '"vsr"\nstorage = []', "storage: expected text, found an array of 0"),
        (
            "port = 7401",
            "port = 70000",
            "members[#1].port: expected a whole number from 1 to 65535, found 70000",
        ),
        ("port = 7402", "port = 0", "members[#2].port: expected a whole number from 1 to 65535, found 0"),
        (
            "port = 7402",
            'port = "7402"',
            "members[#2].port: expected a whole number from 1 to 65535, found '7402'",
        ),
        ("9402", "true", "members[#2].bind_port: expected a whole number from 1 to 65535, found true"),
        ("port = 7403\n", "", "members[#3].port: expected a value, found nothing"),
        (
            "bind_port = 9402",
            "bind_prot = 9402",
            "members[#2].bind_prot: expected one of the keys id, host, port, bind_host, bind_port, "
            "found an unknown key (did you mean 'bind_port'?)",
        ),
        ("id = 3", "id = 1", "members[#3].id: expected an id of its own, found 1, as in members[#1]"),
        ("id = 3", "id = 0", "members[#3].id: expected a whole number from 1 to 65535, found 0"),
        (
            'host = "10.0.0.3"\nport = 7403',
            'host = "10.0.0.2"\nport = 7402',
            "members[#3]: expected an address of its own, found 10.0.0.2 port 7402, as in members[#2]",
        ),
        (
            '"10.0.0.3"',
            '"10.0.0.3:7403"',
            "members[#3].host: expected a host name, or an IPv4 or IPv6 address without brackets, "
            "found '10.0.0.3:7403' (the port has a key of its own)",
        ),
        (
            '"10.0.0.3"',
            '"10.0.0.300"',
            "members[#3].host: expected a host name, or an IPv4 or IPv6 address without brackets, found '10.0.0.300'",
        ),
        (
            '"10.0.0.3"',
            '"0.0.0.0"',
            "members[#3].host: expected an address that others can reach, found '0.0.0.0' "
            "(nobody can send there; to listen on all addresses, use bind_host)",
        ),
        (
            '"10.0.0.3"',
            '"ff02::1"',
            "members[#3].host: expected the address of one machine, found the multicast address 'ff02::1'",
        ),
        (
            "heartbeat_ms = 50",
            "heartbeat = 50",
            "timeouts.heartbeat: expected one of the keys heartbeat_ms, suspect_ms, jitter_ms, retry_ms, "
            "found an unknown key (did you mean 'heartbeat_ms'?)",
        ),
        (
            "heartbeat_ms = 50",
            "heartbeat_ms = 0",
            "timeouts.heartbeat_ms: expected milliseconds, more than 0 and at most 600000, found 0",
        ),
        (
            "heartbeat_ms = 50",
            "heartbeat_ms = nan",
            "timeouts.heartbeat_ms: expected a number of milliseconds, found NaN",
        ),
        (
            "heartbeat_ms = 50",
            "suspect_ms = 100",
            "timeouts.suspect_ms: expected at least twice heartbeat_ms (100), found 100 "
            "(else one lost heartbeat deposes a working primary)",
        ),
        (
            "heartbeat_ms = 50",
            "retry_ms = 1e400",
            "timeouts.retry_ms: expected milliseconds, at most 600000, found 1E+400",
        ),
        ("window = 16", "window = 1.5", "limits.window: expected a whole number from 1 to 1000000, found 1.5"),
        (
            "window = 16",
            "windows = 16",
            "limits.windows: expected one of the keys datagram_bytes, max_command_bytes, max_sessions, "
            "snapshot_bytes, snapshot_entries, window, log_bytes, page_bytes, page_entries, "
            "pipeline_bytes, pipeline_entries, found an unknown key (did you mean 'window'?)",
        ),
        (
            "window = 16",
            "datagram_bytes = 511",
            "limits.datagram_bytes: expected a whole number from 512 to 65000, found 511",
        ),
        (
            "window = 16",
            "page_bytes = 2000",
            "limits.page_bytes: expected at least max_command_bytes (262144), found 2000",
        ),
        (
            "window = 16",
            "pipeline_bytes = 2000",
            "limits.pipeline_bytes: expected at least page_bytes (262144), found 2000",
        ),
        (
            "window = 16",
            "max_command_bytes = 1000000\npage_bytes = 1000000\nsnapshot_bytes = 1024\nlog_bytes = 1999999",
            "limits.log_bytes: expected at least twice max_command_bytes (1000000), found 1999999",
        ),
        ("[timeouts]\nheartbeat_ms = 50", "[[timeouts]]", "timeouts: expected a table, found an array of 1"),
        (
            "window = 16",
            "window = 0x" + "f" * 9000,
            "limits.window: expected a whole number from 1 to 1000000, found a whole number of 36000 bits",
        ),
        (
            "format = 1",
            "format = 1\nmember = 1",
            "member: expected one of the keys format, name, cluster_id, protocol, members, storage, timeouts, limits, "
            "found an unknown key",
        ),
    ],
)
def test_each_mistake_names_file_key_expected_and_found(old: str, new: str, expected: str) -> None:
    names = protocol_names()
    known = f"one of {', '.join(map(repr, names))}" if len(names) > 1 else repr(names[0])
    assert complaint(changed(old, new)) == f"cluster.toml: {expected.replace('NAMES', known)}"


def test_a_missing_key_that_was_misspelt_is_suggested() -> None:
    assert complaint(changed("name = ", "nmae = ")).endswith("found an unknown key (did you mean 'name'?)")


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ("members = []", "members: expected 1 to 15 of them, found 0"),
        ("members = [3]", "members[#1]: expected a table, found 3"),
        ("members = 3", "members: expected one [[members]] table for each member, found 3"),
    ],
)
def test_members_of_the_wrong_shape(members: str, found: str) -> None:
    head = TEXT.partition("[[members]]")[0]
    assert complaint(head + members) == f"cluster.toml: {found}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("format = 1\nname =\n", "cluster.toml:2: expected a TOML document, found at column 7: Invalid value"),
        ('format = 1\nname = """a\n', "cluster.toml:2: expected more of a TOML document, found "),
        ("a = 1\na = 2\n", "cluster.toml:2: expected a TOML document, found at column 6: Cannot overwrite a value"),
        ("a = 2020-02-31\n", "cluster.toml:1: expected a TOML document, found at column 5: Invalid date or datetime"),
        ("a = " + "9" * 5000, "cluster.toml: expected a TOML document, found Exceeds the limit"),
        ("a = " + "[" * 100_000, "cluster.toml: expected a TOML document, found "),
    ],
)
def test_text_that_is_no_toml_is_told_by_line(text: str, expected: str) -> None:
    assert complaint(text).startswith(expected)


def test_load_reads_a_file_and_names_it_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(TEXT)
    assert Cluster.load(path) == Cluster.load(str(path)) == Cluster.parse(TEXT)
    path.write_text(changed("id = 3", "id = 1"))
    with pytest.raises(ClusterFileError) as caught:
        Cluster.load(path)
    assert caught.value.source == str(path)
    assert caught.value.key == "members[#3].id"


def test_load_explains_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(ClusterFileError) as caught:
        Cluster.load(missing)
    assert str(caught.value) == f"{missing}: expected a readable cluster file, found No such file or directory"
    with pytest.raises(ClusterFileError, match="Is a directory"):
        Cluster.load(tmp_path)


def test_load_tells_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_bytes(b"format = 1\nname = '\xff'\n")
    with pytest.raises(ClusterFileError) as caught:
        Cluster.load(path)
    assert str(caught.value) == f"{path}:2: expected UTF-8 text, found byte 0xff"


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Cluster.make("orders", "vsr", []), "members"),
        (lambda: Cluster.make("orders", "vsr", [("a", 1)] * 2), "members[#2]"),
        (lambda: Cluster.make("orders", "paxos", ADDRESSES), "protocol"),
        (lambda: Cluster.make("orders", "vsr", ADDRESSES, storage="paper"), "storage"),  # type: ignore[arg-type]
        (lambda: Cluster.make("", "vsr", ADDRESSES), "name"),
        (lambda: Cluster.make("orders", "vsr", ADDRESSES, window=0), "limits.window"),
        (lambda: Cluster.make("orders", "vsr", ADDRESSES, limits=Limits(page_entries=0)), "limits.page_entries"),
        (lambda: Member(1, "a b", 1), "host"),
        (lambda: Member(1, "a", 1, bind_host="[::]"), "bind_host"),
    ],
)
def test_a_cluster_made_in_python_is_checked_the_same(make: Callable[[], object], key: str) -> None:
    with pytest.raises(ClusterError) as caught:
        make()
    assert caught.value.key == key


@given(st.text(max_size=60))
def test_whatever_the_text_only_cluster_file_errors_leave(text: str) -> None:
    with pytest.raises(ClusterFileError):
        Cluster.parse(text)


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8"))
def test_one_changed_character_is_read_or_explained(place: int, character: str) -> None:
    try:
        read = Cluster.parse(TEXT[:place] + character + TEXT[place + 1 :])
    except ClusterFileError as error:
        explanation = str(error)
    else:
        explanation = f"read: {read.name}"
    assert explanation.isprintable()


def test_errors_survive_a_journey_between_processes() -> None:
    for error in (ClusterFileError("f", "k", "a", "b", "c"), ClusterError("k", "a", "b"), UnknownMemberError(4, (1,))):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_log_of_the_largest_size_is_taken_over_as_one_batch() -> None:
    """A member that joins a view writes the log of that view at once. What is not yet applied may come on top."""
    assert 2 * PROTOCOL_LIMITS["log_bytes"].highest <= MAXIMUM_BATCH_BYTES
