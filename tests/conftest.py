"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No test asserts a speed. Hypothesis does, unless told otherwise: a machine that stands still for a moment, as virtual
# ones do, would fail whichever of its tests happens to run.
settings.register_profile("at any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("at any speed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the transcripts of the golden scenarios anew")
