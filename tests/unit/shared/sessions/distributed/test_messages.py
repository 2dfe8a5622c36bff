"""The way of a message over a bus of many edges (E7, E14, R4, R6)."""

from dataclasses import replace

import pytest
from tests.support.edges import Bus, Edge, strange_message, topic_in, two_edges, with_hold, write
from tests.support.links import Closed, Publish, Told

from monstermq_shared.bus import ring
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed import reading
from monstermq_shared.sessions.ports import Answer


def acks(*packet_ids: int) -> list[Told]:
    return [Told(Answer.PUBACK, packet_id) for packet_id in packet_ids]


@pytest.fixture
def edge() -> Edge:
    return Edge(Bus()).start()


# -- publishing ----------------------------------------------------------------------------------


def test_puback_follows_the_append_and_nothing_is_delivered_before_it_is_read(edge: Edge) -> None:
    subscriber, publisher = edge.connect("s", ("t", 1)), edge.connect("p")
    edge.publish(publisher, "t", b"a", b"b")
    assert edge.engine.owes_answers(publisher.session)
    edge.work()
    assert not publisher.take()
    edge.land()
    assert publisher.take() == acks(1, 2)
    assert not edge.engine.owes_answers(publisher.session)
    edge.work()
    assert not subscriber.take()
    edge.settle()
    assert subscriber.take() == [Publish("t", b"a", 1, 1), Publish("t", b"b", 1, 2)]


def test_pubacks_keep_the_order_of_publishes_over_all_partitions(edge: Edge) -> None:
    publisher = edge.connect("p")
    topics = [topic_in(edge.messages, partition) for partition in range(3)]
    for packet_id, topic in enumerate(topics, 1):
        edge.publish(publisher, topic, b"x", first_id=packet_id)
    edge.engine.appended(edge.messages.land(2))
    edge.engine.appended(edge.messages.land(1))
    assert not publisher.take(), "partition 0 holds the others back"
    edge.engine.appended(edge.messages.land(0))
    assert publisher.take() == acks(1, 2, 3)


