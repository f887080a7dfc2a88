"""Failing runs are made smaller: what is left is what was needed, fails the same way, and can be played again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.other_processes import outputs_of
from tests.simulation.stack_mutants import CATALOGUE, Mutant, from_outside
from viewstamp.simulation.plan import Fault
from viewstamp.simulation.reduce import reduce_items, smaller_numbers
from viewstamp.simulation.run import Report, run_script
from viewstamp.simulation.script import Act, Answered, Befall, Burst, Pass, Script, Start, draw_script
from viewstamp.simulation.script_file import ScenarioFile, scenario_toml
from viewstamp.simulation.shrink import End, Shrinker, same_failure
from viewstamp.simulation.simplify import PLAIN, SIMPLER, drawn_again, with_shorter_acts
from viewstamp.simulation.verdict import Kind, Violation

WRONG = Violation(Kind.SAFETY, "agreement", "this was seen")


@given(st.integers(0, 60), st.sets(st.integers(0, 59)))
def test_what_is_needed_is_left_and_nothing_else(size: int, needed: set[int]) -> None:
    items = tuple(range(size))
    needed &= set(items)
    assert reduce_items(items, lambda kept: kept if needed <= set(kept) else None) == tuple(sorted(needed))


def test_no_single_item_can_be_left_out_where_several_sets_are_enough() -> None:
    enough = ({3, 41, 77}, {5, 6}, {98})

    def attempt(kept: tuple[int, ...]) -> tuple[int, ...] | None:
        return kept if any(one <= set(kept) for one in enough) else None

    assert set(reduce_items(tuple(range(100)), attempt)) in enough


def test_pieces_that_must_go_together_are_found() -> None:
    """Either both of a pair are there or neither, as with a cut and its healing: alone neither can go."""
    pairs = {number: number ^ 1 for number in range(16)}

    def attempt(kept: tuple[int, ...]) -> tuple[int, ...] | None:
        whole = all(pairs[number] in kept for number in kept)
        return kept if whole and 10 in kept else None

    assert reduce_items(tuple(range(16)), attempt) == (10, 11)


def test_a_beginning_that_is_enough_is_gone_on_with() -> None:
    tried: list[tuple[int, ...]] = []

    def attempt(kept: tuple[int, ...]) -> tuple[int, ...] | None:
        tried.append(kept)
        return kept[: kept.index(20) + 1] if 20 in kept else None

    assert reduce_items(tuple(range(100)), attempt) == (20,)
    assert len(tried) < 12


def test_numbers_fall_boldly() -> None:
    assert smaller_numbers(100, 1) == (1, 25, 50, 99)
    assert smaller_numbers(2, 0) == (0, 1)
    assert smaller_numbers(1, 1) == ()


def _report(script: Script, violation: Violation | None) -> Report:
    return Report(
        seed=script.seed,
        protocol=script.protocol,
        shell=script.shell,
        plan=str(script),
        violation=violation,
        digest="",
        events=100,
        simulated_ns=0,
        commits=0,
        views=0,
        restarts=0,
        served_after_ns=0,
        begun_ns=(0,) * len(script.acts),
        counts=MappingProxyType({}),
        story=(),
        traceback="",
        history=(),
    )


def _shrinker(fails: Callable[[Script], bool], *, seed: int = 1, **limits: object) -> Shrinker:
    def play(script: Script, most_events: int) -> Report:
        return _report(script, WRONG if fails(script) else None)

    script = draw_script(seed, "raft")
    return Shrinker(script, _report(script, WRONG), play, **limits)  # type: ignore[arg-type]  # as the test says


@pytest.mark.parametrize("seed", range(8))
def test_of_a_run_that_always_fails_nothing_is_left(seed: int) -> None:
    shrunk = _shrinker(lambda script: True, seed=seed).shrink()
    assert shrunk.end is End.SMALLEST
    assert shrunk.script == Script(
        "raft", seed, replace(PLAIN, members=1, habits=replace(PLAIN.habits, many=0)), (), True
    )
    assert shrunk.runs < 60


def test_what_a_failure_needs_is_left() -> None:
    """Three members, loss, short time-outs, a bridge with some luck, then six calls at once, long enough after."""

    def position(acts: tuple[Act, ...], kind: Callable[[Act], bool]) -> int:
        return next((place for place, act in enumerate(acts) if kind(act)), -1)

    def fails(script: Script) -> bool:
        acts = script.acts
        bridge = position(acts, lambda act: isinstance(act, Befall) and act.fault is Fault.BRIDGE and act.draw % 3 > 0)
        calls = position(acts[bridge + 1 :], lambda act: isinstance(act, Burst) and act.calls >= 6)
        time = position(acts[bridge + 1 :], lambda act: isinstance(act, Pass) and act.ns >= 7_300_000)
        plan = script.plan
        return (
            bridge > -1
            and -1 < time < calls
            and plan.members >= 3
            and plan.weather.loss > 0
            and plan.timeouts.suspect < 200_000_000
        )

    seed = next(seed for seed in range(1000) if fails(draw_script(seed, "raft")))
    shrunk = _shrinker(fails, seed=seed).shrink()
    assert shrunk.end is End.SMALLEST
    script, plan = shrunk.script, shrunk.script.plan
    assert [type(act) for act in script.acts] == [Befall, Pass, Burst]
    assert script.acts[1:] == (Pass(8_000_000), Burst(0, 6))
    assert script.heal_all
    assert plan.members == 3
    assert plan.weather == replace(PLAIN.weather, loss=plan.weather.loss)
    assert plan.timeouts.suspect < 200_000_000
    left = replace(plan, weather=PLAIN.weather, timeouts=PLAIN.timeouts)
    assert left == replace(PLAIN, habits=replace(PLAIN.habits, many=0))


def test_another_failure_is_not_taken_for_the_same() -> None:
    def crash(sentence: str, name: str = "no unhandled exception") -> Violation:
        return Violation(Kind.CRASH, name, sentence)

    assert same_failure(WRONG, replace(WRONG, sentence="something else of it was seen"))
    assert not same_failure(WRONG, replace(WRONG, property="majority"))
    assert not same_failure(WRONG, replace(WRONG, kind=Kind.LIVENESS))
    assert not same_failure(WRONG, None)
    assert same_failure(crash("KeyError: 5"), crash("KeyError: 7"))
    assert not same_failure(crash("KeyError: 5"), crash("IndexError: 5"))
    assert same_failure(
        crash("member 1 went to 12", "invariants inside"), crash("member 22 went to 3", "invariants inside")
    )


def test_it_ends_when_there_were_enough_runs_or_enough_time() -> None:
    shrunk = _shrinker(lambda script: Answered in map(type, script.acts), most_runs=3).shrink()
    assert (shrunk.end, shrunk.runs) == (End.RUNS, 3)
    ticks = iter(range(10))
    shrunk = _shrinker(lambda script: True, enough=lambda: next(ticks) == 2).shrink()
    assert (shrunk.end, shrunk.runs) == (End.TIME, 2)


def test_an_interrupt_keeps_the_smallest_so_far() -> None:
    runs: list[int] = []

    def fails(script: Script) -> bool:
        runs.append(len(script.acts))
        if len(runs) == 10:
            raise KeyboardInterrupt
        return len(script.acts) >= 5

    shrunk = _shrinker(fails).shrink()
    assert shrunk.end is End.INTERRUPTED
    assert 5 <= len(shrunk.script.acts) < len(draw_script(1, "raft").acts)


def test_a_run_that_did_not_fail_is_refused() -> None:
    script = draw_script(1, "vsr")
    with pytest.raises(ValueError, match="did not fail"):
        Shrinker(script, _report(script, None), lambda script, most: _report(script, None))


def test_only_acts_that_were_begun_are_kept() -> None:
    script = draw_script(1, "vsr")
    report = replace(_report(script, WRONG), begun_ns=(0,) * 7)
    assert Shrinker(script, report, lambda script, most: report, most_runs=0).shrink().script.acts == script.acts[:7]


def _mutant(protocol: str, name: str) -> Mutant:
    return next(mutant for mutant in CATALOGUE if (mutant.protocol, mutant.name) == (protocol, name))


REPLAY = """
from tests.simulation.stack_mutants import CATALOGUE, from_outside
from viewstamp.simulation.run import run_script
from viewstamp.simulation.script_file import parse_scenario
mutant = next(mutant for mutant in CATALOGUE if (mutant.protocol, mutant.name) == ({protocol!r}, {name!r}))
with from_outside(), mutant.applied():
    report = run_script(parse_scenario({text!r}, "scenario").script)
