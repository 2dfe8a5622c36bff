"""What kept sessions publish and subscribe to, over two edges: E8, E9, E10, R3, R4."""

from dataclasses import replace

import pytest
from tests.support.edges import topic_in
from tests.support.kept_edges import KEPT, KeptBus, KeptEdge, kept_edges
from tests.support.links import Closed, Connack, Publish, RecordingLink, Suback, Told, Unsuback

from monstermq_shared.bus.facts import Ack, Marker, Open, Release, Subs
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.sessions.ports import SUBSCRIPTION_REFUSED, Answer

PARTITIONS = 3
PUBREC, PUBREL, PUBCOMP = (Told(kind, 1) for kind in (Answer.PUBREC, Answer.PUBREL, Answer.PUBCOMP))

Edges = tuple[KeptBus, KeptEdge, KeptEdge]


@pytest.fixture
def edges() -> Edges:
    return kept_edges()


def release(edge: KeptEdge, link: RecordingLink, *packet_ids: int) -> None:
    edge.engine.release(link.session, packet_ids)


def messages_in(bus: KeptBus) -> int:
    """Return how many messages stand in the log, those that do not count included."""
    return sum(not entry.kind for entries in bus.messages.entries for entry in entries)


# -- E8 ------------------------------------------------------------------------------------------


