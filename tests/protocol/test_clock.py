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
