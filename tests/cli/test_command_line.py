"""The group: help, version, and errors in one line with their exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from viewstamp.cli import main
from viewstamp.cli.demo.members import free_ports
from viewstamp.cluster import Cluster

COMMANDS = ("demo", "init", "serve", "call", "read", "status", "inspect", "fuzz", "trace", "soak")


def test_help_lists_every_command_and_an_example() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.stdout
    assert "viewstamp serve --cluster" in result.stdout
    assert "Exit codes:" in result.stdout


def test_nothing_at_all_is_answered_with_the_help() -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == CliRunner().invoke(main, ["--help"]).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"viewstamp {command} " in result.stdout or command == "demo"


def test_the_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("viewstamp, version ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "No such option"),
        (["nonsense"], "No such command 'nonsense'"),
        (["serve"], "Missing option '--cluster'"),
        (["init"], "Missing argument 'DIR'"),
        (["demo", "--replicas", "4"], "'4' is not one of '3', '5'"),
        (["demo", "--protocol", "gossip"], "'gossip' is not"),
        (["demo", "--increments", "0"], "is not in the range"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("viewstamp: error: ")
    assert said in line
    assert "--help'" in line


@pytest.mark.parametrize(
    "command",
    [
        ["call", "--timeout"],
        ["read", "--timeout"],
        ["status", "--timeout"],
        ["soak", "--minutes"],
        ["fuzz", "--minutes"],
        ["fuzz", "--shrink-minutes"],
    ],
)
def test_a_time_that_is_no_number_is_in_no_range(command: list[str]) -> None:
    """A soak of that length found that all was well."""
    result = CliRunner().invoke(main, [*command, "nan"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert f"Invalid value for '{command[-1]}': 'nan' is not a number." in line


@pytest.mark.parametrize("command", [["init"], ["inspect"], ["serve", "--id", "1", "--data"]])
def test_a_directory_without_a_name_is_not_the_one_that_we_are_in(command: list[str], tmp_path: Path) -> None:
    """`--data "$DATA"`, and nobody has set it: the journal was written to wherever the service was started."""
    CliRunner().invoke(main, ["init", str(tmp_path)])
    cluster = ["--cluster", str(tmp_path / "cluster.toml")] if command[0] == "serve" else []
    result = CliRunner().invoke(main, [command[0], *cluster, *command[1:], ""])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "its name is empty" in line


@pytest.mark.parametrize("command", [["status"], ["serve", "--id", "1", "--data", "d"], ["call", "add"]])
def test_a_cluster_file_that_is_wrong_is_one_line_and_exit_code_1(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    missing = CliRunner().invoke(main, [*command, "--cluster", str(file)])
    file.write_text("format = 1\nmembers = 3\n")
    wrong = CliRunner().invoke(main, [*command, "--cluster", str(file)])
    for result in (missing, wrong):
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"viewstamp: error: {file}")


def test_serving_an_unknown_member_names_those_there_are(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["init", str(tmp_path)])
    arguments = ["serve", "--cluster", str(tmp_path / "cluster.toml"), "--id", "9", "--data", str(tmp_path / "data")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stderr == "viewstamp: error: id: expected the id of a member (1, 2, 3), found 9\n"
    assert not (tmp_path / "data").exists()


def test_serving_on_disk_needs_a_directory(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["init", str(tmp_path)])
    result = CliRunner().invoke(main, ["serve", "--cluster", str(tmp_path / "cluster.toml"), "--id", "1"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "Missing option '--data'" in line


def test_serving_in_memory_needs_none(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["init", str(tmp_path), "--storage", "memory"])
    result = CliRunner().invoke(main, ["serve", "--cluster", str(tmp_path / "cluster.toml"), "--id", "9"])
    assert result.exit_code == 1
    assert result.stderr == "viewstamp: error: id: expected the id of a member (1, 2, 3), found 9\n"


def test_quiet_and_verbose_exclude_each_other(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["init", str(tmp_path)])
    arguments = ["serve", "--cluster", str(tmp_path / "cluster.toml"), "--id", "1", "--data", str(tmp_path / "data")]
    result = CliRunner().invoke(main, [*arguments, "--quiet", "--verbose"])
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_serving_holds_no_simulator_in_memory() -> None:
    program = """
import sys
from viewstamp.cli import main
main(["serve", "--help"], standalone_mode=False)
assert "viewstamp.shell.replica" in sys.modules
print([name for name in sys.modules if name.startswith(("viewstamp.simulation", "rich"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_the_command_line_says_what_to_install(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from viewstamp.cli import main; main(['status'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "viewstamp: error: the command line needs its extra: pip install 'viewstamp[cli]'\n"


def test_ctrl_c_while_it_is_imported_is_one_line_too() -> None:
    program = """
import sys

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from viewstamp.cli import main
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "viewstamp: interrupted\n")


@pytest.mark.parametrize(
    "command",
    [
        ["demo", "--history"],
        ["soak", "--history"],
        ["fuzz", "--seed", "1", "--protocol", "vsr", "--history"],
        ["fuzz", "--seed", "1", "--protocol", "vsr", "--trace"],
        ["fuzz", "--seeds", "1:2", "--scenario-out"],
    ],
)
def test_a_file_that_cannot_be_written_in_the_end_is_refused_at_the_beginning(
    command: list[str], tmp_path: Path
) -> None:
    result = CliRunner().invoke(main, [*command, str(tmp_path / "missing" / "file")])
    assert result.exit_code == 2
    assert f"file cannot be written: there is no directory {tmp_path / 'missing'}" in result.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Bank(StateMachine):\n    def __init__(self, name): ...", "made without arguments"),
        ("class Bank(StateMachine:", "is not Python"),
        ("class Bank: ...", "not a subclass"),
    ],
)
def test_a_machine_that_cannot_be_made_is_one_line(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"bank_{len(source)}"
    (tmp_path / f"{module}.py").write_text(f"from viewstamp import StateMachine\n{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(main, ["fuzz", "--seed", "1", "--machine", f"{module}:Bank"])
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("files", [5, 6, 9])
def test_too_few_files_for_a_member_is_one_line_with_the_limit(files: int, tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(Cluster.make("few", "vsr", [("127.0.0.1", free_ports(1)[0])]).to_toml())
    program = f"""
import resource, sys
from viewstamp.cli import main
import viewstamp.cli.serve, viewstamp.journal, vsr
resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))
main({["serve", "--cluster", str(cluster), "--id", "1", "--data", str(tmp_path / "data")]})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("viewstamp: error: ")
    assert done.stderr.endswith(
        f"Too many open files (this process may have {files}: ulimit -n, or LimitNOFILE of systemd)\n"
    )
    assert len(done.stderr.splitlines()) == 1
