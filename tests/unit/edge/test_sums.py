"""Sums over all sessions are walked through once for everybody, a bounded step at a time."""

from collections.abc import Collection, Iterator, Mapping

import pytest
from tests.support.engine import Bench, session_of
from tests.support.stage import ManualClock

from monstermq_edge.engines.local.host import reading_of
from monstermq_edge.engines.ports import ClientReading
from monstermq_edge.operation import sums
from monstermq_edge.operation.sums import Totals
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.sessions.local.session import Session


class Sessions(Collection[str]):
    """The ids of sessions; counts the looks at these."""

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self.sessions = sessions
        self.looks = 0

    def client(self, client_id: str) -> ClientReading | None:
        self.looks += 1
        session = self.sessions.get(client_id)
        return None if session is None else reading_of(session)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self.sessions

    def __iter__(self) -> Iterator[str]:
        return iter(self.sessions)

    def __len__(self) -> int:
        return len(self.sessions)


class Stage:
    """An engine with sessions, and its totals."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.clock = ManualClock()
        self.sessions = Sessions(self.bench.engine.sessions)
        self.totals = Totals(self.sessions, self.sessions.client, (), self.clock)

    def come(self, count: int) -> None:
        for number in range(count):
            link = self.bench.connect(f"c{number}", ("t", 1), clean=True)
            self.bench.publish(link, "x", b"", qos=2)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_everything_is_summed_up(stage: Stage) -> None:
    kept = stage.bench.connect("kept", ("t", 1))
    stage.bench.publish(kept, "t", b"12345", b"", qos=1)
    stage.bench.publish(kept, "other", b"", b"", b"", qos=2)
    stage.come(1)
    now = stage.totals.current()
    assert (now.queued_messages, now.in_flight_messages, now.open_ids) == (2, 2, 4)
    assert now.queued_bytes == stage.bench.persistent("kept").queued_size > 5
    assert (now.held_connections, now.outbox_bytes) == (0, 0)


def test_who_asks_within_a_second_shares_a_walk(stage: Stage) -> None:
    stage.come(3)
    for _ in range(1_000):
        assert stage.totals.current().open_ids == 3
    assert stage.sessions.looks == 3
    stage.bench.engine.release(session_of(stage.bench.connect("c0", clean=True)), [1])
    stage.clock.now += 1.0
    assert stage.totals.current().open_ids == 2
    stage.totals.tick()
    assert stage.sessions.looks == 6


def test_many_are_walked_through_by_ticks_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "WALK_MAX", 10)
    stage.come(25)
    stage.totals.walk_all()  # as at the start
    stage.come(40)
    stage.sessions.looks = 0
    for step in range(1, 5):
        stage.clock.now += 10.0
        assert stage.totals.current().open_ids == 25
        stage.totals.tick()
        assert stage.sessions.looks == 10 * step
    stage.totals.tick()
    assert stage.totals.current().open_ids == 40
    assert stage.sessions.looks == 40


def test_sessions_that_end_during_a_walk_are_left_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "WALK_MAX", 10)
    stage.come(15)
    stage.totals.tick()
    for session in list(stage.bench.engine.sessions.values())[10:]:
        assert session.link is not None
        stage.bench.engine.detach(session, CloseReason.TRANSPORT_CLOSED, 0)
    stage.totals.tick()
    stage.totals.tick()
    assert stage.totals.current().open_ids == 10
