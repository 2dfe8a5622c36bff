"""The queue of a persistent session: rows, pages, and the limits on both."""

from dataclasses import replace

import pytest
from tests.support.engine import HOLD, QUEUE, Bench, acknowledge_everything, session_of, settings
from tests.support.links import Publish, Told

from monstermq_shared.counters import DropReason
from monstermq_shared.sessions.local.persistent import Phase
from monstermq_shared.sessions.ports import Answer


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%03d" % i for i in range(first, end)]


def test_what_came_while_away_is_sent_in_order() -> None:
    bench = Bench(settings(window=3))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 5))
    bench.publish(publisher, "t", *numbered(5, 10))
    bench.settle()
    subscriber = bench.connect_again("s")
    assert acknowledge_everything(bench, subscriber) == numbered(0, 10)
    assert not bench.disk.client("s").queue
    assert bench.persistent("s").queued == bench.persistent("s").queued_size == 0


def test_a_queue_longer_than_a_page_is_read_page_by_page() -> None:
    bench = Bench(settings(window=2, hold=replace(HOLD, pending_max=8)))
    bench.drop(bench.connect("s", ("t", 1)))
    bench.publish(bench.connect("p", clean=True), "t", *numbered(0, 23))
    bench.settle()
    subscriber = bench.connect_again("s")
    waiting_max = 0
    received = []
    while publishes := subscriber.publishes():
        waiting_max = max(waiting_max, session_of(subscriber).pending_count)
        received += [publish.payload for publish in publishes]
        bench.engine.acknowledge(session_of(subscriber), [p.packet_id for p in publishes])
        bench.settle()
    assert received == numbered(0, 23)
    assert waiting_max < 2 * 4


def test_what_comes_while_pages_are_read_follows_them() -> None:
    bench = Bench()
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"row")
    bench.settle()
    subscriber = bench.attach("s")
    bench.commit()
    bench.publish(publisher, "t", b"live")
    assert subscriber.payloads() == []
    bench.settle()
    assert acknowledge_everything(bench, subscriber) == [b"row", b"live"]


def test_a_tail_that_grows_too_long_is_paged() -> None:
    bench = Bench(settings(queue=replace(QUEUE, tail_max=2)))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 1))
    bench.settle()
    subscriber = bench.attach("s")
    bench.commit()
    for number in range(1, 5):
        bench.publish(publisher, "t", *numbered(number, number + 1))
    assert bench.persistent("s").phase is Phase.PAGING
    bench.settle()
    assert acknowledge_everything(bench, subscriber) == numbered(0, 5)
    assert bench.persistent("s").phase is Phase.LIVE


def test_rows_are_not_read_before_they_are_committed() -> None:
    """An acknowledgement that comes while the first read waits for its commit starts nothing."""
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"done", qos=2)
    bench.settle()
    bench.engine.receive(session_of(subscriber), [1])
    bench.settle()
    bench.drop(subscriber)
    bench.publish(publisher, "t", b"early")
    bench.settle()
    subscriber = bench.attach("s")
    turn = bench.engine.take_turn()
    assert turn is not None
    # Below the cut, and not in the turn that CONNACK waits for.
    bench.publish(publisher, "t", b"late")
    bench.engine.committed(bench.disk.apply(turn))
    bench.engine.complete(session_of(subscriber), [1])
    bench.answer_reads()
    bench.settle()
    assert acknowledge_everything(bench, subscriber) == [b"early", b"late"]


def test_a_row_acknowledged_in_its_turn_is_never_written() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 1))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"a")
    bench.engine.acknowledge(session_of(subscriber), [1])
    turn = bench.engine.take_turn()
    assert turn is not None
    assert not turn.clients["s"].queued
    assert not turn.clients["s"].dequeued
    assert bench.counters.rows_elided == 1
    assert publisher.take() == []
    bench.engine.committed(bench.disk.apply(turn))
    assert publisher.take() == [Told(Answer.PUBACK, 1)]


def test_a_row_acknowledged_later_is_deleted() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 1))
    bench.publish(bench.connect("p", clean=True), "t", b"a")
    bench.commit()
    assert bench.disk.client("s").queue
    bench.engine.acknowledge(session_of(subscriber), [1])
    bench.commit()
    assert not bench.disk.client("s").queue


