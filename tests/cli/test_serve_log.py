"""What `viewstamp serve` says in its log, and how often."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from io import StringIO

import pytest
import trio
from trio.testing import MockClock

from tests.cli.test_status import status_of
from transport import DROP_REASONS
from viewstamp.cli.serve import Lines, _log_transitions
from viewstamp.protocol import Transition
from viewstamp.shell.reminder import Reminder, refusals, tell_late


async def test_a_transition_that_repeats_itself_is_said_once_a_minute(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "viewstamp")
    lost = Transition("pre-candidate", "backup", 3, None, "election not won in time")
    back = replace(lost, status="follower", primary=2, reason="member 2 leads")

    async def events() -> AsyncGenerator[Transition, None]:
        for _ in range(300):
            yield lost
            await trio.sleep(0.4)
        for event in (back, lost, lost, back):
            yield event

    await _log_transitions(events())
    said = ["pre-candidate, backup, view 3, no primary: election not won in time"]
    then = ["follower, backup, view 3, primary 2: member 2 leads"]
    assert caplog.messages == 2 * said + then + said + then


async def test_whoever_waits_is_told_that_others_have_another_cluster_file(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "viewstamp")
    waits = replace(
        status_of(1, view=0, primary=0, waiting="not yet seen 2"), drops={"configuration": 7, "magic": 9, "cluster": 2}
    )
    with Reminder(lambda: waits).interrupting():
        await trio.sleep(5)
    why = "not yet seen 2; refused 7 datagrams since its start: their senders have another cluster file"
    assert caplog.messages == [f"member 1 is not ready: {why}"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("configuration", "have another cluster file"),
        ("cluster", "belong to another cluster"),
        ("version", "run another version of Viewstamp"),
        ("checksum", ""),
    ],
)
def test_strangers_are_told_of_unless_it_can_have_been_an_accident(reason: str, told: str) -> None:
    status = status_of(1, view=0, primary=1)
    assert reason in DROP_REASONS
    assert refusals(replace(status, drops={reason: 2})) == ()
    said = f"refused 3 datagrams since its start: their senders {told}"
    assert refusals(replace(status, drops={reason: 3})) == ((said,) if told else ())


def test_each_line_names_its_member_once() -> None:
    log, written = logging.getLogger("viewstamp"), StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Lines(1))
    log.addHandler(handler)
    try:
        tell_late(1, 2_500_000_000, 17)
        for said in (
            "member 1: its disk took 2.5 s for a write",
            "member 12 is not reached: Name or service not known; trying again",
            "100 %s, and nobody knows which member",
        ):
            log.warning(said)
        log.error("%s raised %s: a defect", "Bank.restore", "KeyError", exc_info=KeyError("a"))
    finally:
        log.removeHandler(handler)
    late, slow, away, whole, *defect = [line.partition(" WARNING ") for line in written.getvalue().splitlines()]
    assert late[2].startswith("member 1 took no turn for 2.5 s, held up by")
    assert slow[2] == "member 1: its disk took 2.5 s for a write"
    assert away[2] == "member 1: member 12 is not reached: Name or service not known; trying again"
    assert whole[2] == "member 1: 100 %s, and nobody knows which member"
    assert defect[0][0].endswith(" ERROR member 1: Bank.restore raised KeyError: a defect")
    assert defect[-1][0] == "KeyError: 'a'"
