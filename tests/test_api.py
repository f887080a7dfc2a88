"""What a service imports, and the example that it is shown first."""

from __future__ import annotations

import builtins
import inspect
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
import trio
from trio.testing import MockClock

import viewstamp
from viewstamp.cli.demo.members import free_ports
from viewstamp.cluster import Cluster
from viewstamp.testing import open_test_cluster

ROOT = Path(__file__).parent.parent
WITHIN_S = 20.0


def example() -> str:
    """The program of the README's first five minutes."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^## Five minutes\n+```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, "the README has lost its example"
    return found[1]


@pytest.mark.slow
async def test_the_example_of_the_readme_runs_as_written(tmp_path: Path) -> None:
    """Three members run the very program, each told its id; then its client runs."""
    cluster = Cluster.make("readme", "vsr", [("127.0.0.1", port) for port in free_ports(3)])
    (tmp_path / "cluster.toml").write_text(cluster.to_toml(), encoding="utf-8")
    (tmp_path / "counter.py").write_text(example(), encoding="utf-8")
    sums = [5, 10, 15]
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            told, hear = trio.open_memory_channel[int](0)
            for member in (1, 2, 3):
                nursery.start_soon(_serve, tmp_path, member, told)
            assert sorted([await hear.receive() for _ in sums]) == sums
            assert await _run(tmp_path, capture_stdout=True) == "20\n"
            nursery.cancel_scope.cancel()


async def test_the_test_that_the_guide_shows_passes_as_written(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster in memory, of the account with which the guide to state machines begins."""
    guide = (ROOT / "docs" / "state-machines.md").read_text(encoding="utf-8")
    account, *_ = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    shown = re.search(r"^### Whole clusters in a test\n.*?^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert shown is not None, "the guide has lost its test"
    bank = ModuleType("bank")
    monkeypatch.setitem(sys.modules, "bank", bank)
    exec(account, vars(bank))
    program: dict[str, Any] = {}
    exec(shown[1], program)
    await program["test_an_account_survives_its_primary"](autojump_clock)


async def _serve(folder: Path, member: int, told: trio.MemorySendChannel[int]) -> None:
    """Run a member until cancelled, and tell the first thing that it prints."""
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(_run, folder, f"{member}", stdout=subprocess.PIPE))
        await told.send(int((await process.stdout.receive_some()).split()[0]))


async def _run(
    folder: Path, *arguments: str, task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED, **options: Any
) -> str:
    """Run the program in the folder; what it prints, if that is captured. It is ended when this is cancelled."""
    command = [sys.executable, "-u", "-W", "error", "counter.py", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    result = await trio.run_process(command, cwd=folder, env=environment, task_status=task_status, **options)
    return (result.stdout or b"").decode()


def exported(name: str) -> object:
    return getattr(viewstamp, name, None) if name in viewstamp.__all__ else None


@pytest.mark.parametrize("name", viewstamp.__all__)
def test_every_exported_name_is_there_and_explained(name: str) -> None:
    found = getattr(viewstamp, name)
    assert name in dir(viewstamp)
    documentation = inspect.getdoc(found)
    assert documentation
    assert documentation != inspect.getdoc(object)


def test_exports_are_sorted_and_complete() -> None:
    assert sorted(viewstamp.__all__) == list(viewstamp.__all__)
    assert set(viewstamp.__all__) == set(viewstamp._HOME_OF)
    assert not hasattr(viewstamp, "nothing")


CALLS = {"call", "call_all", "cluster", "read", "renew_session", "statistics", "status", "viewstamp"}
OF_A_REPLICA = {"events", "hand_over", "id", "is_primary", "machine", "resign", "take_snapshot", "wait_ready"}


async def test_a_service_has_nothing_of_the_loops_that_serve_it(autojump_clock: MockClock) -> None:
    """Whoever closed a replica by hand had its callers refused, and a member that went on leading."""
    async with open_test_cluster(viewstamp.Counter) as cluster, cluster.open_client() as client:
        for held, more in ((cluster.replicas[1], OF_A_REPLICA), (client, {"read_from"})):
            assert {name for name in dir(held) if not name.startswith("_")} == CALLS | more


@pytest.mark.parametrize(
    "name", ["Client", "Cluster", "Command", "Query", "RunningReplica", "StateMachine", "open_client", "open_replica"]
)
def test_what_a_service_may_have_to_catch_is_exported(name: str) -> None:
    """It imports from nowhere else."""
    found = getattr(viewstamp, name)
    members = [value for key, value in inspect.getmembers(found) if not key.startswith("_")]
    text = "\n".join([inspect.getdoc(part) or "" for part in (found, *members)])
    named = set(re.findall(r"\b[A-Z][A-Za-z]+Error\b", text))
    assert {error for error in named if not hasattr(builtins, error)} <= set(viewstamp.__all__)


def test_what_an_error_tells_can_be_matched() -> None:
    """The types of what it is made with: the reason of a NotExecutedError is to be compared with one."""
    found = [exported(name) for name in viewstamp.__all__ if name.endswith("Error")]
    makers = [vars(error)["__init__"] for error in found if isinstance(error, type) and "__init__" in vars(error)]
    told = {value for maker in makers for value in get_type_hints(maker).values() if isinstance(value, type)}
    ours = {each for each in told if each.__module__.partition(".")[0] in ("statemachine", "viewstamp")}
    assert {each.__name__ for each in ours} == {"NotExecutedReason", "UnknownReason"}
    assert {exported(each.__name__) for each in ours} == ours


@pytest.mark.parametrize("machine", [viewstamp.Counter, viewstamp.KeyValueStore])
def test_what_the_machines_raise_and_return_is_exported(machine: type[viewstamp.StateMachine]) -> None:
    defined = [each for each in vars(sys.modules[machine.__module__]).values() if isinstance(each, type)]
    own = [each for each in defined if each.__module__ == machine.__module__]
    assert any(issubclass(each, viewstamp.CommandError) for each in own)
    assert all(exported(each.__name__) is each for each in own)


@pytest.mark.parametrize(
    ("page", "error"), [("state-machines.md", "NotExecutedError"), ("operations.md", "StorageFailedError")]
)
def test_the_errors_that_the_guides_tell_apart_are_exported(page: str, error: str) -> None:
    guide = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = re.findall(r"^\| .*Error`.*\|$", guide, re.MULTILINE)
    named = set(re.findall(r"`([A-Z][A-Za-z]+Error)`", "".join(table)))
    assert error in named
    assert {name for name in named if not hasattr(builtins, name)} <= set(viewstamp.__all__)


@pytest.mark.parametrize("module", ["viewstamp", "viewstamp.protocol", "vsr"])
def test_importing_alone_loads_neither_trio_nor_the_journal(module: str) -> None:
    program = f"import {module}, sys; print([n for n in sys.modules if n.split('.')[0] in ('trio', 'cbor2')"
    program += " or n.startswith(('viewstamp.journal', 'viewstamp.shell', 'transport', 'statemachine'))])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "[]\n"


def test_a_client_loads_nothing_of_what_a_member_is_made_of() -> None:
    """It runs where a journal cannot: `fcntl` is what Windows has not, and Trio does without it there."""
    program = """
import sys
sys.modules["fcntl"] = None
from viewstamp import open_client
loaded = {name for name in sys.modules if name.startswith("viewstamp.")}
assert {"viewstamp.shell.client", "viewstamp.status"} <= loaded
print(sorted(name for name in loaded if name.split(".")[1] in ("journal", "replica")))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "[]\n"
