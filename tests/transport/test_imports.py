"""What is synchronous loads no Trio."""

from __future__ import annotations

import subprocess
import sys

import pytest

import transport


def test_the_package_and_its_synchronous_parts_load_no_trio() -> None:
    code = (
        "import sys, transport, transport.codec, transport.frame, transport.endpoint, transport.network\n"
        "transport.Endpoint, transport.Network, transport.Transport\n"
        "sys.exit('trio' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in transport.__all__:
        assert getattr(transport, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        transport.no_such_name  # noqa: B018 - the access is what is tested
