"""A stranger's package under one of our names is found out, wherever it lies, and said clearly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from viewstamp.clash import PackageClashError, verify_packages

ROOT = Path(__file__).parents[2]
SCRIPT = """
from viewstamp.clash import PackageClashError, verify_packages
try:
    verify_packages()
except PackageClashError as error:
    print(error.name, error.path, error, sep="|")
else:
    print("ours")
"""


def verified(*path: Path, cwd: Path) -> list[str]:
    """What a fresh interpreter with this search path says: ["ours"], or name, path and message of the error."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n").split("|")


def package(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)
    return folder


def copy_of_ours(folder: Path) -> Path:
    for name in ("viewstamp", "statemachine", "transport"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_our_own_packages_are_recognised() -> None:
    verify_packages()


def test_our_own_packages_are_recognised_in_a_fresh_process_elsewhere(tmp_path: Path) -> None:
    assert verified(copy_of_ours(tmp_path / "site"), cwd=tmp_path) == ["ours"]


@pytest.mark.parametrize("name", ["statemachine", "transport"])
def test_a_package_earlier_on_the_path_is_named_and_not_run(tmp_path: Path, name: str) -> None:
    stranger = package(tmp_path / "other", name, "raise SystemExit('the stranger ran')")
    found, path, message = verified(stranger, ROOT, cwd=tmp_path)
    assert (found, path) == (name, str(stranger / name / "__init__.py"))
    assert message.startswith(f"the package {name!r} at {path} is not the one expected at {ROOT / name}")
    assert "virtual environment" in message


@pytest.mark.parametrize("name", ["statemachine", "transport"])
def test_the_command_line_says_so_in_a_line(tmp_path: Path, name: str) -> None:
    """It imports from them before it knows what it is asked for."""
    stranger = package(tmp_path / "other", name, "class StateMachine: ...\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (stranger, ROOT)))}
    command = [sys.executable, "-m", "viewstamp", "status"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    found = stranger / name / "__init__.py"
    assert done.stderr.startswith(f"viewstamp: error: the package {name!r} at {found} is not the one expected at")
    assert done.stderr.count("\n") == 1


def test_a_folder_that_merely_has_the_name_does_not_hide_ours(tmp_path: Path) -> None:
    (tmp_path / "transport").mkdir()  # no __init__.py: Python prefers a real package later on the path
    assert verified(tmp_path, ROOT, cwd=tmp_path) == ["ours"]


def test_a_package_installed_over_ours_is_found_by_what_it_lacks(tmp_path: Path) -> None:
    site = copy_of_ours(tmp_path / "site")
    (site / "statemachine" / "__init__.py").write_text("class StateMachine: ...\n")
    metadata = site / "foreign_machines-2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-machines\nVersion: 2.0\n")
    (metadata / "top_level.txt").write_text("statemachine\n")
    found, path, message = verified(site, cwd=tmp_path)
    assert (found, path) == ("statemachine", str(site / "statemachine"))
    assert "has no command and no query. It was installed by foreign-machines. " in message


def test_modules_installed_over_ours_are_found_by_imports_that_fail(tmp_path: Path) -> None:
    site = copy_of_ours(tmp_path / "site")
    (site / "statemachine" / "command.py").write_text("")
    found, _, message = verified(site, cwd=tmp_path)
    assert found == "statemachine"
    assert "cannot be imported (cannot import name" in message


def test_a_missing_package_is_told_too(tmp_path: Path) -> None:
    site = copy_of_ours(tmp_path / "site")
    shutil.rmtree(site / "transport")
    # Without it, a checkout installed in development mode could answer for it: that is another place all the same.
    assert verified(site, cwd=tmp_path)[0] == "transport"


def test_a_missing_dependency_leaves_as_itself(tmp_path: Path) -> None:
    site = copy_of_ours(tmp_path / "site")
    (site / "statemachine" / "__init__.py").write_text("import no_such_dependency\n")
    command = [sys.executable, "-c", "from viewstamp.clash import verify_packages; verify_packages()"]
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_dependency'"


def test_a_module_made_by_hand_is_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statemachine", ModuleType("statemachine"))
    with pytest.raises(PackageClashError, match="is hidden: it is expected at"):
        verify_packages()
