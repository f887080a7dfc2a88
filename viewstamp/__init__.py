"""Viewstamp: state machine replication for Python services.

Write a plain class, run it on 3 or 5 machines, and it survives the loss of any minority of them with nothing
acknowledged ever lost or done twice. Everything a service needs is exported here, and loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from statemachine import (
        BadKeyError,
        BadValueError,
        BoundCommand,
        CannotAppendError,
        Command,
        CommandError,
        CommandFailedError,
        CommandTooLargeError,
        Context,
        Counter,
        DefinitionError,
        KeyValueStore,
        NotAnIntegerError,
        NotExecutedError,
        NotExecutedReason,
        NotSwapped,
        OutcomeUnknownError,
        OutOfRangeError,
        Query,
        RemoteCommandError,
        SessionExpiredError,
        SnapshotError,
        StateMachine,
        Swapped,
        UnknownReason,
        ValueEncodingError,
        Versioned,
        command,
        query,
    )
    from transport.endpoint_statistics import EndpointStatistics
    from transport.interface import TransportError
    from viewstamp.cluster import Cluster, ClusterError, ClusterFileError, Member, UnknownMemberError
    from viewstamp.journal import (
        DirectoryInUseError,
        JournalCorruptError,
        JournalError,
        JournalFormatError,
        JournalStatistics,
        StorageFailedError,
        WrongJournalError,
    )
    from viewstamp.protocol import InvariantError, Limits, Timeouts, Transition, Viewstamp
    from viewstamp.replica import DataLostError, SupersededError
    from viewstamp.replica.status import ReplicaStatistics
    from viewstamp.shell.callers import ClosedError
    from viewstamp.shell.client import Client, open_client
    from viewstamp.shell.opening import open_replica, serve_replica
    from viewstamp.shell.replica import RunningReplica
    from viewstamp.status import SnapshotStatus, Status, Transfer

_HOMES = {
    "statemachine": (
        "BadKeyError",
        "BadValueError",
        "BoundCommand",
        "CannotAppendError",
        "Command",
        "CommandError",
        "CommandFailedError",
        "CommandTooLargeError",
        "Context",
        "Counter",
        "DefinitionError",
        "KeyValueStore",
        "NotAnIntegerError",
        "NotExecutedError",
        "NotExecutedReason",
        "NotSwapped",
        "OutOfRangeError",
        "OutcomeUnknownError",
        "Query",
        "RemoteCommandError",
        "SessionExpiredError",
        "SnapshotError",
        "StateMachine",
        "Swapped",
        "UnknownReason",
        "ValueEncodingError",
        "Versioned",
        "command",
        "query",
    ),
    "transport.endpoint_statistics": ("EndpointStatistics",),
    "transport.interface": ("TransportError",),
    "viewstamp.cluster": ("Cluster", "ClusterError", "ClusterFileError", "Member", "UnknownMemberError"),
    "viewstamp.journal": (
        "DirectoryInUseError",
        "JournalCorruptError",
        "JournalError",
        "JournalFormatError",
        "JournalStatistics",
        "StorageFailedError",
        "WrongJournalError",
    ),
    "viewstamp.protocol": ("InvariantError", "Limits", "Timeouts", "Transition", "Viewstamp"),
    "viewstamp.replica": ("DataLostError", "SupersededError"),
    "viewstamp.replica.status": ("ReplicaStatistics",),
    "viewstamp.shell.callers": ("ClosedError",),
    "viewstamp.shell.client": ("Client", "open_client"),
    "viewstamp.shell.opening": ("open_replica", "serve_replica"),
    "viewstamp.shell.replica": ("RunningReplica",),
    "viewstamp.status": ("SnapshotStatus", "Status", "Transfer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BadKeyError",
    "BadValueError",
    "BoundCommand",
    "CannotAppendError",
    "Client",
    "ClosedError",
    "Cluster",
    "ClusterError",
    "ClusterFileError",
    "Command",
    "CommandError",
    "CommandFailedError",
    "CommandTooLargeError",
    "Context",
    "Counter",
    "DataLostError",
    "DefinitionError",
    "DirectoryInUseError",
    "EndpointStatistics",
    "InvariantError",
    "JournalCorruptError",
    "JournalError",
    "JournalFormatError",
    "JournalStatistics",
    "KeyValueStore",
    "Limits",
    "Member",
    "NotAnIntegerError",
    "NotExecutedError",
    "NotExecutedReason",
    "NotSwapped",
    "OutOfRangeError",
    "OutcomeUnknownError",
    "Query",
    "RemoteCommandError",
    "ReplicaStatistics",
    "RunningReplica",
    "SessionExpiredError",
    "SnapshotError",
    "SnapshotStatus",
    "StateMachine",
    "Status",
    "StorageFailedError",
    "SupersededError",
    "Swapped",
    "Timeouts",
    "Transfer",
    "Transition",
    "TransportError",
    "UnknownMemberError",
    "UnknownReason",
    "ValueEncodingError",
    "Versioned",
    "Viewstamp",
    "WrongJournalError",
    "command",
    "open_client",
    "open_replica",
    "query",
    "serve_replica",
]


def __getattr__(name: str) -> object:
    """Load what is asked for, so that `import viewstamp.protocol` alone loads neither Trio nor the journal."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == "statemachine" or home.startswith(("transport", "viewstamp.shell")):
        import_module("viewstamp.clash").verify_packages()
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
