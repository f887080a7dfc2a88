"""Scenario files of the fuzzer: what is written is read again, and what is wrong with a file is said."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from viewstamp.simulation.plan import draw_plan
from viewstamp.simulation.run import Report, run_script
from viewstamp.simulation.script import ONLY_DRAWN_FROM, Befall, Script, draw_script
from viewstamp.simulation.script_file import ScenarioFile, ScenarioFileError, parse_scenario, scenario_toml
from viewstamp.simulation.verdict import Kind, Violation

HOSTILE = 'a "quoted" \\ line,\na second one,\ttab, \x00 \x7f \u2028 \U0001f600 \ud800 '


@pytest.fixture(scope="module")
def report() -> Report:
    return replace(run_script(Script("vsr", 1, draw_plan(1), ())), story=("1 s  one event", "2 s  \x00another\nevent"))


def _scenario(script: Script, sentence: str = "this was seen") -> ScenarioFile:
    violation = Violation(Kind.SAFETY, "agreement", sentence)
    return ScenarioFile(script, "package.module:Class", 7, violation, "ab" * 16, 1234, {"python": "3.11", "a.b": "1"})


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_what_is_written_is_read_again(protocol: str, report: Report) -> None:
    for seed in range(60):
        script = draw_script(seed, protocol)
        scenario = _scenario(replace(script, heal_all=seed % 2 == 0))
        assert parse_scenario(scenario_toml(scenario, report, "a file"), "a file") == scenario


def test_any_sentence_can_be_written(report: Report) -> None:
    scenario = _scenario(draw_script(1, "vsr"), HOSTILE)
    read = parse_scenario(scenario_toml(scenario, report, "a file"), "a file")
    assert read.violation.sentence == HOSTILE.replace("\ud800", "?")


def test_a_file_holds_only_what_is_not_as_usual(report: Report) -> None:
    script = draw_script(1, "vsr")
    plan = replace(script.plan, habits=replace(script.plan.habits, think=77))
    text = scenario_toml(_scenario(replace(script, plan=plan)), report, "a file")
    assert tomllib.loads(text)["plan"]["habits"]["think"] == 77
    assert "log_bytes" not in text
    assert not set(ONLY_DRAWN_FROM) & set(tomllib.loads(text)["plan"])


def test_acts_draw_for_themselves() -> None:
    """Leaving one out leaves the others as they are."""
    acts = draw_script(4, "vsr").acts
    assert len({act.draw for act in acts if isinstance(act, Befall)}) == sum(isinstance(act, Befall) for act in acts)


GOOD = """
format = 1
protocol = "vsr"
seed = 5
[failure]
kind = "safety"
property = "agreement"
sentence = "seen"
digest = "00"
events = 1
[plan]
members = 3
clients = 2
[schedule]
acts = [{ fault = "kill", draw = 1 }, { start = [1, 2, 3] }, { pass = 5 }, { burst = 1, client = 0 }]
"""


def test_a_file_by_hand_is_read() -> None:
    scenario = parse_scenario(GOOD, "by hand")
    assert scenario.found_with_seed == 5
    assert scenario.script.plan.members == 3
    assert run_script(scenario.script).violation is None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("format = 1", "format = 2", "format: expected 1, found 2"),
        ("format = 1", "", "format: expected 1, found None"),
        ("format = 1", "format =", "by hand:2: expected a TOML document"),
        ('"vsr"', '"paxos"', "protocol: expected one of 'raft', 'vsr', found 'paxos'"),
        ("seed = 5", "seed = true", "seed: expected a whole number"),
        ("seed = 5", "sede = 5", "sede: expected one of the keys"),
        ("seed = 5", "seed = 5\nheal_all = 1", "heal_all: expected true or false, found 1"),
        ("seed = 5", "seed = 5\nmachine = 1", "machine: expected text, found 1"),
        ("seed = 5", "seed = 5\nversions = { python = 3 }", "versions.python: expected text, found 3"),
        ('"safety"', '"beauty"', "failure.kind: expected one of 'safety', 'liveness', 'crash'"),
        ('sentence = "seen"', "", "failure.sentence: expected a value, found nothing"),
        ("members = 3", "members = 0", "plan.members: expected a whole number from 1"),
        ("members = 3", "members = 8", "plan.members: expected a whole number from 1 to 7, found 8"),
        ("members = 3", "members = 2", "schedule.acts[#2].start: expected members up to 2, found 3"),
        ("members = 3", "rounds = 3", "plan.rounds: expected one of the keys"),
        ("members = 3", "clock_rates = [1, 2]", "plan.clock_rates: expected 3 numbers, or none, found 2"),
        ("members = 3", "clock_rates = [1, 0, 1]", "plan.clock_rates[#2]: expected a whole number from 1"),
        ("members = 3", "window = 0", "window: expected a whole number from 1"),
        (
            "members = 3",
            "weather = { loss = 2.0 }",
            "plan.weather: expected values that fit, found loss is a probability",
        ),
        ("members = 3", "weather = { loss = 'much' }", "plan.weather.loss: expected a number, found 'much'"),
        ("members = 3", "timeouts = { suspect = 1 }", "plan.timeouts: expected values that fit"),
        ("members = 3", "timeouts = 5", "plan.timeouts: expected a table, found 5"),
        ("members = 3", "habits = { paddings = [] }", "plan.habits.paddings: expected at least one number"),
        ("members = 3", "habits = { read_anywhere = 1 }", "plan.habits.read_anywhere: expected true or false"),
        ("members = 3", "tail = { per_mille = -1 }", "plan.tail.per_mille: expected a whole number from 0"),
        ('"kill"', '"kil"', "schedule.acts[#1].fault: expected one of"),
        ('"kill"', '"kil"', "did you mean 'kill'?"),
        ("draw = 1", "drew = 1", "schedule.acts[#1].drew: expected one of the keys fault, draw"),
        (", draw = 1", "", "schedule.acts[#1].draw: expected a value, found nothing"),
        ("pass = 5", "pass = -5", "schedule.acts[#3].pass: expected a whole number from 0"),
        ("pass = 5", "wait = 5", "schedule.acts[#3]: expected a table with one of the keys fault, burst"),
        ("pass = 5", "", "schedule.acts[#3]: expected a table with one of the keys"),
        ("pass = 5", "heal = 5", "schedule.acts[#3].heal: expected true, found 5"),
        ("[1, 2, 3]", "2", "schedule.acts[#2].start: expected an array of members, found 2"),
        ("[1, 2, 3]", "[1, 'two']", "schedule.acts[#2].start[#2]: expected a whole number"),
        ("{ pass = 5 }", "5", "schedule.acts[#3]: expected a table, found 5"),
        ("[schedule]", "[schedules]", "schedules: expected one of the keys"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(old: str, new: str, complaint: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ScenarioFileError) as wrong:
        parse_scenario(GOOD.replace(old, new), "by hand")
    assert str(wrong.value).startswith("by hand:")
    assert complaint in str(wrong.value)
