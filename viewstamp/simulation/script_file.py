"""Scenario files of the fuzzer: one failing run as TOML that a person can read, and that can be played again.

Version 1. Of the plan a file holds what differs from the defaults; all times are in nanoseconds.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

from viewstamp.cluster import ClusterError
from viewstamp.cluster_checks import check_choice, check_keys, check_table, check_whole, describe, syntax_error
from viewstamp.protocol import SECOND
from viewstamp.registry import protocol_names
from viewstamp.simulation.plan import Plan
from viewstamp.simulation.run import WORLDS, Report, Run
from viewstamp.simulation.script import ONLY_DRAWN_FROM, Act, Befall, Script, Start
from viewstamp.simulation.script_words import LARGEST, MOST_MEMBERS, act_table, parse_act
from viewstamp.simulation.verdict import Kind, Violation

FORMAT = 1
_MOST_CLIENTS = 1000
_KEYS = ("format", "protocol", "seed", "failure", "plan", "schedule")
_OPTIONAL_KEYS = ("shell", "machine", "found_with_seed", "heal_all", "versions")
_LEAST_ONE = frozenset({"members", "clients", "clock_rates", "page_entries", "segment_bytes"})
_ANY_SIGN = frozenset({"clocks_ahead"})


class ScenarioFileError(ValueError):
    """A scenario file is wrong: which, where, what was expected, what was found."""


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A failing run: what it is made of, and what was seen.

    `machine` names the state machine, "" for the ledger. `found_with_seed` is the seed whose run was made smaller.
    `digest` is over all datagrams of the run. `versions` are those it was seen with.
    """

    script: Script
    machine: str
    found_with_seed: int
    violation: Violation
    digest: str
    events: int
    versions: Mapping[str, str]


# Writing.