def test_a_page_that_comes_after_a_reconnect_is_ignored() -> None:
    bench = Bench()
    bench.drop(bench.connect("s", ("t", 1)))
    bench.publish(bench.connect("p", clean=True), "t", b"a")
    bench.settle()
    first = bench.attach("s")
    bench.commit()
    second = bench.attach("s")
    bench.commit()
    bench.settle()
    assert first.payloads() == []
    assert second.payloads() == [b"a"]


def limited(*, drop_oldest: bool, messages: int = 3, size: int = 1_000) -> Bench:
    queue = replace(QUEUE, messages_max=messages, size_max=size, drop_oldest=drop_oldest)
    return Bench(settings(queue=queue))


@pytest.mark.parametrize(
    ("drop_oldest", "kept", "reason"),
    [
        (True, numbered(3, 6), DropReason.QUEUE_FULL_OLDEST),
        (False, numbered(0, 3), DropReason.QUEUE_FULL_NEWEST),
    ],
    ids=["oldest", "newest"],
)
@pytest.mark.parametrize("limits", [{}, {"messages": 100, "size": 15}], ids=["messages", "bytes"])
def test_a_full_queue_drops_by_its_policy_and_counts(
    drop_oldest: bool, kept: list[bytes], reason: DropReason, limits: dict[str, int]
) -> None:
    bench = limited(drop_oldest=drop_oldest, **limits)
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 2))
    bench.publish(publisher, "t", *numbered(2, 4))
    bench.settle()
    bench.publish(publisher, "t", *numbered(4, 6))
    bench.settle()
    assert bench.counters.dropped[reason] == 3
    assert sum(bench.counters.dropped) == 3
    assert bench.persistent("s").queued == 3
    subscriber = bench.connect_again("s")
    assert acknowledge_everything(bench, subscriber) == kept


def test_publishers_are_acknowledged_whatever_a_full_queue_drops() -> None:
    bench = limited(drop_oldest=False)
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 9))
    bench.settle()
    assert [told.packet_id for told in publisher.take() if isinstance(told, Told)] == [
        *range(1, 10)
    ]


def test_what_is_in_flight_is_not_dropped_by_a_limit() -> None:
    bench = limited(drop_oldest=True, messages=2)
    subscriber = bench.connect("s", ("t", 2))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"in flight", qos=2)
    bench.settle()
    bench.drop(subscriber)
    for number in range(5):
        bench.publish(publisher, "t", b"%d" % number)
        bench.settle()
    subscriber = bench.connect_again("s")
    assert subscriber.payloads() == [b"in flight", b"4"]


def test_a_trim_while_pages_are_read_spares_what_is_read() -> None:
    bench = limited(drop_oldest=True)
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 3))
    bench.settle()
    subscriber = bench.attach("s")
    bench.commit()
    (read,) = bench.engine.take_reads()
    rows = bench.disk.queue_page(read)  # type: ignore[arg-type]  # there is but one kind here
    bench.publish(publisher, "t", *numbered(3, 6))
    bench.commit()
    bench.engine.queue_page(read, rows)  # type: ignore[arg-type]
    bench.settle()
    assert acknowledge_everything(bench, subscriber)[:3] == numbered(0, 3)
    assert not bench.disk.client("s").queue
    assert bench.persistent("s").queued == 0


def test_nothing_is_read_before_the_trim_that_is_about_to_change_it() -> None:
    queue = replace(QUEUE, messages_max=3)
    bench = Bench(settings(window=1, queue=queue, hold=replace(HOLD, pending_max=2)))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 3))
    bench.settle()
    subscriber = bench.connect_again("s")  # one is in flight, one waits, one is not read
    bench.publish(publisher, "t", b"003")
    assert bench.answer_reads() == 0
    bench.settle()
    assert acknowledge_everything(bench, subscriber) == [b"000", b"001", b"003"]
    assert not bench.disk.client("s").queue


