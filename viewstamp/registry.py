"""The protocols that a cluster file may name, and the one place that finds them by name."""

from __future__ import annotations

from importlib import import_module

from viewstamp.protocol import Core

# Named as "module:class" and imported only when a member of such a cluster starts: a service that runs one protocol
# never loads another, and this module can be imported where no protocol is wanted (to read a cluster file, say).
_PROTOCOLS = {
    "raft": "raft:Raft",
    "vsr": "vsr:ViewstampedReplication",
}


class UnknownProtocolError(ValueError):
    """No protocol has this name. `name` is the one asked for, `known` lists those there are."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.known = protocol_names()

    def __str__(self) -> str:
        return f"unknown protocol {self.name!r}; known: {', '.join(self.known)}"


def protocol_names() -> tuple[str, ...]:
    """The names that `protocol_class` accepts, in alphabetical order."""
    return tuple(sorted(_PROTOCOLS))


def protocol_class(name: str) -> type[Core]:
    """The protocol called `name`, imported now if it was not before.

    Raises:
      UnknownProtocolError: there is none of that name.
    """
    target = _PROTOCOLS.get(name)
    if target is None:
        raise UnknownProtocolError(name)
    module, _, attribute = target.partition(":")
    found: object = getattr(import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Core)):
        raise TypeError(f"{target} is not a viewstamp.protocol.Core")
    return found
