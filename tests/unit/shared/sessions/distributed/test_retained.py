"""What is retained, over all partitions: rows, and what they do not show yet (V2)."""

from dataclasses import replace

import pytest
from aiokafka.structs import ConsumerRecord
from tests.support.edges import SETTINGS, Bus, Edge, topic_in
from tests.support.links import Publish, RecordingLink, Suback

from monstermq_shared.bus.header import RETAIN
from monstermq_shared.bus.kafka.entries import KafkaEntry
from monstermq_shared.bus.ring import RingEntry
from monstermq_shared.counters import Counters
from monstermq_shared.records import ControlRecord, Record
from monstermq_shared.sessions.distributed import overlay
from monstermq_shared.sessions.distributed.overlay import ENTRY_OVERHEAD, BusOverlay


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def edge(bus: Bus) -> Edge:
    return Edge(bus).start()


def retain(edge: Edge, publisher: RecordingLink, topic: str, payload: bytes, qos: int = 1) -> None:
    edge.publish(publisher, topic, payload, qos=qos, retain=True)
    edge.land()
    edge.read()
    edge.work()


def replayed(edge: Edge, link: RecordingLink, topic_filter: str, qos: int = 0) -> dict[str, bytes]:
    """Subscribe; return what is replayed."""
    edge.subscribe(link, 7, (topic_filter, qos))
    edge.settle()
    return {said.topic: said.payload for said in link.publishes() if said.retain}


def test_rows_and_what_they_do_not_show_are_one(bus: Bus, edge: Edge) -> None:
    publisher = edge.connect("p")
    topics = {name: topic_in(edge.messages, at, name) for at, name in enumerate(("a", "b", "c"))}
    for topic in topics.values():
        retain(edge, publisher, topic, b"old")
    bus.project()
    retain(edge, publisher, topics["a"], b"new")
    retain(edge, publisher, topics["b"], b"")
    retain(edge, publisher, "fresh", b"new", qos=0)
    subscriber = edge.connect("s")
    assert replayed(edge, subscriber, "#") == {
        topics["a"]: b"new",
        topics["c"]: b"old",
        "fresh": b"new",
    }


def test_copies_come_after_suback_with_the_lower_qos_and_the_retain_flag(edge: Edge) -> None:
    publisher, subscriber = edge.connect("p"), edge.connect("s")
    retain(edge, publisher, "t", b"x", qos=2)
    edge.subscribe(subscriber, 7, ("t", 1))
    edge.settle()
    assert subscriber.take() == [Suback(7, (1,)), Publish("t", b"x", 1, 1, retain=True)]


def test_what_another_edge_retained_is_there_too(bus: Bus, edge: Edge) -> None:
    other = Edge(bus).start()
    retain(other, other.connect("p"), "t", b"x")
    edge.settle()
    assert replayed(edge, edge.connect("s"), "+") == {"t": b"x"}


def test_what_is_delivered_live_is_not_replayed(bus: Bus, edge: Edge) -> None:
    publisher, subscriber = edge.connect("p"), edge.connect("s")
    retain(edge, publisher, "t", b"old")
    bus.project()
    edge.settle()
    edge.subscribe(subscriber, 7, ("#", 0))
    edge.work()  # the page is asked for
    retain(edge, publisher, "t", b"live")
    assert subscriber.publishes() == [Publish("t", b"live")]
    assert edge.answer_reads() == 1
    assert not subscriber.publishes(), "the row is older than what came live"


def test_rows_beyond_the_read_position_are_left_to_live_delivery(bus: Bus, edge: Edge) -> None:
    publisher, subscriber = edge.connect("p"), edge.connect("s")
    edge.publish(publisher, "t", b"x", retain=True)
    edge.land()
    bus.project()  # the projector is ahead of this edge
    edge.subscribe(subscriber, 7, ("t", 0))
    edge.work()
    edge.answer_reads()
    edge.work()
    edge.answer_reads()
    assert not subscriber.publishes()
    edge.settle()
    assert subscriber.publishes() == [Publish("t", b"x")]


def test_system_values_are_replayed(edge: Edge) -> None:
    edge.system_values = {"$SYS/x": b"1"}
    assert replayed(edge, edge.connect("s"), "$SYS/#") == {"$SYS/x": b"1"}


def test_an_overlay_over_its_bound_begins_anew_and_replays_wait_for_the_table(bus: Bus) -> None:
    bound = 3 * (ENTRY_OVERHEAD + 10)
    edge = Edge(bus, replace(SETTINGS, overlay_size_max=bound)).start()
    publisher, subscriber = edge.connect("p"), edge.connect("s")
    for number in range(5):
        retain(edge, publisher, f"t/{number}", b"x")
    assert edge.engine.overlay.overflows == 1
    edge.subscribe(subscriber, 7, ("t/#", 0))
    edge.settle()
    suback, *early = subscriber.take()
    assert suback == Suback(7, (0,)), "what is retained may wait, SUBACK does not"
    assert early == [Publish("t/4", b"x", retain=True)], "kept again, behind what was forgotten"
    bus.project()
    edge.settle()
    assert {said.topic for said in subscriber.publishes()} == {f"t/{n}" for n in range(4)}
    assert edge.engine.overlay.size == 0