def test_a_trim_of_an_ended_session_does_not_count_for_its_successor() -> None:
    bench = limited(drop_oldest=True, messages=2)
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 5))
    turn = bench.engine.take_turn()
    assert turn is not None
    bench.drop(bench.attach("s", clean=True))
    bench.attach("s")
    bench.engine.committed(bench.disk.apply(turn))
    bench.settle()
    assert bench.persistent("s").queued == 0
    assert sum(bench.counters.dropped) == 0


def test_without_queues_only_connected_clients_are_served() -> None:
    bench = Bench(settings(queue=replace(QUEUE, enabled=False)))
    subscriber = bench.connect("s", ("t", 1))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"connected")
    assert subscriber.payloads() == [b"connected"]
    assert publisher.take() == [Told(Answer.PUBACK, 1)]
    bench.drop(subscriber)
    bench.publish(publisher, "t", b"away")
    bench.settle()
    assert bench.counters.dropped[DropReason.QUEUEING_DISABLED] == 1
    subscriber = bench.connect_again("s")
    assert subscriber.payloads() == []
    assert not session_of(subscriber).in_flight
    assert not bench.disk.client("s").queue


def test_without_queues_a_qos_2_exchange_is_finished_after_a_reconnect() -> None:
    bench = Bench(settings(queue=replace(QUEUE, enabled=False)))
    subscriber = bench.connect("s", ("t", 2))
    bench.publish(bench.connect("p", clean=True), "t", b"a", qos=2)
    bench.settle()
    bench.drop(subscriber)
    subscriber = bench.connect_again("s")
    assert Told(Answer.PUBREL, 1) in subscriber.take()
    bench.engine.complete(session_of(subscriber), [1])
    bench.settle()
    assert not bench.disk.client("s").in_flight


OFF = settings(queue=replace(QUEUE, enabled=False))


def with_rows(qos: int, *payloads: bytes) -> Bench:
    """Return a broker whose queues are off, with rows of a time when they were on."""
    bench = Bench()
    bench.drop(bench.connect("s", ("t", qos)))
    bench.publish(bench.connect("p", clean=True), "t", *payloads, qos=qos)
    bench.settle()
    return bench.killed(OFF)


def test_rows_of_before_are_sent_once_when_queues_are_off() -> None:
    bench = with_rows(1, b"a", b"b")
    subscriber = bench.connect_again("s")
    assert acknowledge_everything(bench, subscriber) == [b"a", b"b"]
    assert not bench.disk.client("s").queue
    assert bench.persistent("s").queued == bench.persistent("s").queued_size == 0
    bench.drop(subscriber)
    assert bench.connect_again("s").payloads() == []


def test_rows_of_before_are_exactly_once_when_queues_are_off() -> None:
    bench = with_rows(2, b"a")
    subscriber = bench.connect_again("s")
    assert subscriber.payloads() == [b"a"]
    bench.engine.receive(session_of(subscriber), [1])
    bench.settle()
    bench.drop(subscriber)
    again = bench.killed(OFF).connect_again("s")
    assert Told(Answer.PUBREL, 1) in again.take()
    assert not bench.disk.client("s").queue


def test_a_row_of_before_is_deleted_though_its_receipt_comes_before_it_is_read() -> None:
    bench = Bench()
    bench.connect("s", ("t", 2))
    bench.publish(bench.connect("p", clean=True), "t", b"a", qos=2)
    bench.settle()
    bench = bench.killed(OFF)
    subscriber = bench.attach("s")
    bench.commit()
    bench.engine.receive(session_of(subscriber), [1])
    bench.settle()
    assert subscriber.payloads() == []
    assert not bench.disk.client("s").queue
    assert bench.persistent("s").queued == 0


def test_without_queues_what_comes_after_connack_is_sent_whatever_was_unacknowledged() -> None:
    bench = Bench(OFF)
    subscriber = bench.connect("s", ("t", 2))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"1", qos=1)
    bench.publish(publisher, "t", b"2", qos=2)
    bench.settle()
    bench.drop(subscriber)
    subscriber = bench.attach("s")
    bench.commit()
    assert bench.persistent("s").phase is Phase.LIVE
    bench.publish(publisher, "t", b"3", qos=1)
    bench.settle()
    assert subscriber.payloads() == [b"3"]
    assert sum(bench.counters.dropped) == 0


