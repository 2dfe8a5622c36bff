"""The JSON of archived records is that of the bus."""

from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.records import Record, StampedRecord, encode_record
from monstermq_shared.stores.kafka import encoding
from monstermq_shared.stores.kafka.encoding import Encoder, topic_text

TEXTS = st.text(max_size=20)


@st.composite
def records(draw: st.DrawFn) -> Record:
    return Record(
        draw(TEXTS.filter(bool)),
        draw(st.binary(max_size=40) | TEXTS.map(str.encode)),
        draw(st.integers(0, 2)),
        draw(st.booleans()),
        draw(TEXTS),
        draw(st.integers(0, 253_402_300_799_999)),
        0,
    )


@given(st.lists(records(), max_size=10))
def test_it_is_what_the_bus_has(given: list[Record]) -> None:
    encoder = Encoder()
    for record in given:
        assert encoder.encode(record, topic_text(record.topic)) == encode_record(record)


def test_what_only_the_bus_needs_is_left_out() -> None:
    record = Record("t", b"p", 2, False, "c", 1, 0)
    stamped = StampedRecord(record, packet_id=7, epoch=9)
    assert Encoder().encode(stamped, topic_text("t")) == encode_record(record)


def test_clients_are_not_remembered_for_ever() -> None:
    encoder = Encoder()
    for number in range(encoding.CLIENTS_MAX + 10):
        encoder.encode(Record("t", b"", 0, False, f"c{number}", 1, 0), b"")
    encoder.encode(Record("t", b"", 0, False, "c" * encoding.TEXT_SIZE_MAX, 1, 0), b"")
    assert len(encoder._clients) == 10