def test_what_others_retain_counts_with_its_size_though_nobody_here_wants_it(bus: Bus) -> None:
    edge = Edge(bus, replace(SETTINGS, overlay_size_max=100_000)).start()
    other = Edge(bus).start()
    publisher = other.connect("p")
    for number in range(20):
        retain(other, publisher, f"t/{number}", bytes(10_000))
    edge.settle()
    assert edge.engine.overlay.overflows == 2
    assert edge.engine.overlay.size < 100_000


def test_a_replay_that_waits_for_the_table_goes_with_its_client(bus: Bus) -> None:
    edge = Edge(bus, replace(SETTINGS, overlay_size_max=2 * ENTRY_OVERHEAD)).start()
    publisher, gone, there = edge.connect("p"), edge.connect("gone"), edge.connect("there")
    for number in range(2):
        retain(edge, publisher, f"t/{number}", b"x")
    edge.subscribe(gone, 7, ("#", 0))
    edge.subscribe(there, 7, ("#", 0))
    edge.settle()
    edge.drop(gone)
    edge.settle()
    edge.work()
    bus.project()
    edge.engine.reflected(bus.shown)
    assert [read.replay.session.client_id for read in edge.engine.take_reads()] == ["there"]


def test_a_page_of_a_standby_that_is_behind_is_read_again(bus: Bus, edge: Edge) -> None:
    publisher, subscriber = edge.connect("p"), edge.connect("s")
    retain(edge, publisher, "t", b"x")
    bus.project()
    edge.answer_reads()
    edge.work()  # the overlay has forgotten it
    edge.subscribe(subscriber, 7, ("#", 0))
    edge.work()
    (read,) = edge.engine.take_reads()
    edge.engine.retained_page(read, [], dict.fromkeys(bus.shown, 0))
    assert not edge.engine.take_reads()
    edge.settle()
    assert subscriber.publishes() == [Publish("t", b"x", retain=True)]


# -- the overlay alone ---------------------------------------------------------------------------


def entry(offset: int, topic: str, payload: bytes = b"x") -> RingEntry:
    record = Record(topic, payload, 1, True, "c", 0, offset)
    return RingEntry(record, b"somebody", offset)


def noted(size_max: int = 1_000_000) -> tuple[BusOverlay, Counters]:
    counters = Counters()
    of = BusOverlay(size_max, counters)
    of.begin({0: 0, 1: 0})
    return of, counters


def shown(of: BusOverlay) -> dict[str, bytes | None]:
    while of.fold():
        pass
    found, _ = of.scan("#", start="", limit=100)
    return {topic: None if record is None else record.payload for topic, record in found}


def test_it_forgets_what_the_table_shows_and_no_newer_change_of_the_topic() -> None:
    of, _ = noted()
    of.note(0, [entry(1, "a", b"1"), entry(3, "a", b"3")])
    of.note(1, [entry(2, "b", b"")])
    assert shown(of) == {"a": b"3", "b": None}
    of.reflected({0: 2, 1: 2})
    assert not of.forget()
    assert shown(of) == {"a": b"3", "b": None}
    assert len(of) == 2
    of.reflected({0: 4, 1: 3})
    of.forget()
    assert shown(of) == {}
    assert of.size == len(of) == 0


def test_what_is_not_forgotten_yet_is_not_shown() -> None:
    of, _ = noted()
    of.note(0, [entry(1, "a"), entry(2, "b")])
    assert set(shown(of)) == {"a", "b"}
    of.reflected({0: 2})
    assert set(shown(of)) == {"b"}


def test_it_forgets_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "FORGET_MAX", 2)
    of, _ = noted()
    of.note(0, [entry(offset, str(offset)) for offset in range(5)])
    of.reflected({0: 5})
    assert [of.forget() for _ in range(3)] == [True, True, False]
    assert len(of) == 0


def test_a_table_that_goes_back_below_what_was_forgotten_is_not_enough() -> None:
    of, _ = noted()
    of.note(0, [entry(1, "a")])
    of.reflected({0: 2, 1: 0})
    of.forget()
    assert of.is_complete()
    of.reflected({0: 1})
    assert not of.is_complete()
    assert not of.is_shown_by({0: 1, 1: 0})
    assert of.is_shown_by({0: 2, 1: 0})


def test_what_cannot_be_decoded_is_counted() -> None:
    of, counters = noted()
    bad = ConsumerRecord("t", 0, 1, 0, 0, b"a", b'{"topic":', None, 0, 0, ())
    of.note(0, [KafkaEntry(bad, RETAIN | 1, b"somebody", 1)])
    assert shown(of) == {}
    assert counters.records_unreadable == 1
    of.reflected({0: 2})
    of.forget()
    assert len(of) == 0


def test_control_records_are_never_retained() -> None:
    of, _ = noted()
    of.note(0, [RingEntry(ControlRecord("$SYS/bus/control", b"", 0, 1), b"somebody", 1)])
    assert shown(of) == {}
