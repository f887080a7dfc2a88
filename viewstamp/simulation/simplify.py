"""What could be simpler about a run: edits of its script, each of which leaves less in it.

Whatever an edit makes is simpler in one respect and no more complex in any other, so that trying comes to an end: fewer
acts, members or clients, smaller numbers, more defaults. An edit that has nothing to do returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from random import Random
from typing import Any

from viewstamp.protocol import MILLISECOND
from viewstamp.simulation.plan import Plan
from viewstamp.simulation.reduce import smaller_numbers
from viewstamp.simulation.script import DRAW_BITS, Act, Answered, Befall, Burst, Pass, Script, Start

Edit = Callable[[Script], Script]

PLAIN = Plan()
_COUNTED = ("members", "clients")
_QUIET = 20
"""Calls after which clients may think longer, so that there is less to read."""


def without_kinds(script: Script) -> Iterator[Edit]:
    """Without any act of one kind, one fault being a kind."""
    for kind in dict.fromkeys(map(_kind, script.acts)):
        yield partial(_without, kind)


def with_fewer(script: Script) -> Iterator[Edit]:
    """With fewer members, or fewer clients."""
    for members in range(1, script.plan.members):
        yield partial(_with_members, members)
    for clients in smaller_numbers(script.plan.clients, 1):
        yield partial(_with_clients, clients)


def with_defaults(script: Script) -> Iterator[Edit]:
    """With all settings as they are by default, or one of them, or one number of one; with all members healed."""
    yield _plain
    yield lambda script: replace(script, heal_all=True)
    for field in fields(Plan):
        plain = getattr(PLAIN, field.name)
        if field.name not in _COUNTED and plain != PLAIN.habits:
            yield partial(_with_setting, field.name, plain)
        if is_dataclass(plain) and not isinstance(plain, type):
            for part in fields(plain):
                if part.name != "many":
                    yield partial(_with_part, field.name, part.name, getattr(plain, part.name))
    for many in (0, _QUIET):
        yield partial(_with_quiet_clients, many)


def with_shorter_acts(script: Script) -> Iterator[Edit]:
    """With less in all acts at once, then with less in one act."""
    for shorten in (_halved, _rounded):
        yield partial(_with_each, shorten)
    for place, act in enumerate(script.acts):
        for other in _smaller(act):
            yield partial(_with_other, place, act, other)


SIMPLER = (without_kinds, with_fewer, with_defaults)
"""What is tried before single acts are left out."""


def drawn_again(script: Script, times: int) -> Script:
    """The same acts on the same plan with other luck."""
    draw = Random(f"again {times} {script.seed}")
    acts = script.acts
    if times % 2 == 0:
        acts = tuple(replace(act, draw=draw.getrandbits(DRAW_BITS)) if isinstance(act, Befall) else act for act in acts)
    return replace(script, seed=draw.getrandbits(DRAW_BITS), acts=acts)


# Acts.


def _kind(act: Act) -> object:
    return act.fault if isinstance(act, Befall) else type(act)


def _without(kind: object, script: Script) -> Script:
    return replace(script, acts=tuple(act for act in script.acts if _kind(act) != kind))


def _with_each(shorten: Callable[[Act], Act], script: Script) -> Script:
    return replace(script, acts=tuple(map(shorten, script.acts)))


def _with_other(place: int, act: Act, other: Act, script: Script) -> Script:
    """With another act at this place, if the one that was meant is still there."""
    acts = script.acts
    return (
        replace(script, acts=(*acts[:place], other, *acts[place + 1 :]))
        if acts[place : place + 1] == (act,)
        else script
    )


def _halved(act: Act) -> Act:
    match act:
        case Pass(ns):
            return Pass(ns // 2)
        case Burst(client, calls):
            return Burst(client, max(1, calls // 2))
        case Answered(answers):
            return Answered(answers // 2)
    return act


def _rounded(act: Act) -> Act:
    return Pass(act.ns // MILLISECOND * MILLISECOND) if isinstance(act, Pass) else act


def _smaller(act: Act) -> Iterator[Act]:
    match act:
        case Pass(ns) if ns > MILLISECOND:
            for shorter in smaller_numbers(ns // MILLISECOND, 0):
                yield Pass(shorter * MILLISECOND)
        case Burst(client, calls):
            for fewer in smaller_numbers(calls, 1):
                yield Burst(client, fewer)
            if client:
                yield Burst(0, calls)
        case Answered(answers):
            for fewer in smaller_numbers(answers, 0):
                yield Answered(fewer)
        case Start(members):
            for member in members:
                yield Start(tuple(other for other in members if other != member))


# The plan.


def _with_members(members: int, script: Script) -> Script:
    """With so many at most, and nobody started who is not there."""
    plan = script.plan
    if members >= plan.members:
        return script
    there = (
        Start(tuple(member for member in act.members if member <= members)) if isinstance(act, Start) else act
        for act in script.acts
    )
    rates, ahead = plan.clock_rates[:members], plan.clocks_ahead[:members]
    return replace(
        script,
        plan=replace(plan, members=members, clock_rates=rates, clocks_ahead=ahead),
        acts=tuple(act for act in there if act != Start(())),
    )


def _with_clients(clients: int, script: Script) -> Script:
    return _with_setting("clients", min(clients, script.plan.clients), script)


def _with_quiet_clients(many: int, script: Script) -> Script:
    return _with_part("habits", "many", min(many, script.plan.habits.many), script)


def _plain(script: Script) -> Script:
    plan = script.plan
    habits = replace(PLAIN.habits, many=plan.habits.many)
    return replace(script, plan=replace(PLAIN, members=plan.members, clients=plan.clients, habits=habits))


def _with_setting(name: str, value: Any, script: Script) -> Script:
    return replace(script, plan=replace(script.plan, **{name: value}))


def _with_part(name: str, part: str, value: Any, script: Script) -> Script:
    """With one number of a setting changed, where the setting still hangs together."""
    try:
        setting = replace(getattr(script.plan, name), **{part: value})
    except ValueError:
        return script
    return _with_setting(name, setting, script)
