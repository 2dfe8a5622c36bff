"""Who is held, for how long, and what becomes of subscribers that are too slow."""

from dataclasses import replace
from typing import NoReturn

import pytest
from tests.support.engine import (
    HOLD,
    QUEUE,
    Bench,
    acknowledge_everything,
    session_of,
    settings,
    subscribe_to,
)
from tests.support.links import Closed, RecordingLink
from tests.support.mqtt_client_frames import encode_connect, encode_subscribe
from tests.support.stage import PEER, context_for

from monstermq_edge.mqtt import phases
from monstermq_edge.mqtt.connection import Connection
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import DropReason
from monstermq_shared.messages import Will
from monstermq_shared.sessions.local.persistent import Phase
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.ports import Link

SMALL = settings(window=1, hold=replace(HOLD, pending_max=4))


def stuck(bench: Bench, *, clean: bool) -> tuple[RecordingLink, RecordingLink]:
    """Return a subscriber that acknowledges nothing, and a publisher that is held for it."""
    subscriber = bench.connect("s", ("t", 1), clean=clean)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *(b"%d" % i for i in range(6)))
    return subscriber, publisher


def wait(bench: Bench, seconds: float) -> None:
    """Tick every second for so long, from second 1 on."""
    for second in range(1, int(seconds) + 2):
        bench.engine.tick(float(second), second * 1000)


def test_a_publisher_is_held_while_too_much_waits_and_resumed_at_half() -> None:
    bench = Bench(SMALL)
    subscriber, publisher = stuck(bench, clean=True)
    assert publisher.holds == 1
    assert bench.counters.held_publishers == 1
    for packet_id in (1, 2):
        bench.engine.acknowledge(session_of(subscriber), [packet_id])
        assert publisher.holds == 1
    bench.engine.acknowledge(session_of(subscriber), [3])
    assert publisher.holds == 0


def test_bytes_that_wait_hold_a_publisher_too() -> None:
    bench = Bench(settings(window=1, hold=replace(HOLD, pending_size_max=100)))
    bench.connect("s", ("t", 1), clean=True)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"x")
    bench.publish(publisher, "t", b"x" * 150)
    assert publisher.holds == 1


def test_a_slow_clean_session_is_closed_when_patience_ends() -> None:
    bench = Bench(SMALL)
    subscriber, publisher = stuck(bench, clean=True)
    wait(bench, 4.9)
    assert publisher.holds == 1
    wait(bench, 5)
    assert subscriber.take()[-1] == Closed(CloseReason.SLOW_CONSUMER)
    assert publisher.holds == 0
    assert bench.counters.dropped[DropReason.SLOW_CONSUMER] == 6


def test_a_slow_persistent_session_goes_on_from_its_rows() -> None:
    bench = Bench(SMALL)
    subscriber, publisher = stuck(bench, clean=False)
    wait(bench, 5)
    assert publisher.holds == 0
    assert bench.counters.parked_sessions == 1
    assert bench.persistent("s").phase is Phase.LAGGING
    assert session_of(subscriber).pending_count == 0
    assert acknowledge_everything(bench, subscriber) == [b"%d" % i for i in range(6)]
    assert bench.persistent("s").phase is Phase.LIVE
    assert not bench.disk.client("s").queue


def test_pages_for_a_client_that_catches_up_hold_nobody() -> None:
    bench = Bench(settings(window=10, hold=replace(HOLD, pending_max=100)))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *(b"%d" % i for i in range(600)))
    bench.settle()
    subscriber = bench.connect_again("s")
    bench.publish(publisher, "t", b"600")
    bench.settle()
    assert publisher.holds == 0
    assert acknowledge_everything(bench, subscriber) == [b"%d" % i for i in range(601)]


def test_retained_pages_hold_nobody() -> None:
    bench = Bench(settings(window=10, hold=replace(HOLD, pending_max=100)))
    publisher = bench.connect("p", clean=True)
    for number in range(600):
        bench.publish(publisher, f"t/{number}", b"x", retain=True)
    bench.settle()
    bench.connect("s", ("t/#", 1), clean=True)
    bench.publish(publisher, "t/live", b"x")
    assert publisher.holds == 0


def test_patience_ends_for_a_session_that_is_still_reading_its_pages_too() -> None:
    hold = replace(HOLD, pending_max=8, pending_size_max=4)
    bench = Bench(settings(window=1, hold=hold))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", *(b"%d" % i for i in range(20)))
    bench.settle()
    subscriber = bench.connect_again("s")
    assert bench.persistent("s").phase is Phase.PAGING
    bench.publish(publisher, "t", b"20")
    bench.settle()
    assert publisher.holds == 1
    wait(bench, 5)
    assert publisher.holds == 0
    assert bench.counters.parked_sessions == 1
    assert acknowledge_everything(bench, subscriber) == [b"%d" % i for i in range(21)]


