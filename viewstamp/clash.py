"""Finding out that another distribution has installed a package under one of our names.

`transport` and `statemachine` are common names, and Python has one flat space of them: python-statemachine, for one,
installs a `statemachine` too. Installed into the same environment the two overwrite each other's files; on a longer
`sys.path` the first one wins. Either way the failure would be an odd AttributeError far from its cause.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

# What ours export and a stranger's do not: both distributions unpacked into one directory lie in the same place, and
# only the contents tell whose `__init__.py` was written last.
_EXPORTS = {
    "statemachine": ("StateMachine", "command", "query"),
    "transport": ("Transport", "UdpTransport"),
}
_HOME = Path(__file__).resolve().parents[1]


class PackageClashError(ImportError):
    """A top-level package that Viewstamp needs is another distribution's. `name` says which, `path` where it lies."""


def verify_packages() -> None:
    """Import `statemachine` and `transport`, and make sure that they are the ones that came with Viewstamp.

    Raises:
      PackageClashError: one of them lies elsewhere than beside `viewstamp`, or holds another distribution's files.
    """
    for name, exports in _EXPORTS.items():
        _verify_place(name)
        module = _import(name)
        # Names are looked up, not fetched: `transport` loads Trio only when something that needs it is touched.
        names = {*vars(module), *getattr(module, "__all__", ())}
        missing = [export for export in exports if export not in names]
        if missing:
            raise _clash(name, _HOME / name, f"has no {' and no '.join(missing)}")


def _verify_place(name: str) -> None:
    """Look at where the package would be imported from, before any of a stranger's code runs."""
    try:
        spec = find_spec(name)
    except ValueError:  # already in sys.modules, but made by hand, without a specification
        spec = None
    expected = _HOME / name / "__init__.py"
    if spec is None or spec.origin is None:
        raise _clash(name, None, f"is {'hidden' if expected.exists() else 'missing'}: it is expected at {expected}")
    if Path(spec.origin).resolve() != expected:
        raise _clash(name, Path(spec.origin), f"is not the one expected at {expected}")


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        # Two packages unpacked into one directory can break each other's imports of their own modules. A missing
        # dependency is another matter and leaves as itself.
        if error.name is None or error.name.partition(".")[0] != name:
            raise
        raise _clash(name, _HOME / name, f"cannot be imported ({error})") from error


def _clash(name: str, path: Path | None, trouble: str) -> PackageClashError:
    from importlib.metadata import packages_distributions  # only here: it brings a megabyte and a half of others

    owners = sorted({owner for owner in packages_distributions().get(name, ()) if owner != "viewstamp"})
    place = f" at {path}" if path is not None else ""
    blame = f" It was installed by {' and '.join(owners)}." if owners else ""
    return PackageClashError(
        f"the package {name!r}{place} {trouble}.{blame} Another distribution or file uses the same top-level name as "
        "Viewstamp: remove or rename it, or install Viewstamp in a virtual environment without it. If it was "
        "installed into the same directory, reinstall Viewstamp afterwards.",
        name=name,
        path=None if path is None else str(path),
    )