def test_pubrec_waits_until_the_publish_is_read_back(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    first.publish(link, "t", b"x", qos=2)
    first.land()
    assert link.take() == []
    first.settle()
    assert link.take() == [PUBREC]


def test_pubcomp_waits_until_the_release_is_appended(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    first.publish(link, "t", b"x", qos=2)
    first.settle()
    link.take()
    release(first, link, 1)
    assert link.take() == []
    assert first.engine.owes_answers(link.session)
    first.land()
    assert link.take() == [PUBCOMP]
    assert not first.engine.owes_answers(link.session)


def test_an_id_that_is_open_nowhere_is_completed_at_once(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    release(first, link, 1)
    assert link.take() == [PUBCOMP]
    assert not any(isinstance(fact, Release) for fact in first.facts_of("messages"))


@pytest.mark.parametrize("moved", [True, False], ids=["another edge", "the same edge"])
def test_a_repetition_after_a_reconnect_enters_the_log_once(edges: Edges, moved: bool) -> None:
    bus, first, second = edges
    link = first.connect_kept("c")
    first.publish(link, "t", b"x", qos=2)
    first.settle()
    first.drop(link)
    first.settle()
    edge = second if moved else first
    link = edge.connect_kept("c")
    count = messages_in(bus)
    edge.publish(link, "t", b"x", qos=2)
    edge.settle()
    assert link.take() == [PUBREC]
    assert messages_in(bus) == count
    release(edge, link, 1)
    edge.settle()
    assert link.take() == [PUBCOMP]
    edge.publish(link, "t", b"new", qos=2)
    edge.settle()
    assert messages_in(bus) == count + 1


def test_a_repetition_before_the_publish_is_read_back_is_ignored(edges: Edges) -> None:
    bus, first, _ = edges
    link = first.connect_kept("c")
    count = messages_in(bus)
    first.publish(link, "t", b"x", qos=2)
    first.publish(link, "t", b"x", qos=2)
    first.settle()
    assert link.take() == [PUBREC]
    assert messages_in(bus) == count + 1


def test_an_id_may_be_used_again_before_its_release_is_read_back(edges: Edges) -> None:
    bus, first, second = edges
    link = first.connect_kept("c")
    first.publish(link, "t", b"x", qos=2)
    first.settle()
    release(first, link, 1)
    first.land()
    first.publish(link, "t", b"y", qos=2)
    first.settle()
    assert link.take() == [PUBREC, PUBCOMP, PUBREC]
    second.settle()
    # The late release of the first use has not closed the second one, at no edge.
    for edge in (first, second):
        assert len([*edge.engine.kept.inbound.openings("c", 1)]) == 1
    assert messages_in(bus) == 2


def test_what_a_dead_connection_published_reaches_nobody(edges: Edges) -> None:
    bus, first, second = edges
    watching = [edge.connect(f"w{n}", ("t", 1)) for n, edge in enumerate((first, second))]
    link = first.connect_kept("c")
    first.publish(link, "t", b"late", qos=2)
    again = second.connect_kept("c")
    second.publish(again, "t", b"late", qos=2)
    second.settle()
    assert again.take() == [PUBREC]
    count = messages_in(bus)
    first.settle()
    second.settle()
    assert messages_in(bus) == count + 1
    assert link.take() == [Closed(CloseReason.TAKEN_OVER)]
    assert [each.payloads() for each in watching] == [[b"late"]] * 2


def test_a_publish_that_does_not_count_ends_its_connection(edges: Edges) -> None:
    """Here the log of messages says so before the sessions log does."""
    _, first, second = edges
    link = first.connect_kept("c")
    first.publish(link, "t", b"x", qos=2)
    second.connect_kept("c")
    first.land()
    first.read("messages")
    first.work()
    assert link.take() == [Closed(CloseReason.TAKEN_OVER)]


def test_a_new_session_has_no_open_ids(edges: Edges) -> None:
    _, first, second = edges
    link = first.connect_kept("c")
    first.publish(link, "t", b"x", qos=2)
    first.settle()
    first.drop(first.connect("c"))
    first.settle()
    second.connect_kept("c")
    first.settle()
    for edge in (first, second):
        assert not edge.engine.kept.inbound.ids_of("c")


def test_ids_beyond_the_limit_are_passed_over_and_end_the_connection() -> None:
    bus, first, _ = kept_edges(replace(KEPT, open_ids_max=2))
    link = first.connect_kept("c")
    first.publish(link, "t", b"1", b"2", b"3", qos=2)
    first.settle()
    assert [said.packet_id for said in link.take() if isinstance(said, Told)] == [1, 2]
    assert messages_in(bus) == 2
    release(first, link, 1, 2)
    first.settle()
    for _ in range(12):
        first.tick()
    assert link.take() == [
        Told(Answer.PUBCOMP, 1),
        Told(Answer.PUBCOMP, 2),
        Closed(CloseReason.QUOTA_EXCEEDED),
    ]


def test_what_can_never_be_read_back_ends_its_publisher(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    topic = topic_in(first.messages, 1)
    first.engine.reading.stopped[1] = "stopped"
    first.publish(link, topic, b"x", qos=2)
    assert link.take() == [Closed(CloseReason.APPEND_REFUSED)]


# -- E9 ------------------------------------------------------------------------------------------


def test_qos_2_goes_out_once_its_id_is_read_back(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c", ("t", 2))
    publisher = first.connect("p")
    first.publish(publisher, "t", b"x", qos=2)
    first.land()
    first.read("messages")
    first.work()
    assert link.take() == []
    first.settle()
    assert link.take() == [Publish("t", b"x", 2, 1)]
    (opened,) = [fact for fact in first.facts_of() if isinstance(fact, Open)]
    assert opened.packet_id == 1
    first.engine.receive(link.session, [1])
    first.work()
    assert link.take() == []
    first.land()
    assert link.take() == [PUBREL]


def test_acks_of_one_turn_and_partition_are_one_fact(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c", ("t", 1))
    first.publish(first.connect("p"), "t", b"1", b"2", b"3")
    first.settle()
    for publish in link.publishes():
        first.engine.acknowledge(link.session, [publish.packet_id])
    first.drop(link)
    first.settle()
    (ack,) = [fact for fact in first.facts_of("messages") if isinstance(fact, Ack)]
    assert len(ack.offsets) == 3


# -- E10 -----------------------------------------------------------------------------------------


def test_suback_waits_for_the_fact_and_for_every_marker(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    first.subscribe(link, 7, ("a", 1))
    assert not first.messages.pending[0]
    first.engine.appended(first.facts.land(link.session.partition))
    assert not first.messages.pending[0]
    first.read("sessions")
    first.work()
    for partition in range(PARTITIONS):
        assert link.take() == []
        first.land_markers(partition)
    assert link.take() == [Suback(7, (1,))]
    (subs,) = [fact for fact in first.facts_of() if isinstance(fact, Subs)]
    assert (subs.add, subs.remove) == ((("a", 1, 0),), ())


def test_routes_change_in_each_partition_at_its_marker(edges: Edges) -> None:
    _, first, second = edges
    link = first.connect_kept("c")
    publisher = second.connect("p")
    topics = [topic_in(first.messages, partition) for partition in range(PARTITIONS)]
    first.subscribe(link, 7, ("#", 1))
    first.engine.appended(first.facts.land(link.session.partition))
    first.read("sessions")
    first.work()
    first.land_markers(1)
    # In the others the markers stand behind this.
    for topic in topics:
        second.publish(publisher, topic, topic.encode())
    second.settle()
    first.settle()
    assert [said for said in link.take() if not isinstance(said, Publish)] == [Suback(7, (1,))]
    for topic in topics:
        second.publish(publisher, topic, b"after")
    second.settle()
    first.settle()
    assert link.payloads() == [b"after"] * PARTITIONS


def test_before_its_marker_a_partition_delivers_nothing(edges: Edges) -> None:
    _, first, second = edges
    link = first.connect_kept("c")
    publisher = second.connect("p")
    topics = [topic_in(first.messages, partition) for partition in (0, 1)]
    first.subscribe(link, 7, ("#", 1))
    first.engine.appended(first.facts.land(link.session.partition))
    first.read("sessions")
    first.work()
    first.land_markers(1)
    for topic in topics:
        second.publish(publisher, topic, topic.encode())
    second.settle()
    first.read("messages")
    first.work()
    assert link.payloads() == [topics[1].encode()]


def test_unsuback_waits_for_every_marker_and_then_nothing_comes(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c", ("a", 1))
    first.engine.unsubscribe(link.session, ["a", "unknown"])
    first.engine.unsubscribed(link.session, 9)
    assert link.take() == []
    first.settle()
    assert link.take() == [Unsuback(9)]
    first.publish(first.connect("p"), "a", b"x")
    first.settle()
    assert link.take() == []
    (last,) = [f for f in first.facts_of("messages") if isinstance(f, Marker) and f.remove][:1]
    assert last.remove == ("a",)


def test_filters_beyond_what_a_record_holds_are_refused(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    # Seven bytes for each in a record.
    long = "\x01" * 30_000
    first.subscribe(link, 1, (long, 1))
    codes = first.subscribe(link, 2, ("\x02" + long, 1), ("short", 1))
    assert codes == [SUBSCRIPTION_REFUSED, 1]
    first.settle()
    assert link.take() == [Suback(1, (1,)), Suback(2, (SUBSCRIPTION_REFUSED, 1))]


def test_what_is_retained_follows_suback(edges: Edges) -> None:
    bus, first, _ = edges
    first.publish(first.connect("p"), "a", b"kept", retain=True)
    first.settle()
    bus.project()
    link = first.connect_kept("c")
    first.subscribe(link, 3, ("a", 0))
    first.settle()
    assert link.take() == [Suback(3, (0,)), Publish("a", b"kept", retain=True)]


def test_a_subscribe_that_is_fenced_changes_nothing(edges: Edges) -> None:
    _, first, second = edges
    link = first.connect_kept("c")
    first.subscribe(link, 3, ("a", 1))
    second.connect_kept("c")
    first.settle()
    assert link.take() == [Closed(CloseReason.TAKEN_OVER)]
    again = second.attach_kept("c")
    second.settle()
    assert again.take() == [Connack(session_present=True)]
    assert second.session("c").subscriptions == {}


def test_a_late_release_of_a_dead_edge_closes_no_newer_use(edges: Edges) -> None:
    bus, first, second = edges
    link = first.connect_kept("c")
    first.publish(link, "t", b"x", qos=2)
    first.settle()
    release(first, link, 1)
    again = second.connect_kept("c")
    release(second, again, 1)
    second.settle()
    second.publish(again, "t", b"y", qos=2)
    second.settle()
    count = messages_in(bus)
    first.land()
    second.settle()
    second.publish(again, "t", b"y", qos=2)
    second.settle()
    assert [said for said in again.take() if said == PUBREC] == [PUBREC] * 2
    assert messages_in(bus) == count


def test_pubcomp_waits_for_the_releases_of_all_partitions(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    for partition in range(2):
        first.publish(link, topic_in(first.messages, partition), b"x", qos=2)
        first.land_markers(partition)
        release(first, link, 1)
    link.take()
    first.engine.appended(first.messages.land(1))
    assert link.take() == []
    first.settle()
    assert PUBCOMP in link.take()


def test_rows_are_read_once_they_reflect_the_marker(edges: Edges) -> None:
    bus, first, second = edges
    first.drop(first.connect_kept("c", ("a", 1)))
    first.settle()
    second.claimed("c")
    for partition in range(PARTITIONS):
        second.land_markers(partition)
    assert second.engine.awaits_queues
    assert second.engine.queue_waits == dict.fromkeys(range(PARTITIONS), 1)
    ends = bus.messages.ends()
    second.engine.queues_reflected({at: end - 1 for at, end in ends.items()})
    assert second.engine.take_asks() == []
    second.engine.queues_reflected(ends)
    assert [(ask.partition, ask.before) for ask in second.engine.take_asks()] == [
        (at, end - 1) for at, end in ends.items()
    ]
    assert second.engine.queue_waits == {}
    assert not second.engine.awaits_queues
