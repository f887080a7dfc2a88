"""What `pip install viewstamp` would put on a machine: a wheel with every package, that works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = {"tests", "bench", "docs"}
FILES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "pyproject.toml")
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in NOT_SHIPPED)
IMPORT_ALL = """
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

site, packages = Path(sys.argv[1]).resolve(), sys.argv[2:]
names = list(packages)
for package in packages:
    module = import_module(package)
    names += [found.name for found in walk_packages(module.__path__, package + ".")]
for name in names:
    if not name.endswith("__main__"):
        place = Path(import_module(name).__file__).resolve()
        if not place.is_relative_to(site):
            raise SystemExit(f"{name} was imported from {place}")
print(len(names))
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    surroundings = os.environ | environment
    done = subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built, by way of a source distribution, from a copy: a build leaves folders beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in (*PACKAGES, *NOT_SHIPPED):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), cwd=source)
    (built,) = folder.glob("viewstamp-*-py3-none-any.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_module_marker_and_the_licence(wheel: Path) -> None:
    held = set(ZipFile(wheel).namelist())
    expected = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert expected - held == set()
    assert {f"{name}/py.typed" for name in PACKAGES} - held == set()
    assert any(name.endswith("/licenses/LICENSE") for name in held)
    tops = {name.partition("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.slow
def test_the_source_distribution_holds_what_its_tests_and_its_readers_need(wheel: Path) -> None:
    """Left to itself, the build takes the four test files at the top of their folder, and no documentation."""
    (archive,) = wheel.parent.glob("viewstamp-*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    folders = [path for name in (*PACKAGES, *NOT_SHIPPED) for path in (ROOT / name).rglob("*")]
    sources = {path.relative_to(ROOT).as_posix() for path in folders if path.suffix in (".py", ".md", ".toml", ".txt")}
    assert {*FILES, *sources} - held == set()
    assert not any(name.endswith(".pyc") for name in held)


@pytest.mark.slow
def test_every_module_of_the_wheel_can_be_imported_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    ZipFile(wheel).extractall(site)
    command = (sys.executable, "-W", "error", "-c", IMPORT_ALL, str(site), *PACKAGES)
    count = run(*command, cwd=tmp_path, PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1")
    assert int(count) > len(PACKAGES)


@pytest.mark.slow
def test_an_editable_install_is_a_path_that_type_checkers_follow(wheel: Path, tmp_path: Path) -> None:
    """`make` installs that way, and whoever writes a service with its environment has mypy find our types."""
    source = wheel.parent / "source"
    build = "import sys; from setuptools.build_meta import build_editable; build_editable(sys.argv[1])"
    run(sys.executable, "-c", build, str(tmp_path), cwd=source)
    (built,) = tmp_path.glob("*.whl")
    with ZipFile(built) as opened:
        (path,) = [name for name in opened.namelist() if ".dist-info/" not in name]
        assert path.endswith(".pth")
        assert opened.read(path).decode().strip() == str(source)
