"""What a reader knows of a record before it decodes it, and what it refuses to decode."""

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.bus.header import FOREIGN_FLAGS, Kind, pack_header
from monstermq_shared.bus.kafka.entries import KafkaEntry, entries_of, new_entries
from monstermq_shared.bus.kafka.pieces import KafkaFields, RecordPiece
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import InvalidRecord, UnknownFact
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, Record, StampedRecord

NOW_MS = 1_768_473_000_123
RUN = b"the run."
Headers = list[tuple[str, bytes]]


def on_kafka(fields: KafkaFields, offset: int = 5) -> ConsumerRecord:
    time_ms, key, value, headers = fields
    return ConsumerRecord("t", 0, offset, time_ms, 0, key, value, None, 0, 0, tuple(headers))


def fields_of(record: Record, sequence: int = 9) -> KafkaFields:
    return RecordPiece(record, RUN, sequence, None).fields()[0]


def a_record(topic: str = "a/ä", **members: object) -> Record:
    values = {"payload": b"1", "qos": 1, "retained": True, "client_id": "c"} | members
    return Record(topic, timestamp_ms=NOW_MS, offset=5, **values)  # type: ignore[arg-type]


def entry_of(fields: KafkaFields) -> KafkaEntry:
    (entry,) = entries_of([on_kafka(fields)])
    return entry


def test_a_message_tells_what_its_header_says() -> None:
    entry = entry_of(fields_of(a_record()))
    assert (entry.kind, entry.foreign, entry.flags) == (Kind.MESSAGE, False, 0b101)
    assert entry.stamp == (RUN, 9)
    assert (entry.offset, entry.time_ms) == (5, NOW_MS)
    assert (entry.topic, entry.key, entry.raw_key) == ("a/ä".encode(), "a/ä", "a/ä".encode())
    assert entry.record() == a_record()
    assert entry.headers[0][0] == "m"


def test_control_and_stamped_records_are_what_they_were() -> None:
    control = ControlRecord(CONTROL_TOPIC, b"{}", NOW_MS, 5, Kind.ACKS)
    found = entry_of(fields_of(control))
    assert found.kind == Kind.ACKS
    decoded = found.record()
    assert isinstance(decoded, ControlRecord)
    assert (decoded, decoded.kind) == (control, Kind.ACKS)
    stamped = entry_of(fields_of(StampedRecord(a_record(qos=2), 7, 8))).record()
    assert isinstance(stamped, StampedRecord)
    assert (stamped.packet_id, stamped.epoch) == (7, 8)


GOOD = fields_of(a_record())
HEADER = GOOD[3][0][1]
CONTROL = pack_header(Kind.CONTROL, 0, False, False, RUN, 1)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x", b"")],
        [("x", b""), ("m", HEADER)],
        [("m", b"")],
        [("m", None)],
        [("m", HEADER + b"\0")],
        [("m", b"\x80" + HEADER[1:])],
        [("m", b"\x03" + HEADER[1:])],
        [("m", CONTROL)],
        [("m", CONTROL), ("other", b"")],
    ],
)
def test_what_does_not_begin_with_our_header_is_foreign(headers: Headers) -> None:
    time_ms, key, value, _ = GOOD
    entry = entry_of((time_ms, key, value, headers))
    assert (entry.foreign, entry.kind, entry.flags) == (True, None, FOREIGN_FLAGS)
    with pytest.raises(InvalidRecord, match="header"):
        entry.record()
    assert entry.value == value


def test_a_record_of_nothing_is_foreign() -> None:
    (entry,) = entries_of([ConsumerRecord("t", 0, 5, NOW_MS, 0, None, None, None, 0, 0, ())])
    assert entry.foreign
    assert (entry.key, entry.value, entry.headers) == ("", b"", [])


def test_a_kind_of_a_later_release_stops_the_reader() -> None:
    header = b"\x50" + HEADER[1:]
    time_ms, key, value, _ = GOOD
    entry = entry_of((time_ms, key, value, [("m", header), ("monstermq-control", b"")]))
    assert (entry.foreign, entry.kind) == (False, 5)
    with pytest.raises(UnknownFact, match="kind 5"):
        entry.record()


BAD = {
    "key": (GOOD[0], b"other", GOOD[2], GOOD[3]),
    "half": (*GOOD[:2], GOOD[2][:-5], GOOD[3]),
    "empty": (*GOOD[:2], b"", GOOD[3]),
    "qos": (*GOOD[:2], GOOD[2].replace(b'"qos":1', b'"qos":2'), GOOD[3]),
    "retained": (*GOOD[:2], GOOD[2].replace(b"true", b"false"), GOOD[3]),
    "wildcard": fields_of(a_record("a/#")),
    "NUL in the topic": fields_of(a_record("a\0b")),
    "no topic": fields_of(a_record("")),
    "NUL in the client id": fields_of(a_record(client_id="a\0b")),
    "id": fields_of(a_record(record_id="5")),
    "stamped only in the header": (
        *GOOD[:3],
        [("m", pack_header(0, 1, True, True, RUN, 1))],
    ),
    "stamped only in the JSON": (
        *fields_of(StampedRecord(a_record(), 1, 2))[:3],
        GOOD[3],
    ),
    "a message of a control kind": (*GOOD[:3], [("m", CONTROL), ("monstermq-control", b"")]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_what_it_says_is_refused(name: str) -> None:
    entry = entry_of(BAD[name])
    assert not entry.foreign
    with pytest.raises(InvalidRecord):
        entry.record()


@given(
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=60),
    st.lists(st.tuples(st.sampled_from(["m", "x"]), st.none() | st.binary(max_size=20))),
)
def test_garbage_raises_nothing_else(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    source = ConsumerRecord("t", 0, 5, NOW_MS, 0, key, value, None, 0, 0, tuple(headers))
    (entry,) = entries_of([source])
    assert entry.key is not None
    with pytest.raises((InvalidRecord, UnknownFact)):
        entry.record()


def test_doubled_records_are_dropped_and_foreign_ones_stay() -> None:
    foreign = (*GOOD[:3], [("x", b"")])
    sources = [
        fields_of(a_record(), 1),
        foreign,
        fields_of(a_record(), 1),
        fields_of(a_record(), 2),
    ]
    entries = entries_of([on_kafka(fields, offset) for offset, fields in enumerate(sources)])
    assert [entry.offset for entry in new_entries(entries, Runs(1000))] == [0, 1, 3]
