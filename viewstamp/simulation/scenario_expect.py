"""What a scenario may expect: each a function of the world that says what is instead, or nothing."""

from __future__ import annotations

from collections.abc import Callable

from viewstamp.protocol import Core, ReadFailed, ReadReady
from viewstamp.simulation.scenario_text import entry_name
from viewstamp.simulation.scenario_words import ScenarioSyntaxError, Words
from viewstamp.simulation.scenario_world import ScenarioWorld


def disappointment(world: ScenarioWorld, words: Words) -> str:
    """Why `expect ...` does not hold; empty if it does."""
    what = words.word("what is expected")
    expectation = _EXPECTATIONS.get(what)
    if expectation is None:
        raise ScenarioSyntaxError(f"nothing to expect is called {what!r}; known: {', '.join(sorted(_EXPECTATIONS))}")
    return expectation(world, words)


def _at(world: ScenarioWorld, words: Words, look: Callable[[Core], str], wanted: str) -> str:
    """Compare at each of the members that follow `at`."""
    words.skip("at")
    for member in words.members(world.configuration.members):
        core = world.members[member].core
        found = "down" if core is None else look(core)
        if found != wanted:
            return f"{wanted!r} expected at member {member}, found {found!r}"
    return ""


def _primary(world: ScenarioWorld, words: Words) -> str:
    wanted = words.rest()
    leading = [str(m) for m, member in world.members.items() if member.core and member.core.standing.leads]
    found = leading or ["none"]
    return "" if found == wanted else f"primary {' '.join(wanted)} expected, found {' '.join(found)}"


def _status(world: ScenarioWorld, words: Words) -> str:
    return _at(world, words, lambda core: core.standing.status, words.word("a status"))


def _view(world: ScenarioWorld, words: Words) -> str:
    return _at(world, words, lambda core: str(core.standing.view), str(words.number("a view")))


def _commit(world: ScenarioWorld, words: Words) -> str:
    return _at(world, words, lambda core: str(core.standing.commit), str(words.number("a commit-number")))


def _log(world: ScenarioWorld, words: Words) -> str:
    names = words.until("at")
    return _at(world, words, lambda core: " ".join(_names(core, core.standing.op)), " ".join(names))


def _committed(world: ScenarioWorld, words: Words) -> str:
    names = words.until("at")
    look = _committed_at
    return _at(world, words, lambda core: " ".join(n for n in names if n in look(world, core)), " ".join(names))


def _uncommitted(world: ScenarioWorld, words: Words) -> str:
    names = words.until("at")
    look = _committed_at
    return _at(world, words, lambda core: " ".join(n for n in names if n not in look(world, core)), " ".join(names))


def _names(core: Core, upto: int) -> list[str]:
    return [entry_name(core.entry(op)) for op in range(core.standing.base + 1, upto + 1)]


def _snapshot(world: ScenarioWorld, words: Words) -> str:
    wanted = words.number("the op of a snapshot, 0 for none")
    words.skip("at")
    for member in words.members(world.configuration.members):
        found = world.snapshot_op(member)
        if found != wanted:
            return f"a snapshot at op {wanted} expected on the disk of member {member}, found {found}"
    return ""


def _committed_at(world: ScenarioWorld, core: Core) -> list[str]:
    """Also what a snapshot holds: the world remembers everything that was ever committed."""
    return [entry_name(world.agreed[op]) for op in range(1, core.standing.commit + 1)]


def _acked(world: ScenarioWorld, words: Words) -> str:
    return _requests(world, words, acknowledged=True)


def _unacked(world: ScenarioWorld, words: Words) -> str:
    return _requests(world, words, acknowledged=False)


def _requests(world: ScenarioWorld, words: Words, *, acknowledged: bool) -> str:
    for name in words.rest():
        request = world.requests.get(name)
        if request is None:
            raise ScenarioSyntaxError(f"no request is called {name!r}")
        if request.acknowledged is not acknowledged:
            return f"{name} is {'' if request.acknowledged else 'not '}acknowledged"
    return ""


def _served(world: ScenarioWorld, words: Words) -> str:
    return _reads(world, words, "served")


def _failed(world: ScenarioWorld, words: Words) -> str:
    return _reads(world, words, "failed")


def _waiting(world: ScenarioWorld, words: Words) -> str:
    return _reads(world, words, "waiting")


def _reads(world: ScenarioWorld, words: Words, wanted: str) -> str:
    for name in words.rest():
        read = world.reads.get(name)
        if read is None:
            raise ScenarioSyntaxError(f"no read is called {name!r}")
        match read.answer:
            case None:
                found = "waiting"
            case ReadReady():
                found = "served"
            case ReadFailed():
                found = "failed"
        if found != wanted:
            return f"read {name} is {found}, not {wanted}"
    return ""


_EXPECTATIONS: dict[str, Callable[[ScenarioWorld, Words], str]] = {
    "acked": _acked,
    "commit": _commit,
    "committed": _committed,
    "failed": _failed,
    "log": _log,
    "primary": _primary,
    "served": _served,
    "snapshot": _snapshot,
    "status": _status,
    "unacked": _unacked,
    "uncommitted": _uncommitted,
    "view": _view,
    "waiting": _waiting,
}
