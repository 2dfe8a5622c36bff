"""How far the rows are behind, and whether nothing moves."""

from typing import Any

import pytest

from monstermq_projector.lags import STORM_ASSIGNMENTS, STORM_S, STUCK_S, Lags, StormGlass, Watchdog
from monstermq_shared.views.log_follower import Phase


class Follower:
    """What is looked at of a follower."""

    def __init__(self, reflected: int, position: int | None = None) -> None:
        self.marks = {"GArchive": reflected}
        self.position = reflected if position is None else position
        self.phase = Phase.FOLLOWING
        self.is_busy = False
        self.delivered = 0
        self.age_s: float | None = None

    def reflected(self) -> dict[str, int]:
        return self.marks

    def oldest_age_s(self) -> float | None:
        return self.age_s


def looked(lags: Lags, follower: Any, end: int, now_s: float) -> tuple[int, float]:
    lags.look({0: follower}, {0: end}, now_s)
    return lags.records["GArchive"], lags.seconds["GArchive"]


def test_a_lag_is_as_old_as_the_end_that_was_not_reached() -> None:
    lags, follower = Lags(), Follower(10)
    assert looked(lags, follower, 10, 0.0) == (0, 0.0)
    assert looked(lags, follower, 15, 1.0) == (5, 0.0)
    assert looked(lags, follower, 30, 4.0) == (20, 3.0)
    # What was the end then is reached; the rest is younger.
    follower.marks["GArchive"] = 15
    assert looked(lags, follower, 30, 5.0) == (15, 0.0)
    follower.marks["GArchive"] = 30
    assert looked(lags, follower, 30, 9.0) == (0, 0.0)


def test_a_record_that_was_read_knows_its_age() -> None:
    lags, follower = Lags(), Follower(10)
    follower.age_s = 40.0
    assert looked(lags, follower, 11, 0.0) == (1, 40.0)


def test_a_log_that_does_not_answer_tells_no_lag() -> None:
    lags = Lags()
    lags.look({0: Follower(10)}, {}, 0.0)  # type: ignore[dict-item]
    assert (lags.records, lags.seconds) == ({"GArchive": 0}, {"GArchive": 0.0})


def stuck(watchdog: Watchdog, follower: Any, end: int, now_s: float) -> list[int]:
    return watchdog.stuck({3: follower}, {3: end}, now_s)


def test_what_is_in_the_log_and_never_comes_is_noticed() -> None:
    watchdog, follower = Watchdog(), Follower(10)
    assert stuck(watchdog, follower, 11, 0.0) == []
    assert stuck(watchdog, follower, 12, STUCK_S - 1) == []
    assert stuck(watchdog, follower, 12, STUCK_S) == [3]


def test_whatever_comes_begins_the_time_anew() -> None:
    watchdog, follower = Watchdog(), Follower(10)
    assert stuck(watchdog, follower, 11, 0.0) == []
    follower.delivered += 1
    assert stuck(watchdog, follower, 11, STUCK_S) == []
    assert stuck(watchdog, follower, 11, 2 * STUCK_S) == [3]


@pytest.mark.parametrize(
    "change",
    [
        {"is_busy": True},
        {"phase": Phase.LOADING},
        {"phase": Phase.STOPPED},
        {"position": None},
        {"position": 11},
    ],
    ids=["busy", "loading", "stopped", "unknown", "all read"],
)
def test_who_is_at_work_or_cannot_go_on_is_not_stuck(change: dict[str, Any]) -> None:
    watchdog, follower = Watchdog(), Follower(10)
    for name, value in change.items():
        setattr(follower, name, value)
    assert stuck(watchdog, follower, 11, 0.0) == []
    assert stuck(watchdog, follower, 11, 10 * STUCK_S) == []


def test_a_process_that_stood_still_begins_anew() -> None:
    watchdog, follower = Watchdog(), Follower(10)
    assert stuck(watchdog, follower, 11, 0.0) == []
    watchdog.forget()
    assert stuck(watchdog, follower, 11, STUCK_S) == []
    assert stuck(watchdog, follower, 11, 2 * STUCK_S) == [3]


def test_while_kafka_does_not_answer_nobody_is_stuck() -> None:
    watchdog, follower = Watchdog(), Follower(10)
    assert stuck(watchdog, follower, 11, 0.0) == []
    assert watchdog.stuck({3: follower}, {}, STUCK_S) == []  # type: ignore[dict-item]
    assert stuck(watchdog, follower, 11, STUCK_S + 1) == []


def test_two_processes_under_one_name_are_noticed() -> None:
    glass = StormGlass()
    assert not glass.is_storm(1, 1.0)
    assert not glass.is_storm(STORM_ASSIGNMENTS, STORM_S - 1)
    assert glass.is_storm(STORM_ASSIGNMENTS, STORM_S)
    # Several workers that come and go are none.
    assert not glass.is_storm(STORM_ASSIGNMENTS + 5, 2 * STORM_S)
    assert not glass.is_storm(2 * STORM_ASSIGNMENTS, 2 * STORM_S + 1)
