"""What a service imports, and the example that it is shown first."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import viewstamp
from viewstamp.cli.demo.members import free_ports
from viewstamp.cluster import Cluster

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
    """Three members run the very program, each told apart by its id alone; then its client runs."""
    cluster = Cluster.make("readme", "vsr", [("127.0.0.1", port) for port in free_ports(3)])
    (tmp_path / "cluster.toml").write_text(cluster.to_toml(), encoding="utf-8")
    program = example()
    assert program.count("id=1") == program.count("trio.run(service)") == 1
    # As written it ends once it has its answer, before the others may have founded; the others stay a while longer.
    others = program.replace("print(await replica.call(Counter.add, 5))", "await trio.sleep_forever()")
    assert others != program
    (tmp_path / "first.py").write_text(program, encoding="utf-8")
    (tmp_path / "client.py").write_text(program.replace("trio.run(service)", "trio.run(client)"), encoding="utf-8")
    for member in (2, 3):
        text = others.replace("id=1", f"id={member}").replace("counter-1/", f"counter-{member}/")
        (tmp_path / f"other{member}.py").write_text(text, encoding="utf-8")
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            for member in (2, 3):
                nursery.start_soon(_run, tmp_path, f"other{member}.py")
            assert await _run(tmp_path, "first.py") == ["5", "5"]
            assert await _run(tmp_path, "client.py") == ["10"]
            nursery.cancel_scope.cancel()


async def _run(folder: Path, program: str) -> list[str]:
    """Run a program in the folder; its lines. Ended, should it still run, when cancelled."""
    command = [sys.executable, "-W", "error", program]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    result = await trio.run_process(command, capture_stdout=True, cwd=folder, env=environment)
    return result.stdout.decode().splitlines()


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


@pytest.mark.parametrize("module", ["viewstamp", "viewstamp.protocol", "vsr"])
def test_importing_alone_loads_neither_trio_nor_the_journal(module: str) -> None:
    program = f"import {module}, sys; print([n for n in sys.modules if n.split('.')[0] in ('trio', 'cbor2')"
    program += " or n.startswith(('viewstamp.journal', 'viewstamp.shell', 'transport', 'statemachine'))])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "[]\n"
