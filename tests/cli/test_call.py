"""`viewstamp call` and `read`, without a cluster to answer: what is refused, and what a time-out says."""

from __future__ import annotations

from errno import ENOSPC
from os import strerror
from pathlib import Path

import click
import pytest
import trio
from click.testing import CliRunner, Result

from viewstamp.cli import call, main
from viewstamp.cli.demo.members import free_ports
from viewstamp.cli.errors import Failed


@pytest.fixture
def cluster_file(tmp_path: Path) -> str:
    (port,) = free_ports(1)
    CliRunner().invoke(main, ["init", str(tmp_path), "--replicas", "1", "--base-port", str(port)])
    return str(tmp_path / "cluster.toml")


def run(cluster_file: str, command: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [command, "--cluster", cluster_file, "--timeout", "0.05", *arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["call", "subtract", "5"], "Counter has no command 'subtract'; its commands: add; its queries: get"),
        (["call", "get"], "Counter has no command 'get'"),
        (["read", "add"], "Counter has no query 'add'"),
        (["call", "add"], "add: missing a required argument: 'amount'"),
        (["call", "add", "1", "2"], "add: too many positional arguments"),
        (["call", "--machine", "kv", "put", "colour"], "put: missing a required argument: 'value'"),
        (["call", "--machine", "nonsense", "add", "1"], "'nonsense' is none of counter, kv"),
        (["call", "--machine", "no.such.module:Bank", "add", "1"], "No module named 'no'"),
        (["call", "--machine", "json:JSONDecoder", "add", "1"], "is not a subclass of viewstamp.StateMachine"),
    ],
)
def test_what_the_machine_does_not_have_is_misuse(cluster_file: str, arguments: list[str], said: str) -> None:
    result = run(cluster_file, *arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize("command", ["call", "read"])
def test_a_mistyped_option_is_no_argument(cluster_file: str, command: str) -> None:
    """`put colour --jsn` wrote the text "--jsn" into the cluster."""
    result = run(cluster_file, command, "--machine", "kv", "put", "colour", "--jsn")
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert "No such option '--jsn' (did you mean --json?); an argument that" in line
    assert "--tiemout'" in run(cluster_file, command, "--tiemout=1", "put", "colour", "red").stderr


@pytest.mark.parametrize("arguments", [["colour", "--", "--jsn"], ["-c", "-5"], ["--", "--a", "--b=1"]])
def test_an_argument_may_look_like_an_option(cluster_file: str, arguments: list[str]) -> None:
    result = run(cluster_file, "call", "--machine", "kv", "put", *arguments)
    assert "put: no answer within 0.05 s" in result.stderr


def test_a_machine_of_ones_own(cluster_file: str) -> None:
    result = run(cluster_file, "call", "--machine", "statemachine.key_value:KeyValueStore", "nonsense")
    assert "KeyValueStore has no command 'nonsense'" in result.stderr


def test_an_argument_that_cannot_travel(cluster_file: str) -> None:
    result = run(cluster_file, "call", "add", str(1 << 70))
    assert result.exit_code == 1
    assert "nothing was sent" in result.stderr


def test_a_call_without_an_answer_has_an_unknown_outcome(cluster_file: str) -> None:
    result = run(cluster_file, "call", "add", "-5")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "no answer within 0.05 s: outcome unknown, it may yet be executed" in line


def test_a_result_that_cannot_be_printed_was_executed_all_the_same(
    cluster_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output is a file on a disk that is full."""

    def full(text: str) -> None:
        raise OSError(ENOSPC, strerror(ENOSPC))

    async def answered(*arguments: object) -> int:
        await trio.lowlevel.checkpoint()
        return 5

    monkeypatch.setattr(call, "_call", answered)
    monkeypatch.setattr(click, "echo", full)
    with pytest.raises(Failed, match="add: executed, but the result cannot be printed: No space left on device"):
        main(["call", "--cluster", cluster_file, "add", "5"], standalone_mode=False)


def test_ctrl_c_leaves_the_outcome_of_a_call_unknown(cluster_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who presses it and calls again may have it executed twice."""

    async def interrupted(*arguments: object) -> int:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    monkeypatch.setattr(call, "_call", interrupted)
    monkeypatch.setattr(call, "_read", interrupted)
    result = run(cluster_file, "call", "add", "5")
    said = "viewstamp: interrupted: add: outcome unknown, it may yet be executed\n"
    assert (result.exit_code, result.stderr) == (130, said)
    result = run(cluster_file, "read", "get")
    assert (result.exit_code, result.stderr) == (130, "viewstamp: interrupted\n")


def test_a_read_without_an_answer(cluster_file: str) -> None:
    result = run(cluster_file, "read", "get")
    assert result.exit_code == 1
    assert "no answer within 0.05 s" in result.stderr
