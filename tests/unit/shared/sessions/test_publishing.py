"""What a publisher is told, and when."""

import pytest
from tests.support.engine import Bench, run_of, session_of, subscribe_to
from tests.support.links import Publish, RecordingLink, Told

from monstermq_shared.counters import DropReason
from monstermq_shared.errors import InvalidTopic
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Answer


def test_what_causes_no_row_is_acknowledged_at_once() -> None:
    bench = Bench()
    bench.connect("s", ("t", 1), clean=True)
    publisher = bench.connect("p")
    bench.publish(publisher, "t", b"a", b"b")
    assert publisher.take() == [Told(Answer.PUBACK, 1), Told(Answer.PUBACK, 2)]


@pytest.mark.parametrize("topic", ["t", "stored/x"], ids=["row", "view"])
def test_what_causes_a_row_is_acknowledged_after_its_commit(topic: str) -> None:
    bench = Bench()
    bench.connect("s", ("t", 1))
    publisher = bench.connect("p")
    bench.publish(publisher, topic, b"a")
    assert publisher.take() == []
    bench.commit()
    assert publisher.take() == [Told(Answer.PUBACK, 1)]


def test_a_retained_message_is_acknowledged_after_its_commit_if_the_store_is_durable() -> None:
    for topic, told in (("t", []), ("volatile/t", [Told(Answer.PUBACK, 1)])):
        bench = Bench()
        publisher = bench.connect("p")
        bench.publish(publisher, topic, b"a", retain=True)
        assert publisher.take() == told


def test_a_view_of_retained_messages_makes_nothing_else_wait() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    bench.publish(publisher, "t", b"a", first_id=1)
    assert publisher.take() == [Told(Answer.PUBACK, 1)]
    assert bench.engine.journal.backlog_records == 0
    bench.publish(publisher, "t", b"a", first_id=2, retain=True)
    assert publisher.take() == []
    bench.commit()
    assert publisher.take() == [Told(Answer.PUBACK, 2)]


def test_acknowledgements_leave_in_the_order_of_the_publishes() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    bench.publish(publisher, "stored/x", b"a", first_id=5)
    bench.publish(publisher, "t", b"b", first_id=3)
    bench.publish(publisher, "t", b"c", qos=2, first_id=4)
    assert publisher.take() == []
    bench.commit()
    assert publisher.take() == [
        Told(Answer.PUBACK, 5),
        Told(Answer.PUBACK, 3),
        Told(Answer.PUBREC, 4),
    ]


def test_what_came_during_a_commit_waits_for_the_next_one() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    bench.publish(publisher, "stored/x", b"a", first_id=1)
    turn = bench.engine.take_turn()
    assert turn is not None
    bench.publish(publisher, "stored/x", b"b", first_id=2)
    assert bench.engine.take_turn() is None
    bench.engine.committed(bench.disk.apply(turn))
    assert publisher.take() == [Told(Answer.PUBACK, 1)]
    bench.commit()
    assert publisher.take() == [Told(Answer.PUBACK, 2)]


def test_a_repeated_qos_2_publish_is_answered_and_not_routed_again() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2), clean=True)
    publisher = bench.connect("p")
    bench.publish(publisher, "t", b"a", b"b", qos=2)
    bench.publish(publisher, "t", b"b", b"c", qos=2, first_id=2)
    bench.commit()
    assert subscriber.payloads() == [b"a", b"b", b"c"]
    assert [told.packet_id for told in publisher.take() if isinstance(told, Told)] == [1, 2, 2, 3]
    assert bench.counters.duplicates_ignored == 1


def test_open_ids_survive_a_kill_and_pubrel_closes_them_before_pubcomp() -> None:
    bench = Bench()
    bench.publish(bench.connect("p"), "t", b"a", qos=2)
    bench.commit()
    bench = bench.killed()
    subscriber = bench.connect("s", ("t", 2), clean=True)
    publisher = bench.connect("p")
    bench.publish(publisher, "t", b"a", qos=2)
    bench.commit()
    assert subscriber.payloads() == []
    assert publisher.take() == [Told(Answer.PUBREC, 1)]
    bench.engine.release(session_of(publisher), [1])
    assert publisher.take() == []
    bench.commit()
    assert publisher.take() == [Told(Answer.PUBCOMP, 1)]
    assert not bench.disk.client("p").open_ids


def test_pubrel_for_an_id_that_is_not_open_is_answered() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    bench.engine.release(session_of(publisher), [4])
    assert publisher.take() == [Told(Answer.PUBCOMP, 4)]


def test_an_invalid_topic_opens_no_id() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    with pytest.raises(InvalidTopic):
        bench.publish(publisher, "a/+", b"x", qos=2)
    assert not session_of(publisher).open_ids


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_clients_publish_to_system_topics_is_acknowledged_and_ignored(qos: int) -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("$SYS/#", 2))
    publisher = bench.connect("p", clean=True)
    before = bench.engine.journal.log.next_offset
    bench.publish(publisher, "$SYS/uptime", b"x", qos=qos, retain=True)
    assert [told.packet_id for told in publisher.take() if isinstance(told, Told)] == [1][:qos]
    bench.settle()
    assert subscriber.take() == []
    assert bench.counters.dropped[DropReason.TOPIC_NOT_WRITABLE] == 1
    assert bench.engine.journal.log.next_offset == before
    assert not bench.disk.retained


def test_system_messages_reach_connected_subscribers_without_a_position() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("$SYS/#", 2))
    bench.drop(bench.connect("away", ("$SYS/#", 2)))
    bench.settle()
    before = bench.engine.journal.log.next_offset
    bench.engine.publish_system(MessageRun.single(b"$SYS/uptime", b"5", 0))
    assert subscriber.take() == [Publish("$SYS/uptime", b"5")]
    assert bench.engine.journal.log.next_offset == before
    assert bench.engine.take_turn() is None


def test_a_qos_0_run_costs_no_record_unless_a_view_wants_it() -> None:
    bench = Bench()
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"a", qos=0)
    assert bench.engine.take_turn() is None
    bench.publish(publisher, "stored/x", b"a", b"b", qos=0)
    turn = bench.engine.take_turn()
    assert turn is not None
    assert [record.payload for record in turn.records] == [b"a", b"b"]
    first, second = (record.offset for record in turn.records)
    assert second == first + 1


def test_overlapping_subscriptions_deliver_once_at_the_highest_qos() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("a/#", 0), ("a/+", 2), ("a/b", 1), clean=True)
    bench.publish(bench.connect("p", clean=True), "a/b", b"x", qos=2)
    assert subscriber.take() == [Publish("a/b", b"x", 2, 1)]


def test_a_bridge_does_not_get_back_what_it_publishes() -> None:
    bench = Bench()
    bridge = bench.attach("b", clean=True, link=RecordingLink(is_bridge=True))
    subscribe_to(bench.engine, session_of(bridge), 1, [("#", 1)])
    other = bench.connect("s", ("#", 1), clean=True)
    bridge.take()
    bench.publish(bridge, "t", b"x", qos=1)
    bench.publish(bridge, "t", b"y", qos=0)
    assert bridge.publishes() == []
    assert other.payloads() == [b"x", b"y"]


def test_an_offset_of_an_earlier_run_is_never_used_again() -> None:
    bench = Bench()
    bench.publish(bench.connect("p", clean=True), "stored/x", b"seen elsewhere", qos=0)
    seen = bench.engine.journal.log.next_offset
    after = bench.killed()
    run = run_of("t", [b"x"], 0)
    after.engine.publish(session_of(after.connect("p", clean=True)), run, 0)
    assert run.first_offset > seen
