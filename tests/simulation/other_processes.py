"""The same program in processes with different hash seeds: what a run must not depend on."""

from __future__ import annotations

import os
import subprocess
import sys


def outputs_of(program: str) -> set[str]:
    """What the program writes in two processes; one element if they agree."""
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
