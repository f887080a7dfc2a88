"""Acts as tables of a scenario file, and back."""

from __future__ import annotations

from typing import Any

from viewstamp.cluster import ClusterError
from viewstamp.cluster_checks import check_choice, check_keys, check_table, check_whole, describe
from viewstamp.simulation.plan import Fault
from viewstamp.simulation.script import DRAW_BITS, Act, Answered, Befall, Burst, Heal, Pass, Start, Weather

LARGEST = (1 << 63) - 1
MOST_MEMBERS = 7

_FAULTS = {fault.name.lower(): fault for fault in Fault}
# By the key that tells what an act is: the other keys that it has.
_KINDS = {
    "fault": ("draw",),
    "burst": ("client",),
    "pass": (),
    "answered": (),
    "start": (),
    "heal": (),
    "weather": (),
}


def act_table(act: Act) -> dict[str, object]:
    """An act as a table."""
    match act:
        case Befall(fault, draw):
            return {"fault": fault.name.lower(), "draw": draw}
        case Burst(client, calls):
            return {"burst": calls, "client": client}
        case Pass(ns):
            return {"pass": ns}
        case Answered(answers):
            return {"answered": answers}
        case Start(members):
            return {"start": members}
        case Heal():
            return {"heal": True}
        case Weather():
            return {"weather": True}


def parse_act(key: str, value: object) -> Act:
    """A table as an act; `key` is its place in the document.

    Raises:
      ClusterError: it is none.
    """
    table = check_table(key, value)
    kind = next((name for name in _KINDS if name in table), None)
    if kind is None:
        found = f"the keys {', '.join(table)}" if table else "an empty table"
        raise ClusterError(key, f"a table with one of the keys {', '.join(_KINDS)}", found)
    check_keys(key, table, (kind, *_KINDS[kind]), ())
    main, where = table[kind], f"{key}.{kind}"
    match kind:
        case "fault":
            check_choice(where, main, list(_FAULTS))
            check_whole(f"{key}.draw", table["draw"], 0, (1 << DRAW_BITS) - 1)
            return Befall(_FAULTS[main], table["draw"])
        case "burst":
            check_whole(where, main, 1, LARGEST)
            check_whole(f"{key}.client", table["client"], 0, LARGEST)
            return Burst(table["client"], main)
        case "start":
            return Start(_members(where, main))
        case "pass":
            check_whole(where, main, 0, LARGEST)
            return Pass(main)
        case "answered":
            check_whole(where, main, 0, LARGEST)
            return Answered(main)
    if main is not True:
        raise ClusterError(where, "true", describe(main))
    return Heal() if kind == "heal" else Weather()


def _members(key: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ClusterError(key, "an array of members", describe(value))
    for place, member in enumerate(value, 1):
        check_whole(f"{key}[#{place}]", member, 1, MOST_MEMBERS)
    return tuple(value)
