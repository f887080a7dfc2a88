"""`viewstamp init` writes a cluster file that loads, and never over another."""

from __future__ import annotations

from pathlib import Path
from shlex import split

from click.testing import CliRunner

from viewstamp.cli import main
from viewstamp.cluster import Cluster


def test_the_file_is_a_cluster_of_what_was_asked_for(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "bank"
    arguments = ["init", str(directory), "--replicas", "5", "--host", "127.0.0.1", "--base-port", "9000"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    cluster = Cluster.load(directory / "cluster.toml")
    assert cluster.name == "bank"
    assert cluster.protocol == "vsr"
    assert [member.address for member in cluster.members] == [("127.0.0.1", 9000 + n) for n in range(5)]


def test_it_says_what_to_type_next(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", str(tmp_path), "--name", "till"])
    assert "cluster 'till', 3 members, protocol vsr" in result.stdout
    file = tmp_path / "cluster.toml"
    for member in (1, 2, 3):
        assert f"viewstamp serve --cluster {file} --id {member} --data {tmp_path / f'data-{member}'}" in result.stdout
    assert f"viewstamp call --cluster {file} add 5" in result.stdout


def test_what_it_says_can_be_typed_as_it_is_printed(tmp_path: Path) -> None:
    directory = tmp_path / "the bank's"
    result = CliRunner().invoke(main, ["init", str(directory)])
    commands = [split(line) for line in result.stdout.splitlines() if line.startswith("  viewstamp ")]
    assert len(commands) == 6
    for command in commands:
        assert command[2:4] == ["--cluster", str(directory / "cluster.toml")]
    assert commands[0][-2:] == ["--data", str(directory / "data-1")]


def test_data_in_memory_needs_no_directories(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", str(tmp_path), "--storage", "memory"])
    assert result.exit_code == 0, result.stderr
    assert "protocol vsr, data in memory only" in result.stdout
    file = tmp_path / "cluster.toml"
    assert f"viewstamp serve --cluster {file} --id 1\n" in result.stdout
    assert "--data" not in result.stdout
    assert Cluster.load(file).storage == "memory"


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text("mine")
    result = CliRunner().invoke(main, ["init", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith("viewstamp: error: ")
    assert "exists already" in result.stderr
    assert (tmp_path / "cluster.toml").read_text() == "mine"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["init", str(tmp_path / "file" / "inside")])
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_a_wrong_host_and_ports_beyond_the_last(tmp_path: Path) -> None:
    wildcard = CliRunner().invoke(main, ["init", str(tmp_path), "--host", "0.0.0.0"])
    assert wildcard.exit_code == 1
    beyond = CliRunner().invoke(main, ["init", str(tmp_path), "--base-port", "65534"])
    assert beyond.exit_code == 2
    assert list(tmp_path.iterdir()) == []