print(report.digest, report.violation)
"""


def _found(protocol: str) -> tuple[Script, Report]:
    """A failing run that is not small already."""
    scripts = (draw_script(seed, protocol) for seed in range(50))
    large = (script for script in scripts if script.plan.members > 3 and script.plan.clients > 1)
    return next((script, report) for script in large if (report := run_script(script)).violation is not None)


@pytest.mark.parametrize(("protocol", "name"), [("vsr", "restarted-primary-resumes"), ("raft", "appended-early")])
def test_a_hand_made_bug_shrinks_and_replays_in_another_process(protocol: str, name: str) -> None:
    mutant = _mutant(protocol, name)
    with from_outside(), mutant.applied():
        script, report = _found(protocol)
        assert report.violation is not None
        shrinker = Shrinker(script, report, lambda script, most: run_script(script, most_events=most), most_runs=80)
        small = shrinker.shrink()
        again = run_script(small.script)
    assert same_failure(report.violation, again.violation)
    assert again.digest == small.report.digest
    assert len(small.script.acts) <= 3
    assert small.script.plan.members < script.plan.members
    assert small.script.plan.clients < script.plan.clients
    assert again.events < report.events // 2
    assert again.violation is not None
    scenario = ScenarioFile(small.script, "", script.seed, again.violation, again.digest, again.events, {})
    text = scenario_toml(scenario, again, "a file")
    assert outputs_of(REPLAY.format(protocol=protocol, name=name, text=text)) == {f"{again.digest} {again.violation}\n"}
    assert run_script(small.script).violation is None  # It was the bug.


@pytest.mark.parametrize("number", range(10))
def test_what_is_left_of_a_run_is_one_that_must_pass(number: int) -> None:
    """Acts left out, fewer members, defaults: whatever it comes to, the code as it is holds everything."""
    draw = Random(number)
    script = draw_script(number, ("vsr", "raft")[number % 2])
    share = draw.choice((5, 20, 50))
    script = replace(script, acts=tuple(act for act in script.acts if draw.randrange(100) < share))
    for edits in (*SIMPLER, with_shorter_acts):
        for edit in edits(script):
            if draw.randrange(10) == 0:
                script = edit(script)
    assert run_script(drawn_again(script, number)).violation is None


def test_a_start_of_nobody_is_no_act() -> None:
    shrunk = _shrinker(lambda script: any(isinstance(act, Start) for act in script.acts)).shrink()
    assert [type(act) for act in shrunk.script.acts] == [Start]
