"""Ages by time that passed, whatever was done to the clock on the wall."""

import pytest
from tests.support.stage import ManualClock

from monstermq_shared.clock import STEPS_MAX, WallHistory

DAY_S = 24 * 3_600.0
WEEK_S = 7 * DAY_S


class Bench:
    """A clock, its history, and rows written by it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.now = 100 * DAY_S
        self.history = WallHistory(self.clock)

    def due(self, written_ms: int) -> bool:
        """Whether a row is a week old."""
        return written_ms < self.history.before_ms(WEEK_S)

    def passes(self, seconds: float) -> None:
        """Time passes, and the tick looks at the clock."""
        self.clock.now += seconds
        self.history.look()

    def is_set(self, seconds: float) -> float:
        """Set the clock; return what the next tick sees."""
        self.clock.set_s += seconds
        return self.history.look()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("step_s", [20 * DAY_S, -20 * DAY_S, 4.0, -4.0])
def test_a_step_is_noticed_once_with_its_size(bench: Bench, step_s: float) -> None:
    bench.clock.now += 1.0
    assert bench.is_set(step_s) == pytest.approx(step_s)
    assert bench.history.look() == 0.0


def test_time_that_passes_and_small_corrections_are_no_steps(bench: Bench) -> None:
    for _ in range(100):
        bench.clock.now += 3_600.0
        assert bench.is_set(1.0) == 0.0


def test_without_a_step_ages_are_those_of_the_clock(bench: Bench) -> None:
    row = bench.clock.wall_ms()
    bench.passes(WEEK_S)
    assert not bench.due(row)
    bench.passes(1)
    assert bench.due(row)


@pytest.mark.parametrize("noticed", [True, False])
def test_a_step_forward_makes_no_row_older(bench: Bench, noticed: bool) -> None:
    rows = [bench.clock.wall_ms()]
    bench.passes(3 * DAY_S)
    rows.append(bench.clock.wall_ms())
    bench.clock.set_s += 20 * DAY_S
    if noticed:
        bench.history.look()
    assert not any(bench.due(row) for row in rows)
    bench.history.look()
    rows.append(bench.clock.wall_ms())
    bench.passes(4 * DAY_S + 1)
    assert [bench.due(row) for row in rows] == [True, False, False]
    bench.passes(3 * DAY_S)
    assert all(bench.due(row) for row in rows)


def test_rows_of_a_true_clock_outlive_a_boot_with_an_early_one(bench: Bench) -> None:
    """What an earlier process wrote is younger than the clock says after the correction."""
    row = int((bench.clock.now + 19 * DAY_S) * 1000)
    bench.passes(60)
    bench.is_set(20 * DAY_S)
    bench.passes(WEEK_S - 1)
    assert not bench.due(row)
    bench.passes(2)
    assert bench.due(row)


def test_a_step_backward_makes_no_row_older(bench: Bench) -> None:
    before = bench.clock.wall_ms()
    bench.is_set(-20 * DAY_S)
    after = bench.clock.wall_ms()
    bench.passes(WEEK_S)
    assert not bench.due(after)
    bench.passes(1)
    assert bench.due(after)
    assert not bench.due(before), "by the clock it is still to come"
    bench.passes(20 * DAY_S)
    assert bench.due(before)


def test_a_machine_that_sleeps_every_night_still_purges(bench: Bench) -> None:
    rows = []
    for _ in range(20):
        rows.append(bench.clock.wall_ms())
        bench.passes(DAY_S / 2)
        bench.is_set(DAY_S / 2)
    assert [bench.due(row) for row in rows] == [True] * 6 + [False] * 14


def test_many_steps_are_remembered_together_and_make_nothing_older(bench: Bench) -> None:
    row = bench.clock.wall_ms()
    for _ in range(10 * STEPS_MAX):
        bench.passes(10)
        bench.is_set(DAY_S)
    assert len(bench.history._earlier) == STEPS_MAX
    assert not bench.due(row)
    bench.passes(WEEK_S)
    assert bench.due(row)
