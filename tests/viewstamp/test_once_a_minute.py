"""When a log is told again of what goes on and on."""

from __future__ import annotations

from viewstamp.once_a_minute import OnceAMinute


def test_what_goes_on_is_due_at_once_and_then_a_minute_after_it_was_said() -> None:
    now = 7.0
    slowness = OnceAMinute(lambda: now)
    said = []
    while now < 300:
        if slowness.due():
            assert not slowness.due(), "it was said just now"
            said.append(now)
        now += 0.5 if now < 100 else 47
    assert said == [7.0, 67.0, 147.0, 241.0]
    assert slowness.next == 301.0


def test_the_first_time_may_be_put_off() -> None:
    now = 0.0
    waiting = OnceAMinute(lambda: now, first=1.0)
    assert not waiting.due()
    assert waiting.next == 1.0, "asking too early puts nothing off"
    now = 1.0
    assert waiting.due()
    assert waiting.next == 61.0
