"""How messages travel: the strict codec, frames, fragments and their repair, UDP, and an in-memory network.

The endpoint, its parts and the network model are synchronous and load no Trio; what awaits (UdpTransport, Fabric) is
loaded when first asked for. This package knows nothing of protocols, replicas or state machines.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transport.codec import CodecError, MessageCodec
from transport.endpoint import DEFAULT_DATAGRAM_BYTES, Endpoint, EndpointLimits
from transport.endpoint_statistics import EndpointStatistics
from transport.fragment_format import NEVER, FragmentLimits
from transport.frame import DROP_REASONS, FIRST_CLIENT, HEADER_BYTES, Frame, FrameIdentity, Framer
from transport.interface import Address, Transport, TransportError, TransportStatistics
from transport.network import LinkFaults, Network

if TYPE_CHECKING:
    from transport.fabric import Fabric, FabricTransport, open_fabric
    from transport.udp import UdpTransport

__all__ = [
    "DEFAULT_DATAGRAM_BYTES",
    "DROP_REASONS",
    "FIRST_CLIENT",
    "HEADER_BYTES",
    "NEVER",
    "Address",
    "CodecError",
    "Endpoint",
    "EndpointLimits",
    "EndpointStatistics",
    "Fabric",
    "FabricTransport",
    "FragmentLimits",
    "Frame",
    "FrameIdentity",
    "Framer",
    "LinkFaults",
    "MessageCodec",
    "Network",
    "Transport",
    "TransportError",
    "TransportStatistics",
    "UdpTransport",
    "open_fabric",
]

_LOADED_LATE = {
    "Fabric": "transport.fabric",
    "FabricTransport": "transport.fabric",
    "open_fabric": "transport.fabric",
    "UdpTransport": "transport.udp",
}


def __getattr__(name: str) -> Any:
    module = _LOADED_LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
