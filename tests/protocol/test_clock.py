"""The agreed time: never back, never away with one wrong clock, right again after a failover (VRR 4.4, and ours)."""

from __future__ import annotations

from viewstamp.protocol import SECOND, AgreedClock, Time

HOUR = 3600 * SECOND
DAWN = 1_700_000_000 * SECOND


def at(monotonic: int, ahead: int = 0) -> Time:
    """So long after dawn, by a wall clock that is `ahead`."""
    return Time(monotonic, DAWN + monotonic + ahead)


def test_a_stamp_is_at_least_the_one_before() -> None:
    clock = AgreedClock(0)
    clock.saw(DAWN + 10 * SECOND, at(0))
    assert clock.stamp(at(0)) == DAWN + 10 * SECOND


def test_a_wrong_clock_ahead_gains_a_tenth_and_a_second() -> None:
    clock = AgreedClock(0)
    clock.saw(DAWN, at(0))
    assert clock.stamp(at(HOUR, ahead=1000 * HOUR)) == DAWN + HOUR + HOUR // 10 + SECOND


def test_a_clock_that_jumps_after_a_long_reign_gains_no_more_than_an_hours_tenth() -> None:
    """A tenth of a hundred days would be ten days: leases would end, and none after them until ten days later."""
    clock = AgreedClock(0)
    reign = 2400
    for hour in range(reign):
        assert clock.stamp(at(hour * HOUR)) == DAWN + hour * HOUR
    now = reign * HOUR
    assert clock.stamp(at(now, ahead=1000 * HOUR)) == DAWN + now + HOUR // 10 + SECOND
    assert clock.stamp(at(now + HOUR)) == DAWN + now + HOUR


def test_a_clock_that_stays_ahead_gains_a_tenth_for_as_long_as_it_is() -> None:
    clock = AgreedClock(0)
    clock.saw(DAWN, at(0))
    for minute in range(10 * 60):
        gained = clock.stamp(at(minute * HOUR // 60, ahead=1000 * HOUR)) - (DAWN + minute * HOUR // 60)
    assert HOUR * 59 // 60 < gained < HOUR + 11 * SECOND


def test_a_clock_that_was_behind_for_hours_is_right_at_once_when_it_is_corrected() -> None:
    clock = AgreedClock(0)
    clock.saw(DAWN, at(0))
    for hour in range(1, 8):
        assert clock.stamp(at(hour * HOUR, ahead=-9 * HOUR)) == DAWN
    assert clock.stamp(at(8 * HOUR)) == DAWN + 8 * HOUR


def test_after_idle_hours_the_time_is_that_of_the_wall() -> None:
    clock = AgreedClock(0)
    clock.saw(DAWN, at(0))
    assert clock.stamp(at(8 * HOUR)) == DAWN + 8 * HOUR


def test_an_entry_that_was_long_on_its_way_is_no_measure_of_time() -> None:
    """Made in the first hour, it arrives in the eighth: measured from there, seven hours would be lost for good."""
    clock = AgreedClock(0)
    clock.saw(DAWN, at(0))
    clock.saw(DAWN + HOUR, at(8 * HOUR))
    assert clock.stamp(at(8 * HOUR)) == DAWN + 8 * HOUR


def test_an_entry_from_a_disk_is_no_measure_of_time_either() -> None:
    clock = AgreedClock(0)
    clock.saw_of_unknown_age(DAWN)
    assert clock.stamp(at(8 * HOUR)) == DAWN + 8 * HOUR
    assert clock.stamp(at(8 * HOUR, ahead=-9 * HOUR)) == DAWN + 8 * HOUR
