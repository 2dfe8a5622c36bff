"""What waits to become rows, and what becomes rows next."""

import pytest
from tests.support.followed_log import LogEntry

from monstermq_shared.sessions.distributed.queue_limits import QueueBounds
from monstermq_shared.sessions.distributed.queues import counting
from monstermq_shared.sessions.distributed.queues.counting import QueueCounting
from monstermq_shared.sessions.distributed.queues.cuts import ClientCuts
from monstermq_shared.sessions.distributed.queues.new_rows import NewRows
from monstermq_shared.sessions.distributed.queues.window import Held, Window
from monstermq_shared.stores.queue_changes import QueueGrowth
from monstermq_shared.testing.builders import make_record

A, B, C = (ClientCuts(name, 1) for name in "abc")


def entry(offset: int) -> LogEntry:
    return LogEntry(offset, make_record(offset), b"writer-1", offset, 0)


def test_a_window_gives_out_an_entry_by_the_piece() -> None:
    window = Window()
    window.add(Held(entry(5), {A: 1, B: 1, C: 2}, 0.0))
    window.add(Held(entry(6), {A: 1}, 0.0))
    assert window.pop_oldest(2)[1] == {A: 1, B: 1}
    assert window.pop(A, 5) is None
    assert [at.offset for at, _ in window.pop_all(A)] == [6]
    assert window.pop_oldest(2)[1] == {C: 2}
    assert (len(window), window.size) == (0, 0)


def test_what_is_taken_out_of_a_window_takes_no_room() -> None:
    window = Window()
    for offset in range(4):
        window.add(Held(entry(offset), {A: 1, B: 1}, 0.0))
    window.drop_below(A, 4)
    window.drop_below(B, 3)
    oldest = window.oldest()
    assert oldest is not None
    assert oldest.entry.offset == 3
    assert window.pop(B, 3) == (oldest.entry, 1)
    assert (len(window), window.size, window.oldest()) == (0, 0, None)


def test_rows_of_one_message_come_together_whenever_they_are_added() -> None:
    rows = NewRows()
    first = entry(5)
    rows.add(first, {A: 1})
    rows.add(first, {B: 2, C: 1})
    rows.add(entry(6), {A: 1})
    assert (len(rows), rows.size) == (4, 2 * first.size)
    assert rows.pop(C, 5)
    assert not rows.pop(C, 5)
    rows.drop_below(A, 7)
    assert [(offset, targets) for offset, _, targets in rows] == [(5, {B: 2})]
    assert (len(rows), rows.size) == (1, first.size)


def test_of_many_queues_near_the_limit_some_are_noted_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S5."""
    monkeypatch.setattr(counting, "NOTES_MAX", 2)
    queues = QueueCounting(QueueBounds(4, 1_000), 1)
    queues.grown({name: QueueGrowth(3, 30) for name in "abc"})
    assert queues.take(1.0) == {"a": (3, 30), "b": (3, 30)}
    assert queues.take(1.5) == {}
    assert queues.take(2.0) == {"c": (3, 30)}
    assert queues.due_s == float("inf")


def test_a_queue_is_noted_once_when_it_falls_below() -> None:
    """S5."""
    queues = QueueCounting(QueueBounds(4, 1_000), 1)
    queues.grown({"a": QueueGrowth(3, 30)})
    assert queues.take(1.0)
    queues.grown({"a": QueueGrowth(-2, -20)})
    assert queues.take(2.0) == {"a": (0, 0)}
    assert queues.has_rows("a")
    queues.grown({"a": QueueGrowth(-1, -10)})
    assert queues.take(3.0) == {}
    assert not queues.has_rows("a")