def test_own_runs_are_delivered_as_they_came(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    subscriber, publisher = edge.connect("s", ("t", 0)), edge.connect("p")
    forwarded: list[MessageRun] = []
    monkeypatch.setattr(subscriber, "forward", forwarded.append)
    monkeypatch.delattr(ring.RingEntry, "record")  # nothing is decoded
    run = MessageRun(b"t", 0, False, b"abc", (), (0, 1, 2), (1, 2, 3))
    edge.engine.publish(publisher.session, run, edge.wall_ms)
    edge.settle()
    assert forwarded == [run]
    assert edge.engine.own.size == 0


def test_own_runs_that_are_read_in_parts_come_whole_and_in_order(edge: Edge) -> None:
    subscriber, publisher = edge.connect("s", ("t", 1)), edge.connect("p")
    edge.publish(publisher, "t", b"a", b"b", b"c", b"d")
    edge.land()
    partition = edge.messages.partition_of("t")
    got: list[bytes] = []
    for limit in (1, 2, 1):
        edge.read_some("messages", partition, limit)
        edge.work()
        got += subscriber.payloads()
    assert got == [b"a", b"b", b"c", b"d"]
    assert edge.engine.own.size == 0


def test_messages_of_others_between_own_ones_keep_the_order_of_the_log(edge: Edge) -> None:
    subscriber, publisher = edge.connect("s", ("t", 0)), edge.connect("p")
    for number in range(3):
        edge.publish(publisher, "t", b"own %d" % number, qos=0)
        edge.land()
        write(edge, "t", strange_message("t", b"other %d" % number))
    edge.settle()
    assert subscriber.payloads() == [
        b"own 0", b"other 0", b"own 1", b"other 1", b"own 2", b"other 2",
    ]  # fmt: skip


def test_what_nobody_here_wants_is_not_decoded(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    subscriber = edge.connect("s", ("other", 0))
    monkeypatch.delattr(ring.RingEntry, "record")
    write(edge, "t", strange_message("t", b"x"))
    edge.settle()
    edge.engine.unsubscribe(subscriber.session, ["other"])
    write(edge, "other", strange_message("other", b"y"))
    edge.settle()


def test_neighbours_on_one_topic_from_another_edge_are_one_run(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscriber = edge.connect("s", ("t", 0))
    forwarded: list[MessageRun] = []
    monkeypatch.setattr(subscriber, "forward", forwarded.append)
    write(edge, "t", *(strange_message("t", payload) for payload in (b"a", b"b", b"c")))
    write(edge, "t", strange_message("t", b"d", qos=0))
    edge.settle()
    assert [run.payloads for run in forwarded] == [[b"a", b"b", b"c"], [b"d"]]


def test_a_message_reaches_subscribers_of_all_edges_once() -> None:
    _, here, there = two_edges()
    near, far = here.connect("near", ("t/#", 2)), there.connect("far", ("+", 1), ("t", 0))
    publisher = here.connect("p")
    here.publish(publisher, "t", b"x", qos=2)
    here.settle()
    there.settle()
    assert near.take() == [Publish("t", b"x", 2, 1)]
    assert far.take() == [Publish("t", b"x", 1, 1)]


def test_a_doubled_append_is_delivered_once(edge: Edge) -> None:
    subscriber, publisher = edge.connect("s", ("t", 0)), edge.connect("p")
    edge.publish(publisher, "t", b"a", b"b", qos=0)
    edge.engine.appended(edge.messages.land(edge.messages.partition_of("t"), doubled=True))
    edge.settle()
    assert subscriber.payloads() == [b"a", b"b"]


def test_a_refused_run_closes_its_publisher_and_is_not_waited_for(edge: Edge) -> None:
    subscriber = edge.connect("s", ("t", 0))
    first, second = edge.connect("p1"), edge.connect("p2")
    edge.publish(first, "t", b"lost")
    edge.engine.refused(edge.messages.refuse(edge.messages.partition_of("t")))
    assert first.take() == [Closed(CloseReason.APPEND_REFUSED)]
    edge.publish(second, "t", b"next")
    edge.settle()
    assert subscriber.payloads() == [b"next"]
    assert edge.engine.own.size == 0


@pytest.mark.parametrize("qos", [0, 1])
def test_a_refused_run_holds_nobody_though_nothing_follows_it(qos: int) -> None:
    edge = Edge(Bus(), with_hold(backlog_size_max=3_000)).start()
    publisher, waiting = edge.connect("p"), edge.connect("waits")
    partition = edge.messages.partition_of("t")
    edge.publish(waiting, "t", b"first")
    edge.publish(publisher, "t", bytes(4_000), qos=qos)
    edge.publish(waiting, "t", b"last", first_id=2)
    assert waiting.holds == 1
    edge.engine.appended(edge.messages.land(partition))
    edge.engine.refused(edge.messages.refuse(partition))
    assert publisher.take()[-1] == Closed(CloseReason.APPEND_REFUSED)
    edge.settle()
    assert waiting.holds == 0
    assert waiting.take() == acks(1, 2)
    assert edge.engine.own.size == 0


def test_a_refused_run_that_stands_all_the_same_is_delivered(edge: Edge) -> None:
    subscriber, publisher = edge.connect("s", ("t", 0)), edge.connect("p")
    edge.publish(publisher, "t", b"unknown")
    partition = edge.messages.partition_of("t")
    edge.engine.refused(edge.messages.refuse(partition, stands=True))
    edge.settle()
    assert subscriber.payloads() == [b"unknown"]


def test_qos_2_is_answered_after_the_append_and_entered_once(edge: Edge) -> None:
    subscriber, publisher = edge.connect("s", ("t", 0)), edge.connect("p")
    edge.publish(publisher, "t", b"x", qos=2, first_id=7)
    edge.publish(publisher, "t", b"x", qos=2, first_id=7)
    assert not publisher.take()
    edge.settle()
    assert publisher.take() == [Told(Answer.PUBREC, 7), Told(Answer.PUBREC, 7)]
    edge.engine.release(publisher.session, [7])
    assert publisher.take() == [Told(Answer.PUBCOMP, 7)]
    edge.publish(publisher, "t", b"y", qos=2, first_id=7)
    edge.settle()
    assert subscriber.payloads() == [b"x", b"y"]
    assert edge.counters.duplicates_ignored == 1


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_brokers_own_topics_are_acknowledged_and_ignored(edge: Edge, qos: int) -> None:
    subscriber, publisher = edge.connect("s", ("$SYS/#", 0)), edge.connect("p")
    edge.publish(publisher, "$SYS/x", b"mine", qos=qos)
    edge.settle()
    assert not subscriber.publishes()
    assert edge.counters.dropped[DropReason.TOPIC_NOT_WRITABLE] == 1
    assert len(publisher.take()) == (qos > 0)


def test_what_another_process_wrote_to_our_own_topics_reaches_nobody(edge: Edge) -> None:
    subscriber = edge.connect("s", ("$SYS/#", 0))
    write(edge, "$SYS/x", strange_message("$SYS/x", b"theirs"))
    edge.settle()
    assert not subscriber.publishes()
    assert edge.counters.records_unreadable == 1


def test_system_messages_go_to_subscribers_here_alone() -> None:
    _, here, there = two_edges()
    near, far = here.connect("near", ("$SYS/#", 0)), there.connect("far", ("$SYS/#", 0))
    assert here.engine.publish_system(MessageRun.single(b"$SYS/x", b"1", 0)) == 1
    here.settle()
    there.settle()
    assert near.payloads() == [b"1"]
    assert not far.publishes()


# -- a SUBSCRIBE behind what was published here --------------------------------------------------


def test_a_subscribe_waits_until_what_was_published_here_is_read_back(edge: Edge) -> None:
    publisher, subscriber = edge.connect("p"), edge.connect("s")
    topics = [topic_in(edge.messages, partition) for partition in (0, 1)]
    for topic in topics:
        edge.publish(publisher, topic, b"before", qos=0)
    assert edge.engine.holds_subscribe(subscriber.session)
    assert subscriber.holds == 1
    edge.publish(publisher, topics[0], b"after", qos=0)
    for partition in (0, 1):
        assert subscriber.holds == 1
        edge.engine.appended(edge.messages.land(partition))
        edge.read()
        edge.work()
    assert subscriber.holds == 0
    assert not edge.engine.holds_subscribe(subscriber.session), "it has waited"
    edge.subscribe(subscriber, 1, ("#", 0))
    edge.settle()
    assert subscriber.payloads() == [b"after"]


def test_a_subscribe_waits_for_nothing_where_nothing_is_under_way(edge: Edge) -> None:
    subscriber = edge.connect("s")
    assert not edge.engine.holds_subscribe(subscriber.session)
    assert subscriber.holds == 0


def test_a_partition_that_stands_still_keeps_nobody_from_subscribing_for_long(edge: Edge) -> None:
    publisher, subscriber, gone = (edge.connect(name) for name in ("p", "s", "gone"))
    edge.publish(publisher, "t", b"stuck")
    assert edge.engine.holds_subscribe(subscriber.session)
    assert edge.engine.holds_subscribe(gone.session)
    edge.drop(gone)
    edge.tick(0.5)
    assert subscriber.holds == 1
    edge.tick(1.0)
    assert subscriber.holds == 0
    assert not edge.engine.holds_subscribe(subscriber.session)
    assert gone.holds == 1


def test_a_refused_run_keeps_no_subscribe_waiting(edge: Edge) -> None:
    publisher, subscriber = edge.connect("p"), edge.connect("s")
    edge.publish(publisher, "t", b"lost")
    assert edge.engine.holds_subscribe(subscriber.session)
    edge.engine.refused(edge.messages.refuse(edge.messages.partition_of("t")))
    edge.work()
    assert subscriber.holds == 0


# -- bounds --------------------------------------------------------------------------------------


def test_a_full_partition_holds_those_who_publish_to_it(edge: Edge) -> None:
    full, free = (topic_in(edge.messages, partition) for partition in (0, 1))
    owed, other = edge.connect("owed"), edge.connect("other")
    edge.messages.full.add(0)
    edge.publish(owed, full, b"x")
    edge.publish(other, free, b"x")
    assert (owed.holds, other.holds) == (1, 0)
    assert edge.engine.unready() == ["Kafka takes nothing in partition 0"]
    edge.messages.full.clear()
    edge.engine.room(0)
    assert owed.holds == 0
    edge.settle()
    assert owed.take() == acks(1)


def test_where_nothing_gets_through_qos_0_is_dropped_and_only_who_is_owed_is_held(
    edge: Edge,
) -> None:
    stuck, free = (topic_in(edge.messages, partition) for partition in (0, 1))
    owed, sensor = edge.connect("owed"), edge.connect("sensor")
    edge.messages.full.add(0)
    edge.publish(owed, stuck, b"x")
    edge.publish(sensor, stuck, b"x", qos=0)
    assert (owed.holds, sensor.holds) == (1, 1), "it may be full of too much"
    edge.messages.stuck.add(0)
    edge.tick()
    assert (owed.holds, sensor.holds) == (0, 0)
    edge.publish(owed, stuck, b"x", first_id=2)
    edge.publish(sensor, stuck, b"x", b"y", qos=0)
    edge.publish(sensor, free, b"x", qos=0)
    assert (owed.holds, sensor.holds) == (1, 0)
    assert edge.counters.dropped[DropReason.LOG_FULL] == 2
    edge.tick()
    assert owed.holds == 1, "it is held until there is room"
    edge.messages.full.clear()
    edge.messages.stuck.clear()
    edge.engine.room(0)
    assert owed.holds == 0
    edge.publish(sensor, stuck, b"x", qos=0)
    assert edge.counters.dropped[DropReason.LOG_FULL] == 2


def test_what_waits_for_a_full_partition_holds_no_publisher_of_another() -> None:
    edge = Edge(Bus(), with_hold(backlog_size_max=3_000)).start()
    full, free = (topic_in(edge.messages, partition) for partition in (0, 1))
    owed, other = edge.connect("owed"), edge.connect("other")
    edge.messages.full.add(0)
    edge.publish(owed, full, bytes(10_000))
    edge.publish(other, free, b"x")
    assert (owed.holds, other.holds) == (1, 0)
    assert edge.engine.refusal("c", clean=True) is None
    edge.publish(other, free, bytes(3_000))
    assert other.holds == 1, "this is much by itself"


def test_publishers_are_held_while_much_of_theirs_is_not_read_back() -> None:
    edge = Edge(Bus(), with_hold(backlog_size_max=3_000)).start()
    publisher, latecomer = edge.connect("p"), edge.connect("late")
    edge.publish(publisher, "t", bytes(4_000))
    assert publisher.holds == 1
    edge.publish(latecomer, "t", b"x", qos=0)
    assert edge.counters.dropped[DropReason.LOG_FULL] == 1, "QoS 0 is dropped, and counted"
    edge.publish(latecomer, "t", bytes(3_000))
    assert edge.engine.refusal("c", clean=True) is not None
    edge.settle()
    assert (publisher.holds, latecomer.holds) == (0, 0)
    assert edge.engine.refusal("c", clean=True) is None


def test_a_slow_subscriber_holds_publishers_here_and_is_closed_at_last() -> None:
    edge = Edge(Bus(), replace(with_hold(pending_max=5), in_flight_max=1)).start()
    subscriber, publisher = edge.connect("s", ("t", 1)), edge.connect("p")
    edge.publish(publisher, "t", *[b"x"] * 10)
    edge.settle()
    assert publisher.holds == 1
    edge.tick()
    edge.tick(3)
    edge.settle()
    assert not [said for said in subscriber.take() if isinstance(said, Closed)]
    edge.tick(3)
    assert subscriber.take() == [Closed(CloseReason.SLOW_CONSUMER)]
    assert publisher.holds == 0
    assert edge.counters.dropped[DropReason.SLOW_CONSUMER] == 10


def test_a_subscriber_that_another_edge_floods_is_closed_at_once() -> None:
    edge = Edge(Bus(), replace(with_hold(pending_max=5), in_flight_max=1)).start()
    subscriber = edge.connect("s", ("t", 1))
    write(edge, "t", *[strange_message("t", b"x")] * 100)
    edge.settle()
    assert subscriber.take()[-1] == Closed(CloseReason.SLOW_CONSUMER)


def test_a_message_to_many_goes_out_in_pieces_and_those_behind_it_wait(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [edge.connect(f"s{number}", ("t", 0)) for number in range(5)]
    deliverer = edge.engine.reading._deliverer
    monkeypatch.setattr(deliverer, "deliveries_max", 2)
    publisher, late = edge.connect("p"), edge.connect("late")
    edge.publish(publisher, "t", b"a", qos=0)
    edge.publish(publisher, "t", b"b", qos=0)
    edge.land()
    edge.read()
    assert edge.engine.work()
    got = [link.payloads() for link in links]
    assert sorted(got) == [[], [], [], [b"a"], [b"a"]]
    edge.subscribe(late, 1, ("t", 0))
    late.take()
    edge.settle()
    assert [before + link.payloads() for before, link in zip(got, links, strict=True)] == [
        [b"a", b"b"]
    ] * 5
    assert late.payloads() == [b"b"], "the first was read before it subscribed"


def test_reading_is_done_in_pieces(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    subscriber = edge.connect("s", ("#", 0))
    monkeypatch.setattr(reading, "PIECE", 20)
    write(edge, "t", *(strange_message(f"t/{number}", b"x") for number in range(50)))
    edge.read()
    seen = []
    while edge.engine.work():
        seen.append(len(subscriber.publishes()))
    assert len(seen) > 5
    assert max(seen) < 10
