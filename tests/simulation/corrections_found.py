"""Which seed of a fuzzer notices which revert; `corrections_table --hunt ... --rewrite` writes it."""

from __future__ import annotations

from typing import NamedTuple


class Found(NamedTuple):
    """`level` is "core" (protocols alone) or "cluster" (everything); the seed may have moved on by now."""

    level: str
    seed: int
    property: str


FOUND: dict[str, Found] = {}
