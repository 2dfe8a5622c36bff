"""Queues over their limit lose their oldest messages (S5)."""

import pytest

from monstermq_shared.bus.facts import Drop
from monstermq_shared.sessions.distributed import queue_limits
from monstermq_shared.sessions.distributed.queue_limits import REST_S, Overfull, QueueBounds
from monstermq_shared.sessions.distributed.session_asks import Ask
from monstermq_shared.stores.queue_changes import QueueCount
from monstermq_shared.stores.queues import OldestAsk, QueueTotal


def total(*counts: tuple[int, int, int]) -> QueueTotal:
    """Return what partitions 0, 1, ... say: messages, bytes, time of the oldest."""
    by_partition = {number: QueueCount(*count) for number, count in enumerate(counts)}
    return QueueTotal(
        messages=sum(messages for messages, _, _ in counts),
        size=sum(size for _, size, _ in counts),
        by_partition=by_partition,
    )


@pytest.fixture
def overfull() -> Overfull:
    return Overfull(QueueBounds(messages_max=100, size_max=10_000))


def test_the_partition_with_the_oldest_message_loses_what_is_too_much(overfull: Overfull) -> None:
    asked = overfull.look({"a": total((60, 60, 7), (60, 60, 5), (3, 3, 9))}, 1)
    assert asked == [OldestAsk("a", 1, 23)]
    drops = overfull.drops(asked, [(4_711, 23)])
    assert drops == [(Ask(1, Drop(client_id="a", below=4_711, count=23)), 23)]


def test_bytes_count_as_messages_of_the_size_that_they_have_there(overfull: Overfull) -> None:
    asked = overfull.look({"a": total((50, 10_000, 5), (10, 150, 7))}, 1)
    assert asked == [OldestAsk("a", 0, 1)]


@pytest.mark.parametrize(
    "within", [total((100, 10_000, 1)), total((0, 0, -1), (0, 0, -1)), total()]
)
def test_a_queue_within_its_limit_is_left_alone(overfull: Overfull, within: QueueTotal) -> None:
    assert overfull.look({"a": within}, 1) == []


def test_no_more_goes_than_is_there(overfull: Overfull) -> None:
    """The next time the other partition has the oldest message."""
    assert overfull.look({"a": total((10, 10, 1), (500, 500, 2))}, 1) == [OldestAsk("a", 0, 10)]


def test_a_queue_rests_until_its_counts_can_show_the_drop(overfull: Overfull) -> None:
    """Else it would lose the same number again."""
    full = {"a": total((150, 150, 1))}
    overfull.drops(overfull.look(full, 1), [(50, 50)])
    assert overfull.look(full, REST_S - 1) == []
    assert overfull.look({**full, "b": full["a"]}, 0.5) == [OldestAsk("b", 0, 50)]
    assert len(overfull.look(full, 0.5)) == 1


def test_rows_that_are_gone_meanwhile_are_not_dropped(overfull: Overfull) -> None:
    assert overfull.drops(overfull.look({"a": total((150, 150, 1))}, 1), [None]) == []


def test_only_so_much_is_done_at_once(overfull: Overfull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_limits, "QUEUES_MAX", 2)
    monkeypatch.setattr(queue_limits, "DROP_MAX", 30)
    full = total((150, 150, 1))
    assert overfull.look(dict.fromkeys("abc", full), 1) == [
        OldestAsk("a", 0, 30),
        OldestAsk("b", 0, 30),
    ]
