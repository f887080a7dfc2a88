"""What an endpoint counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """Counts since the endpoint was made. `drops` counts datagrams and messages that were dropped, by reason.

    `fragments_out` counts each fragment once, `fragments_repaired` how often one was sent again; `held_bytes` is
    what large messages under way, either way, take in memory now.
    """

    datagrams_in: int
    datagrams_out: int
    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int
    fragments_out: int
    fragments_repaired: int
    probes_out: int
    reports_out: int
    held_bytes: int
    learnt_peers: int
    drops: Mapping[str, int]