def test_a_slow_persistent_session_without_queues_is_closed() -> None:
    bench = Bench(
        settings(window=1, hold=replace(HOLD, pending_max=4), queue=replace(QUEUE, enabled=False))
    )
    subscriber, publisher = stuck(bench, clean=False)
    wait(bench, 5)
    assert subscriber.take()[-1] == Closed(CloseReason.SLOW_CONSUMER)
    assert publisher.holds == 0


def test_the_clock_stands_still_while_the_subscriber_itself_is_held() -> None:
    bench = Bench(SMALL)
    subscriber, publisher = stuck(bench, clean=True)
    subscriber.hold()
    wait(bench, 20)
    assert publisher.holds == 1
    assert Closed(CloseReason.SLOW_CONSUMER) not in subscriber.take()


def connection_of(bench: Bench, outbox_size_max: int) -> Connection:
    """Return a connection as the product has it."""
    context = context_for(bench, lambda _: None, lambda _: None)
    return Connection(replace(context, outbox_size_max=outbox_size_max), PEER, None, 0.0)


def test_a_subscriber_that_never_reads_holds_its_publishers_for_so_long_only() -> None:
    bench = Bench(SMALL)
    subscriber = connection_of(bench, outbox_size_max=1_000)
    subscriber.receive_data(encode_connect("s", clean=True, keep_alive_s=0), 0.0, 0)
    subscriber.receive_data(encode_subscribe(1, [("t", 1), ("noise", 0)]), 0.0, 0)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "noise", b"x" * 2_000, qos=0)
    assert subscriber.stops_reading
    bench.publish(publisher, "t", *(b"%d" % i for i in range(6)))
    assert publisher.holds == 1
    wait(bench, 5)
    assert publisher.holds == 0
    assert subscriber.phase is phases.Phase.CLOSED