def test_without_queues_what_comes_meanwhile_follows_the_rows_of_before() -> None:
    bench = with_rows(1, b"a", b"b")
    publisher = bench.connect("p", clean=True)
    subscriber = bench.attach("s")
    bench.commit()
    bench.publish(publisher, "t", b"c")
    bench.settle()
    assert acknowledge_everything(bench, subscriber) == [b"a", b"b", b"c"]
    assert sum(bench.counters.dropped) == 0
    assert not bench.disk.client("s").queue


def test_without_queues_too_much_behind_the_rows_of_before_is_dropped_and_counted() -> None:
    bench = with_rows(1, b"a")
    bench = bench.killed(settings(queue=replace(QUEUE, enabled=False, tail_max=2)))
    publisher = bench.connect("p", clean=True)
    subscriber = bench.attach("s")
    bench.commit()
    for payload in (b"b", b"c", b"d"):
        bench.publish(publisher, "t", payload)
    bench.settle()
    assert acknowledge_everything(bench, subscriber) == [b"a", b"b", b"c"]
    assert bench.counters.dropped[DropReason.QUEUEING_DISABLED] == 1


def with_orphan() -> Bench:
    """Return the disk of a session to which a QoS 2 message is under way that has no row."""
    bench = Bench(OFF)
    subscriber = bench.connect("s", ("t", 2))
    bench.publish(bench.connect("p", clean=True), "t", b"orphan", qos=2)
    bench.settle()
    bench.drop(subscriber)
    bench.settle()
    return bench


def test_an_exchange_without_row_does_not_read_the_whole_queue_into_memory() -> None:
    bench = with_orphan().killed(settings(window=2, hold=replace(HOLD, pending_max=20)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 500))
    bench.settle()
    subscriber = bench.connect_again("s")
    assert session_of(subscriber).pending_count < 2 * 10
    said = subscriber.take()
    sent = [one for one in said if isinstance(one, Publish)]
    # Rows beyond it have been read, so it is known that it has none.
    assert Told(Answer.PUBREL, 1) in said
    bench.engine.complete(session_of(subscriber), [1])
    bench.engine.acknowledge(session_of(subscriber), [one.packet_id for one in sent])
    bench.settle()
    rest = acknowledge_everything(bench, subscriber)
    assert [one.payload for one in sent] + rest == numbered(0, 500)
    assert not bench.disk.client("s").in_flight


def test_an_exchange_without_row_takes_its_place_in_the_window() -> None:
    bench = Bench(OFF)
    bench.connect("s", ("t", 2))
    bench.publish(bench.connect("p", clean=True), "t", b"orphan", qos=2)
    bench.settle()
    bench = bench.killed(settings(window=3))
    bench.publish(bench.connect("p", clean=True), "t", *numbered(0, 5))
    bench.settle()
    subscriber = bench.connect_again("s")
    assert subscriber.payloads() == numbered(0, 2)
    assert len(session_of(subscriber).in_flight) == 3


def test_ids_that_wait_for_their_rows_do_not_block_a_window_that_was_made_smaller() -> None:
    bench = Bench(settings(window=100))
    bench.connect("s", ("t", 2))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *numbered(0, 50), qos=1)
    bench.publish(publisher, "t", *numbered(50, 60), qos=2)
    bench.settle()
    bench = bench.killed(settings(window=5, hold=replace(HOLD, pending_max=10)))
    subscriber = bench.connect_again("s")
    received: list[bytes] = []
    while publishes := subscriber.publishes():
        received += [publish.payload for publish in publishes]
        assert session_of(subscriber).pending_count < 2 * 5
        bench.engine.acknowledge(session_of(subscriber), [p.packet_id for p in publishes])
        ids = [p.packet_id for p in publishes if p.qos == 2]
        bench.engine.receive(session_of(subscriber), ids)
        bench.settle()
        bench.engine.complete(session_of(subscriber), ids)
        bench.settle()
    assert received == numbered(0, 60)
    assert not bench.disk.client("s").queue
    assert not bench.disk.client("s").in_flight