def scenario_toml(scenario: ScenarioFile, report: Report, name: str) -> str:
    """The file's text; `report` is of its run, `name` the file's."""
    script, violation = scenario.script, scenario.violation
    lines = [
        f"# A run that violates the {violation.kind} of {violation.property!r}. To see it again:",
        f"#   viewstamp fuzz --scenario {name}",
        "# All times are in nanoseconds. What is not set in [plan] has its default.",
        f"format = {FORMAT}",
        f"protocol = {_text(script.protocol)}",
        f"shell = {_text(script.shell)}",
        f"machine = {_text(scenario.machine)}",
        f"seed = {script.seed}",
        f"found_with_seed = {scenario.found_with_seed}",
        f"heal_all = {_value(script.heal_all)}",
        "",
        "[failure]",
        f"kind = {_text(violation.kind)}",
        f"property = {_text(violation.property)}",
        f"sentence = {_text(violation.sentence)}",
        f"digest = {_text(scenario.digest)}",
        f"events = {scenario.events}",
        "",
        "[versions]",
        *(f"{_key(name)} = {_text(number)}" for name, number in scenario.versions.items()),
        "",
        "[plan]",
        *(f"{name} = {_value(value)}" for name, value in _plan_items(script.plan)),
        "",
        "[schedule]",
        "acts = [",
        *_act_lines(script.acts, report.begun_ns),
        "]",
        "",
        "# The last events:",
        *(f"#   {_comment(line)}" for event in report.story for line in event.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    sound = text.encode("utf-8", "replace").decode()
    return json.dumps(sound, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _comment(text: str) -> str:
    """Text that may stand in a comment: TOML has no control characters there."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            return f"{{ {', '.join(f'{key} = {_value(item)}' for key, item in value.items())} }}"
    return _text(str(value))


def _plan_items(plan: Plan) -> list[tuple[str, object]]:
    """What differs from the defaults, and how many members and clients there are."""
    counts = {"members": plan.members, "clients": plan.clients}
    return list((counts | _differences(plan, Plan())).items())


def _differences(value: Any, plain: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for field in fields(value):
        mine, default = getattr(value, field.name), getattr(plain, field.name)
        if mine != default:
            found[field.name] = _differences(mine, default) if is_dataclass(mine) else mine
    return found


def _act_lines(acts: Sequence[Act], begun_ns: Sequence[int]) -> list[str]:
    """An act a line, with the time at which it began and what it is in words."""
    lines = []
    for place, act in enumerate(acts):
        text = _value(act_table(act))
        began = f"{begun_ns[place] / SECOND:.6f} s" if place < len(begun_ns) else "not reached"
        words = f", {act.fault}" if isinstance(act, Befall) else ""
        lines.append(f"  {text},  # {began}{words}")
    return lines


# Reading.


def parse_scenario(text: str, source: str) -> ScenarioFile:
    """Read a file's text; `source` is its name, for errors.

    Raises:
      ScenarioFileError: it is no scenario file of this version.
    """
    try:
        return _scenario(tomllib.loads(text))
    except ClusterError as error:
        raise ScenarioFileError(f"{source}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ScenarioFileError(str(syntax_error(source, text, error))) from error


def _scenario(document: dict[str, Any]) -> ScenarioFile:
    check_whole("format", document.get("format"), FORMAT, FORMAT)
    check_keys("", document, _KEYS, _OPTIONAL_KEYS)
    check_choice("protocol", document["protocol"], protocol_names())
    check_whole("seed", document["seed"], 0, LARGEST)
    heal_all = _checked("heal_all", document.get("heal_all", False), bool)
    plan: Plan = _structure("plan", document["plan"], Plan, Plan())
    shell = document.get("shell", "heap")
    check_choice("shell", shell, list(WORLDS))
    acts = _schedule(document["schedule"])
    script = Script(document["protocol"], document["seed"], plan, acts, heal_all, shell)
    _check_plan(script)
    found_with_seed = document.get("found_with_seed", script.seed)
    check_whole("found_with_seed", found_with_seed, 0, LARGEST)
    failure = check_table("failure", document["failure"])
    check_keys("failure", failure, ("kind", "property", "sentence", "digest", "events"), ())
    check_choice("failure.kind", failure["kind"], [kind.value for kind in Kind])
    check_whole("failure.events", failure["events"], 0, LARGEST)
    words = {name: _checked(f"failure.{name}", failure[name], str) for name in ("property", "sentence", "digest")}
    versions = check_table("versions", document.get("versions", {}))
    return ScenarioFile(
        script,
        _checked("machine", document.get("machine", ""), str),
        found_with_seed,
        Violation(Kind(failure["kind"]), words["property"], words["sentence"]),
        words["digest"],
        failure["events"],
        MappingProxyType({name: _checked(f"versions.{name}", number, str) for name, number in versions.items()}),
    )


def _check_plan(script: Script) -> None:
    """The plan hangs together: a world can be made of it."""
    plan = script.plan
    check_whole("plan.members", plan.members, 1, MOST_MEMBERS)
    check_whole("plan.clients", plan.clients, 1, _MOST_CLIENTS)
    for name in ("clock_rates", "clocks_ahead"):
        if len(getattr(plan, name)) not in (0, plan.members):
            raise ClusterError(f"plan.{name}", f"{plan.members} numbers, or none", str(len(getattr(plan, name))))
    if not plan.habits.paddings:
        raise ClusterError("plan.habits.paddings", "at least one number", "none")
    for place, act in enumerate(script.acts, 1):
        if isinstance(act, Start) and max(act.members, default=0) > plan.members:
            raise ClusterError(f"schedule.acts[#{place}].start", f"members up to {plan.members}", str(max(act.members)))
    Run(script)


def _checked(key: str, value: object, kind: type[Any]) -> Any:
    names = {bool: "true or false", str: "text"}
    if not isinstance(value, kind):
        raise ClusterError(key, names[kind], describe(value))
    return value


def _structure(key: str, value: object, kind: type[Any], plain: Any) -> Any:
    """A table as an object of a dataclass; what it leaves out is as in `plain`."""
    table = check_table(key, value)
    known = [field.name for field in fields(kind) if field.name not in ONLY_DRAWN_FROM]
    check_keys(key, table, (), known)
    hints = get_type_hints(kind)
    given = {name: _setting(f"{key}.{name}", item, hints[name], getattr(plain, name)) for name, item in table.items()}
    try:
        return kind(**{name: given.get(name, getattr(plain, name)) for name in known})
    except ClusterError:
        raise
    except ValueError as error:
        raise ClusterError(key, "values that fit", str(error)) from error


def _setting(key: str, value: object, kind: Any, plain: object) -> object:
    name = key.rpartition(".")[2].partition("[")[0]
    if is_dataclass(kind) and isinstance(kind, type):
        return _structure(key, value, kind, plain)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ClusterError(key, "an array", describe(value))
        item_kind = get_args(kind)[0]
        return tuple(_setting(f"{key}[#{place}]", item, item_kind, None) for place, item in enumerate(value, 1))
    if kind is bool:
        return _checked(key, value, bool)
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ClusterError(key, "a number", describe(value))
        return float(value)
    least = 1 if name in _LEAST_ONE else -LARGEST if name in _ANY_SIGN else 0
    check_whole(key, value, least, LARGEST)
    return value


def _schedule(value: object) -> tuple[Act, ...]:
    schedule = check_table("schedule", value)
    check_keys("schedule", schedule, ("acts",), ())
    acts = schedule["acts"]
    if not isinstance(acts, list):
        raise ClusterError("schedule.acts", "an array of tables", describe(acts))
    return tuple(parse_act(f"schedule.acts[#{place}]", act) for place, act in enumerate(acts, 1))