class Unscanned(dict[Session, Link]):
    """Slow sessions that may be looked up, but not gone through."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("a publish must not cost more where more subscribers are slow")


def test_slow_subscribers_do_not_make_a_publish_or_an_end_slower_for_each_other() -> None:
    bench = Bench(SMALL)
    for number in range(20):
        bench.connect(f"s{number}", ("t", 1), clean=True)
    slow_publisher = bench.connect("both", ("t", 1), clean=True)
    other = bench.connect("p", clean=True)
    bench.publish(other, "t", *(b"x" for _ in range(6)))
    backpressure = bench.engine.backpressure
    backpressure.slow = Unscanned(backpressure.slow)
    bench.publish(slow_publisher, "t", b"x")
    assert slow_publisher.holds == 0
    assert other.holds == 21
    bench.drop(slow_publisher)
    assert other.holds == 20


def test_two_that_publish_to_each_other_do_not_hold_each_other() -> None:
    bench = Bench(SMALL)
    one = bench.connect("one", ("to/one", 1), clean=True)
    two = bench.connect("two", ("to/two", 1), clean=True)
    bench.publish(one, "to/two", *(b"x" for _ in range(6)))
    bench.publish(two, "to/one", *(b"x" for _ in range(6)))
    assert one.holds == 1
    assert two.holds == 0


def test_a_client_that_publishes_to_itself_is_not_held() -> None:
    bench = Bench(SMALL)
    client = bench.connect("c", ("t", 1), clean=True)
    bench.publish(client, "t", *(b"x" for _ in range(6)))
    assert client.holds == 0
    wait(bench, 5)
    assert client.take()[-1] == Closed(CloseReason.SLOW_CONSUMER)


def test_a_subscriber_that_leaves_lets_its_publishers_go() -> None:
    bench = Bench(SMALL)
    subscriber, publisher = stuck(bench, clean=False)
    bench.drop(subscriber)
    assert publisher.holds == 0
    assert not bench.engine.backpressure.slow


def test_a_publisher_that_leaves_is_not_resumed() -> None:
    bench = Bench(SMALL)
    subscriber, publisher = stuck(bench, clean=True)
    bench.drop(publisher)
    bench.engine.acknowledge(session_of(subscriber), [1])
    for packet_id in range(2, 7):
        bench.engine.acknowledge(session_of(subscriber), [packet_id])
    assert publisher.holds == 1


def test_a_database_that_is_behind_holds_publishers_until_it_has_caught_up() -> None:
    bench = Bench(settings(hold=replace(HOLD, backlog_size_max=2_000)))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"x" * 400)
    assert publisher.holds == 0
    bench.publish(publisher, "t", b"x" * 400)
    assert publisher.holds == 1
    bench.commit()
    assert publisher.holds == 0


def test_what_is_being_committed_counts_as_waiting_too() -> None:
    bench = Bench(settings(hold=replace(HOLD, backlog_size_max=2_000)))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"x" * 1_200)
    turn = bench.engine.take_turn()
    assert turn is not None
    bench.publish(publisher, "t", b"x" * 200)
    assert publisher.holds == 1
    bench.engine.committed(bench.disk.apply(turn))
    assert publisher.holds == 0


def test_what_came_during_a_commit_still_waits_after_it() -> None:
    bench = Bench()
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    bench.commit()
    journal = bench.engine.journal
    assert journal.backlog_size == 0
    bench.publish(publisher, "t", b"x" * 1_200)
    turn = bench.engine.take_turn()
    assert turn is not None
    before = journal.backlog_size
    bench.publish(publisher, "t", b"x" * 200)
    came = journal.backlog_size - before
    assert came > 200
    bench.engine.committed(bench.disk.apply(turn))
    assert journal.backlog_size == came
    bench.commit()
    assert journal.backlog_size == 0


def test_connections_that_come_and_go_are_refused_when_too_much_waits() -> None:
    bound = 1_000_000
    bench = Bench(settings(hold=replace(HOLD, backlog_size_max=bound)))
    cycles = 0
    while not bench.engine.is_overloaded() and cycles < 100:
        will = Will(topic=f"w/{cycles}", payload=b"x" * 100_000, qos=1, retain=True)
        bench.drop(bench.attach(f"c{cycles}", clean=cycles % 2 == 0, will=will))
        cycles += 1
    assert 2 * bound < bench.engine.journal.backlog_size < 2.5 * bound
    turn = bench.engine.take_turn()
    assert turn is not None
    assert bench.engine.is_overloaded()
    bench.engine.committed(bench.disk.apply(turn))
    assert not bench.engine.is_overloaded()


def test_rows_of_sessions_and_subscriptions_count_as_waiting() -> None:
    bench = Bench()
    link = bench.attach("s", will=Will(topic="w", payload=b"x" * 1_000, qos=0, retain=False))
    attached = bench.engine.journal.backlog_size
    assert attached > 1_000
    subscribe_to(bench.engine, session_of(link), 1, [("f" * 500, 1), ("g" * 500, 1)])
    assert bench.engine.journal.backlog_size > attached + 1_000


def test_a_publisher_at_the_bound_keeps_nobody_out() -> None:
    bench = Bench(settings(hold=replace(HOLD, backlog_size_max=2_000)))
    bench.drop(bench.connect("s", ("t", 1)))
    publisher = bench.connect("p", clean=True)
    while not publisher.holds:
        bench.publish(publisher, "t", b"x" * 400)
    assert not bench.engine.is_overloaded()


def test_qos_0_that_nobody_stores_is_never_held() -> None:
    bench = Bench(settings(hold=replace(HOLD, backlog_size_max=10)))
    bench.connect("s", ("t", 1), clean=True)
    publisher, archived = bench.connect("p", clean=True), bench.connect("q", clean=True)
    bench.publish(archived, "stored/x", b"x" * 400)
    assert archived.holds == 1
    bench.publish(publisher, "t", b"x" * 400, qos=0)
    assert publisher.holds == 0


@pytest.mark.parametrize("clean", [True, False])
def test_a_client_that_outruns_its_own_subscription_is_given_up_on_at_once(clean: bool) -> None:
    bench = Bench(SMALL)
    client = bench.connect("s", ("t", 1), clean=clean)
    for number in range(40):
        if client.take()[-1:] == [Closed(CloseReason.SLOW_CONSUMER)]:
            break
        bench.publish(client, "t", b"%d" % number)
    session = session_of(client)
    assert client.holds == 0
    assert session.pending_count <= 8 * 4 + 1
    if clean:
        assert session.link is None
    else:
        assert bench.counters.parked_sessions > 0


def test_a_subscriber_that_only_wills_overwhelm_is_given_up_on_by_the_tick() -> None:
    """Nobody publishes who could be held for it, and nobody's next packet brings it to an end."""
    bench = Bench(SMALL)
    subscriber = bench.connect("s", ("w", 1), clean=True)
    will = Will(topic="w", payload=b"gone", qos=1, retain=False)
    leaving = [bench.attach(f"c{number}", clean=True, will=will) for number in range(50)]
    bench.settle()
    for link in leaving:
        bench.drop(link)
    assert len(bench.engine.backpressure.overflowing) == 1
    bench.engine.tick(1.0, 1)
    assert not bench.engine.backpressure.overflowing
    assert subscriber.take()[-1] == Closed(CloseReason.SLOW_CONSUMER)
