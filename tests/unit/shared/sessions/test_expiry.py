"""Sessions that nobody comes back to end by time that passed, a few at a time."""

from dataclasses import replace

import pytest
from tests.support.disk import Disk
from tests.support.engine import SETTINGS, Bench
from tests.support.links import Connack

from monstermq_shared.counters import DropReason
from monstermq_shared.sessions.local import expiry
from monstermq_shared.sessions.local.expiry import EXPIRE_MAX

HOUR_S = 3_600.0
DAY_MS = 24 * 3_600 * 1000
EXPIRING = replace(SETTINGS, session_expiry_s=HOUR_S)


def ended(bench: Bench) -> int:
    """Let sessions expire as maintenance does; return how many did."""
    total = 0
    while count := bench.engine.expire_sessions():
        total += count
    return total


def test_sessions_expire_without_connection_and_take_their_rows_along() -> None:
    bench = Bench(EXPIRING)
    bench.drop(bench.connect("away", ("t", 1)))
    bench.connect("here", ("t", 1))
    bench.publish(bench.connect("p", clean=True), "t", b"x")
    bench.settle()
    bench.engine.tick(HOUR_S, 0)
    assert ended(bench) == 0, "it left in the second after the last tick, at its end perhaps"
    bench.engine.tick(HOUR_S + 1, 0)
    assert ended(bench) == 1
    bench.settle()
    assert bench.counters.dropped[DropReason.SESSION_EXPIRED] == 1
    assert bench.counters.sessions_expired == 1
    assert bench.disk.client("away").row is None
    assert not bench.disk.client("away").queue
    assert bench.connect_again("away").take() == [Connack(False)]


def test_sessions_do_not_expire_unless_that_is_configured() -> None:
    bench = Bench()
    bench.drop(bench.connect("away"))
    bench.engine.tick(1e9, 1 << 60)
    assert ended(bench) == 0
    assert len(bench.engine.expiry) == 0


@pytest.mark.parametrize("step_ms", [20 * DAY_MS, -20 * DAY_MS])
def test_a_clock_that_is_set_ends_no_session_and_keeps_none(step_ms: int) -> None:
    bench = Bench(EXPIRING)
    bench.engine.tick(0.0, 50 * DAY_MS)
    bench.drop(bench.connect("away"))
    bench.engine.tick(40.0, 50 * DAY_MS + step_ms)
    assert ended(bench) == 0
    bench.engine.tick(HOUR_S + 1, 50 * DAY_MS + step_ms)
    assert ended(bench) == 1


def test_an_expired_session_is_not_resumed_and_is_counted() -> None:
    bench = Bench(EXPIRING)
    bench.drop(bench.connect("away", ("t", 1)))
    bench.publish(bench.connect("p", clean=True), "t", b"x")
    bench.settle()
    bench.engine.tick(HOUR_S + 1, 0)
    again = bench.connect_again("away")
    assert again.take() == [Connack(False)]
    assert not bench.disk.client("away").queue
    assert not bench.disk.client("away").subscriptions
    assert bench.counters.dropped[DropReason.SESSION_EXPIRED] == 1
    assert bench.counters.sessions_expired == 1
    assert ended(bench) == 0


def test_who_comes_back_in_time_begins_anew_when_it_leaves() -> None:
    bench = Bench(EXPIRING)
    bench.drop(bench.connect("s"))
    bench.engine.tick(HOUR_S - 1, 0)
    link = bench.connect_again("s")
    assert link.take() == [Connack(True)]
    bench.engine.tick(5 * HOUR_S, 0)
    assert ended(bench) == 0
    bench.drop(link)
    bench.engine.tick(6 * HOUR_S, 0)
    assert ended(bench) == 0
    bench.engine.tick(6 * HOUR_S + 1, 0)
    assert ended(bench) == 1


def test_only_who_is_due_is_looked_at_and_few_end_at_once() -> None:
    bench = Bench(EXPIRING)
    for number in range(EXPIRE_MAX + 50):
        bench.drop(bench.connect(f"s{number}"))
    bench.engine.tick(60.0, 0)
    bench.drop(bench.connect("later"))
    bench.engine.tick(HOUR_S + 1, 0)
    assert bench.engine.expire_sessions() == EXPIRE_MAX
    assert bench.engine.expire_sessions() == 50
    assert bench.engine.expire_sessions() == 0
    assert list(bench.engine.sessions) == ["later"]


def test_sessions_with_many_subscriptions_end_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "SUBSCRIPTIONS_MAX", 10)
    bench = Bench(EXPIRING)
    for number in range(3):
        bench.drop(bench.connect(f"s{number}", *[(f"{i}", 1) for i in range(10)]))
    bench.engine.tick(HOUR_S + 1, 0)
    assert [bench.engine.expire_sessions() for _ in range(4)] == [1, 1, 1, 0]


def test_time_before_the_start_is_told_by_the_rows_once() -> None:
    bench = Bench(EXPIRING)
    bench.wall_ms = 50 * DAY_MS
    for client_id, minutes in (("half an hour", 30), ("at the crash", 0), ("two hours", 120)):
        bench.wall_ms = 50 * DAY_MS - minutes * 60_000
        link = bench.connect(client_id)
        if minutes:
            bench.drop(link)
    bench.wall_ms = 51 * DAY_MS  # by another clock
    bench.drop(bench.connect("tomorrow"))
    bench.settle()
    after = Bench(EXPIRING, Disk())
    after.engine.tick(1_000.0, 50 * DAY_MS)
    after.engine.restore(bench.disk.load(), 50 * DAY_MS)
    after.engine.restored(50 * DAY_MS)
    assert ended(after) == 1
    assert "two hours" not in after.engine.sessions
    after.engine.tick(1_000.0 + HOUR_S / 2, 70 * DAY_MS)
    assert ended(after) == 1
    assert sorted(after.engine.sessions) == ["at the crash", "tomorrow"]
    after.engine.tick(1_000.0 + HOUR_S, 70 * DAY_MS)
    assert ended(after) == 2


def test_rows_are_dated_anew_for_the_next_process_after_the_clock_was_set() -> None:
    bench = Bench(EXPIRING)
    bench.wall_ms = 30 * DAY_MS
    for number in range(150):
        bench.drop(bench.connect(f"s{number}"))
    bench.connect("here")
    bench.settle()
    bench.engine.expiry.clock_was_set()
    for second in (61, 62):
        bench.engine.tick(second, 50 * DAY_MS)
        bench.settle()
    moments = {at.row.client_id: at.row.updated_ms for at in bench.disk.load()}
    left = 50 * DAY_MS - 60_000
    assert {moments[f"s{number}"] for number in range(100)} == {left}
    assert {moments[f"s{number}"] for number in range(100, 150)} == {left - 1000}
    assert moments["here"] == 30 * DAY_MS
