"""Who waits for rows is found by what the rows reflect, and costs no look while nobody is due."""

import pytest
from tests.support.kept_stage import KeptStage

from monstermq_shared.sessions.distributed import row_waits
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.row_waits import RowWaits


def sessions(number: int) -> list[KeptSession]:
    """Return some that are only told apart."""
    return [KeptStage().session for _ in range(number)]


def test_those_are_due_whose_markers_the_rows_reflect() -> None:
    waits, (one, two, three) = RowWaits(2), sessions(3)
    waits.add(one, 0, 7)
    waits.add(two, 0, 3)
    waits.add(three, 1, 3)
    assert waits.take({0: 3, 1: 0}) == []
    assert waits.take({0: 7}) == [(two, 0)]
    assert waits.take({0: 8, 1: 4}) == [(one, 0), (three, 1)]
    assert not waits


def test_a_session_waits_once_for_its_newest_marker() -> None:
    waits, (one,) = RowWaits(1), sessions(1)
    waits.add(one, 0, 3)
    waits.add(one, 0, 9)
    waits.add(one, 0, 9)
    assert waits.take({0: 9}) == []
    assert waits.take({0: 10}) == [(one, 0)]
    assert waits.take({0: 10}) == []


def test_a_session_that_is_due_may_wait_again_for_the_same() -> None:
    waits, (one,) = RowWaits(1), sessions(1)
    for _ in range(2):
        waits.add(one, 0, 3)
        assert waits.take({0: 4}) == [(one, 0)]


def test_who_has_gone_is_not_due() -> None:
    waits, (one, two) = RowWaits(2), sessions(2)
    for session in (one, two):
        waits.add(session, 0, 3)
        waits.add(session, 1, 3)
    waits.forget(one)
    assert waits.take({0: 4, 1: 4}) == [(two, 0), (two, 1)]


def test_those_that_come_and_go_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_waits, "STALE_MAX", 10)
    waits, (first, *others) = RowWaits(1), sessions(1_000)
    waits.add(first, 0, 3)
    for session in others:
        waits.add(session, 0, 5)
        waits.forget(session)
    assert len(waits._heaps[0]) <= 12
    assert waits.take({0: 100}) == [(first, 0)]
