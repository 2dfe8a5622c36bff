"""The window, packet ids, and what waits for them."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.engine import Bench, acknowledge_everything, session_of, settings
from tests.support.links import Publish, Told

from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.window import PACKET_ID_MAX
from monstermq_shared.stores.changes import InFlightState

EITHER_KIND = pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])


@EITHER_KIND
def test_what_exceeds_the_window_waits_and_follows_acknowledgements(clean: bool) -> None:
    bench = Bench(settings(window=2))
    subscriber = bench.connect("s", ("t", 1), clean=clean)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"a", b"b", b"c", b"d", b"e")
    bench.publish(publisher, "t", b"f", first_id=6)
    assert subscriber.take() == [Publish("t", b"a", 1, 1), Publish("t", b"b", 1, 2)]
    bench.engine.acknowledge(session_of(subscriber), [1])
    assert subscriber.take() == [Publish("t", b"c", 1, 3)]
    bench.engine.acknowledge(session_of(subscriber), [2, 3])
    assert subscriber.payloads() == [b"d", b"e"]
    bench.engine.acknowledge(session_of(subscriber), [4, 5])
    assert subscriber.take() == [Publish("t", b"f", 1, 6)]
    bench.engine.acknowledge(session_of(subscriber), [6])
    assert session_of(subscriber).pending_count == session_of(subscriber).pending_size == 0


@EITHER_KIND
def test_packet_ids_wrap_around_the_ones_that_are_stuck(clean: bool) -> None:
    bench = Bench(settings(window=3))
    subscriber = bench.connect("s", ("t", 1), clean=clean)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"stuck", b"stuck too")
    session_of(subscriber).last_id = PACKET_ID_MAX - 1
    subscriber.take()
    used = []
    for _ in range(3):
        bench.publish(publisher, "t", b"x")
        (publish,) = subscriber.publishes()
        used.append(publish.packet_id)
        bench.engine.acknowledge(session_of(subscriber), [publish.packet_id])
    assert used == [PACKET_ID_MAX, 3, 4]


def test_unknown_and_repeated_acknowledgements_are_ignored() -> None:
    bench = Bench(settings(window=1))
    subscriber = bench.connect("s", ("t", 1))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"a", b"b")
    subscriber.take()
    session = session_of(subscriber)
    bench.engine.acknowledge(session, [7])
    bench.engine.complete(session, [1])
    assert subscriber.take() == []
    bench.engine.acknowledge(session, [1, 1])
    assert subscriber.payloads() == [b"b"]


def test_puback_does_not_end_a_qos_2_exchange() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2))
    bench.publish(bench.connect("p", clean=True), "t", b"a", qos=2)
    bench.settle()
    bench.engine.acknowledge(session_of(subscriber), [1])
    assert session_of(subscriber).in_flight
    assert bench.persistent("s").queued == 1


@EITHER_KIND
def test_puback_after_pubrec_changes_nothing(clean: bool) -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2), clean=clean)
    bench.publish(bench.connect("p", clean=True), "t", b"a", qos=2)
    bench.settle()
    session = session_of(subscriber)
    bench.engine.receive(session, [1])
    bench.engine.acknowledge(session, [1])
    assert session.in_flight
    bench.engine.complete(session, [1])
    assert not session.in_flight


def test_what_waits_does_not_pin_the_chunk_it_came_in() -> None:
    bench = Bench(settings(window=1))
    subscriber = bench.connect("s", ("t", 1), clean=True)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"first")
    chunk = bytes(100_000)
    owners = sys.getrefcount(chunk)
    run = MessageRun(b"t", 1, False, chunk, (2,), (10,), (11,))
    bench.engine.publish(session_of(publisher), run, 0)
    del run
    assert session_of(subscriber).pending_count == 1
    assert sys.getrefcount(chunk) == owners


def test_pubrec_for_a_forgotten_id_is_answered_so_that_the_client_can_go_on() -> None:
    bench = Bench()
    for subscriber in (bench.connect("s"), bench.connect("c", clean=True)):
        bench.engine.receive(session_of(subscriber), [9])
        assert subscriber.take() == [Told(Answer.PUBREL, 9)]


def test_qos_2_to_a_persistent_session_leaves_when_its_id_is_committed() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2))
    bench.publish(bench.connect("p", clean=True), "t", b"a", qos=2)
    assert subscriber.take() == []
    bench.commit()
    assert subscriber.take() == [Publish("t", b"a", 2, 1)]
    ((_, state),) = bench.disk.client("s").in_flight.values()
    assert state is InFlightState.SENT


def test_pubrel_leaves_when_receipt_is_committed_and_the_row_is_gone() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2))
    bench.publish(bench.connect("p", clean=True), "t", b"a", qos=2)
    bench.settle()
    subscriber.take()
    bench.engine.receive(session_of(subscriber), [1])
    assert subscriber.take() == []
    bench.commit()
    assert subscriber.take() == [Told(Answer.PUBREL, 1)]
    assert not bench.disk.client("s").queue
    bench.engine.complete(session_of(subscriber), [1])
    bench.commit()
    assert not bench.disk.client("s").in_flight


def test_qos_1_and_qos_2_to_a_clean_session_write_nothing() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2), clean=True)
    bench.publish(bench.connect("p", clean=True), "t", b"a", qos=2)
    assert subscriber.take() == [Publish("t", b"a", 2, 1)]
    bench.engine.receive(session_of(subscriber), [1])
    bench.engine.complete(session_of(subscriber), [1])
    assert subscriber.take() == [Told(Answer.PUBREL, 1)]
    assert not session_of(subscriber).in_flight
    assert not bench.disk.clients


def test_the_delivered_qos_is_the_lower_one() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 1))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"zero", qos=0)
    bench.publish(publisher, "t", b"two", qos=2)
    assert [p.qos for p in subscriber.publishes()] == [0, 1]


def test_what_was_in_flight_keeps_its_id_over_a_reconnect_and_gets_dup() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"one", qos=1)
    bench.publish(publisher, "t", b"two", qos=2)
    bench.settle()
    sent = subscriber.publishes()
    bench.drop(subscriber)
    subscriber = bench.connect_again("s")
    assert subscriber.publishes() == [publish._replace(dup=True) for publish in sent]


def test_after_a_kill_rows_go_out_with_dup_and_qos_2_keeps_its_id() -> None:
    bench = Bench()
    bench.connect("s", ("t", 2))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"one", qos=1)
    bench.publish(publisher, "t", b"two", qos=2)
    bench.settle()
    subscriber = bench.killed().connect_again("s")
    one, two = sorted(subscriber.publishes())
    assert (one.payload, one.dup) == (b"one", True)
    assert two == Publish("t", b"two", 2, 2, dup=True)
    assert one.packet_id != two.packet_id


@given(st.lists(st.integers(1, 4), max_size=12), st.integers(1, 5), st.data())
def test_no_schedule_of_acknowledgements_changes_the_order(
    counts: list[int], window: int, data: st.DataObject
) -> None:
    bench = Bench(settings(window=window))
    subscriber = bench.connect("s", ("t", 1))
    publisher = bench.connect("p", clean=True)
    number = 0
    received: list[bytes] = []
    unacknowledged: list[int] = []
    for count in counts:
        payloads = [b"%d" % (number + i) for i in range(count)]
        number += count
        bench.publish(publisher, "t", *payloads)
        if data.draw(st.booleans()):
            bench.settle()
        fresh = subscriber.publishes()
        received += [publish.payload for publish in fresh]
        unacknowledged += [publish.packet_id for publish in fresh]
        acknowledged = unacknowledged[: data.draw(st.integers(0, len(unacknowledged)))]
        del unacknowledged[: len(acknowledged)]
        bench.engine.acknowledge(session_of(subscriber), acknowledged)
    bench.engine.acknowledge(session_of(subscriber), unacknowledged)
    received += acknowledge_everything(bench, subscriber)
    bench.settle()
    assert received == [b"%d" % i for i in range(number)]
    assert not bench.disk.client("s").queue
