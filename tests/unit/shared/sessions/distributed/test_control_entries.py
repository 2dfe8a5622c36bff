"""What an edge does with entries of the bus that are no messages, or not for it (R3, R6)."""

import pytest
from tests.support.edges import Bus, Edge, strange_message, topic_in, write
from tests.support.links import Told

from monstermq_shared.bus import ring
from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.facts import Detach, Fact, Lease, Marker
from monstermq_shared.bus.header import Kind
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, Record, StampedRecord
from monstermq_shared.sessions.ports import Answer


@pytest.fixture
def edge() -> Edge:
    return Edge(Bus()).start()


def marker(edge: Edge, epoch: int, *, text: bytes | None = None) -> ControlRecord:
    fact = Marker(client_id="kept", epoch=epoch, incarnation=0)
    payload = encode_facts([fact]).encode() if text is None else text
    return ControlRecord(CONTROL_TOPIC, payload, edge.wall_ms, 0, Kind.CONTROL)


def test_large_markers_are_read_one_by_one(edge: Edge) -> None:
    filters = tuple((f"+/{number:05}", 1, 0) for number in range(5_000))
    fact = Marker(client_id="kept", epoch=7, incarnation=0, whole=filters)
    large = ControlRecord(
        CONTROL_TOPIC, encode_facts([fact]).encode(), edge.wall_ms, 0, Kind.CONTROL
    )
    write(edge, "t", *[large] * 5)
    edge.read()
    pieces = 1
    while edge.engine.work():
        pieces += 1
    assert pieces >= 5


def test_what_a_newer_marker_fences_reaches_nobody(edge: Edge) -> None:
    subscriber = edge.connect("s", ("t", 0))

    def stamped(payload: bytes, epoch: int) -> StampedRecord:
        return StampedRecord(Record("t", payload, 2, False, "kept", edge.wall_ms, 0), 1, epoch)

    write(edge, "t", stamped(b"a", 5), marker(edge, 7), stamped(b"late", 6), stamped(b"b", 7))
    edge.settle()
    assert subscriber.payloads() == [b"a", b"b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"v":2,"facts":[]}', "version 2"),
        (b'{"v":1,"facts":[{"f":"new"}]}', "'new'"),
        (b"no json", "not a control text"),
    ],
)
def test_unknown_control_stops_its_partition_and_no_other(
    edge: Edge, text: bytes, said: str
) -> None:
    subscriber, publisher = edge.connect("s", ("#", 0)), edge.connect("p")
    topic, other = (topic_in(edge.messages, partition) for partition in (0, 1))
    write(edge, topic, strange_message(topic, b"before"), marker(edge, 1, text=text))
    write(edge, topic, strange_message(topic, b"after"))
    write(edge, other, strange_message(other, b"other"))
    edge.publish(publisher, topic, b"mine")
    edge.settle()
    assert sorted(subscriber.payloads()) == [b"before", b"other"]
    assert publisher.take() == [Told(Answer.PUBACK, 1)], "the log has it, for those who can read on"
    (reason,) = edge.engine.unready()
    assert reason.startswith("bus partition 0 stopped at offset 1: ")
    assert said in reason
    assert edge.engine.own.size == 0


@pytest.mark.parametrize(
    ("fact", "kind", "said"),
    [
        (Lease(run=b"stranger", for_ms=1), Kind.LEASE, "a record of kind 4"),
        (Detach(client_id="c", epoch=1, will=False), Kind.FACTS, "a record of kind 3"),
        (Detach(client_id="c", epoch=1, will=False), Kind.CONTROL, "a fact detach"),
    ],
)
def test_facts_of_the_sessions_log_stop_the_partition_as_they_stop_its_worker(
    edge: Edge, fact: Fact, kind: Kind, said: str
) -> None:
    text = encode_facts([fact]).encode()
    write(edge, "t", ControlRecord(CONTROL_TOPIC, text, edge.wall_ms, 0, kind))
    edge.settle()
    (reason,) = edge.engine.unready()
    assert said in reason


def test_acknowledgements_are_passed_over(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ControlRecord(CONTROL_TOPIC, b"whatever it is", edge.wall_ms, 0, Kind.ACKS)
    write(edge, "t", record)
    monkeypatch.delattr(ring.RingEntry, "record")
    edge.settle()
    assert not edge.engine.unready()


def test_topics_that_are_none_are_counted(edge: Edge) -> None:
    subscriber = edge.connect("s", ("#", 0))
    write(edge, "t", strange_message("a/+", b"x"), strange_message("t", b"y"))
    edge.settle()
    assert subscriber.payloads() == [b"y"]
    assert edge.counters.records_unreadable == 1
