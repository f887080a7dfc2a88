"""What can be made to fail on a simulated disk, and how its processes die."""

from __future__ import annotations

from enum import Enum


class Operation(Enum):
    """What can be made to fail; the value is the word that error messages use."""

    WRITE = "writing to"
    SYNC = "syncing"
    SYNC_DIRECTORY = "syncing directory"
    CREATE = "creating"
    RENAME = "renaming"
    REMOVE = "removing"
    RESERVE = "extending"
    TRUNCATE = "cutting"


class Crash(Enum):
    """How a process ends without saying so."""

    KILLED = "process killed"
    POWER_LOST = "power lost"


class SimulatedCrashError(Exception):
    """The process died inside this call; nothing of it may go on. `crash` says how."""

    def __init__(self, crash: Crash) -> None:
        super().__init__(crash.value)
        self.crash = crash


class DeadProcessError(Exception):
    """A process that has crashed used its files: a defect of the simulation, not of what it simulates."""
