"""Protocols are found by name, imported lazily, and a wrong name is told what the right ones are."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from viewstamp.protocol import Core
from viewstamp.registry import UnknownProtocolError, protocol_class, protocol_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", protocol_names())
def test_every_registered_protocol_is_a_core_of_that_name(name: str) -> None:
    found = protocol_class(name)
    assert issubclass(found, Core)
    assert found.name == name


def test_viewstamped_replication_is_registered() -> None:
    assert "vsr" in protocol_names()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownProtocolError) as caught:
        protocol_class("paxos")
    assert caught.value.name == "paxos"
    assert caught.value.known == protocol_names()
    assert str(caught.value) == f"unknown protocol 'paxos'; known: {', '.join(protocol_names())}"


def test_the_error_survives_a_journey_between_processes() -> None:
    assert str(pickle.loads(pickle.dumps(UnknownProtocolError("paxos")))) == str(UnknownProtocolError("paxos"))


def test_importing_the_registry_imports_no_protocol(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import viewstamp.registry; print('vsr' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
