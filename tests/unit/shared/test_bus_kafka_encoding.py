"""What runs become on Kafka: the record's JSON, written in pieces that are made once."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.bus.control import decode_facts
from monstermq_shared.bus.facts import Ack, Gap
from monstermq_shared.bus.header import Kind, unpack_header
from monstermq_shared.bus.kafka.encoding import RunEncoder
from monstermq_shared.bus.kafka.pieces import (
    ALIKE_MS,
    RUNS_SIZE_MAX,
    Batch,
    FactsPiece,
    RecordPiece,
    RunsPiece,
    count_of,
    halves,
)
from monstermq_shared.errors import BusRefused
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import (
    SESSION_TOPIC,
    ControlRecord,
    Record,
    decode_record,
    encode_record,
)

SCHEMA = json.loads((Path(__file__).parents[3] / "schemas/bus-record.v1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
NOW_MS = 1_768_473_000_123
RUN = b"the run."

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
TOPICS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=300
)
PAYLOADS = st.binary(max_size=40) | TEXTS.map(str.encode)


def a_run(topic: str, payloads: list[bytes], *, qos: int = 0, retain: bool = False) -> MessageRun:
    stops = [sum(map(len, payloads[: i + 1])) for i in range(len(payloads))]
    return MessageRun(topic.encode(), qos, retain, b"".join(payloads), (), [0, *stops[:-1]], stops)


@given(TOPICS, st.lists(PAYLOADS, min_size=1, max_size=5), st.integers(0, 2), st.booleans(), TEXTS)
def test_each_message_becomes_the_record_that_the_schema_describes(
    topic: str, payloads: list[bytes], qos: int, retain: bool, client_id: str
) -> None:
    run = a_run(topic, payloads, qos=qos, retain=retain)
    values = RunEncoder().encode(topic.encode(), run, client_id, NOW_MS)
    assert len(values) == len(payloads)
    for value, payload in zip(values, payloads, strict=True):
        VALIDATOR.validate(json.loads(value))
        record = decode_record(value, offset=0)
        assert record == Record(topic, payload, qos, retain, client_id, NOW_MS, 0)
        # Byte for byte what is written of the same record anywhere else.
        assert value == encode_record(record)


def test_ids_differ_and_grow_as_messages_are_published() -> None:
    encoder = RunEncoder()
    times_ms = [NOW_MS, NOW_MS, NOW_MS, NOW_MS + 1, NOW_MS + 2, NOW_MS + 2]
    ids = [
        decode_record(value, offset=0).id
        for time_ms in times_ms
        for value in encoder.encode(b"a", a_run("a", [b""] * 1000), "c", time_ms)
    ]
    assert ids == sorted(set(ids))


def test_what_the_run_before_had_is_not_taken_for_the_next_one() -> None:
    encoder = RunEncoder()
    for time_ms, client_id, qos, retain in [
        (NOW_MS, "c", 0, False),
        (NOW_MS, "c", 1, False),
        (NOW_MS, "c", 1, True),
        (NOW_MS, "d", 1, True),
        (NOW_MS + 1, "d", 1, True),
        (NOW_MS + 1, "d", 1, True),
    ]:
        run = a_run("a", [b"1"], qos=qos, retain=retain)
        (value,) = encoder.encode(b"a", run, client_id, time_ms)
        assert decode_record(value, offset=0) == Record(
            "a", b"1", qos, retain, client_id, time_ms, 0
        )


def test_a_clock_that_was_set_back_makes_no_id_twice() -> None:
    encoder = RunEncoder()
    ids = {
        decode_record(value, offset=0).id
        for time_ms in [NOW_MS, NOW_MS + 1] * 50
        for value in encoder.encode(b"a", a_run("a", [b""]), "c", time_ms)
    }
    assert len(ids) == 100


# -- pieces ------------------------------------------------------------------------------------


def a_piece(sequence: int, *payloads: bytes) -> RunsPiece:
    """Return a piece of one run."""
    piece = RunsPiece(NOW_MS, RUN, sequence, RunEncoder())
    piece.add(b"a", a_run("a", list(payloads)), "c", NOW_MS, None)
    return piece


def test_headers_of_a_run_count_its_sequences() -> None:
    run = a_run("a/b", [b"1", b"2"], qos=1, retain=True)
    piece = RunsPiece(NOW_MS, RUN, 7, RunEncoder())
    assert piece.add(b"a/b", run, "c", NOW_MS, "ticket") == piece.size
    fields = piece.fields()
    assert [(time_ms, key) for time_ms, key, _, _ in fields] == [(NOW_MS, b"a/b")] * 2
    for number, (_, _, _, headers) in enumerate(fields, 7):
        ((name, header),) = headers
        assert name == "m"
        assert unpack_header(header) == (0b101, RUN, number)
    assert piece.outcomes() == [("ticket", None)]


def test_what_a_piece_is_for_kafka_never_changes() -> None:
    piece = a_piece(0, b"1")
    assert piece.fields() is piece.fields()


def test_runs_follow_each_other_in_a_piece() -> None:
    piece = RunsPiece(NOW_MS, RUN, 5, RunEncoder())
    piece.add(b"a", a_run("a", [b"1", b"2"]), "c", NOW_MS, "first")
    before = piece.size
    grown = piece.add(b"b", a_run("b", [b"3"], qos=1), "d", NOW_MS + 1, None)
    assert piece.size == before + grown
    fields = piece.fields()
    assert [(time_ms, key) for time_ms, key, *_ in fields] == [
        (NOW_MS, b"a"),
        (NOW_MS, b"a"),
        (NOW_MS + 1, b"b"),
    ]
    headers = [unpack_header(headers[0][1]) for *_, headers in fields]
    assert headers == [(0, RUN, 5), (0, RUN, 6), (1, RUN, 7)]
    assert (piece.count, piece.left) == (3, 3)
    assert piece.outcomes() == [("first", None)]


def test_a_piece_takes_runs_of_about_its_own_time_until_it_is_large() -> None:
    piece = a_piece(0, b"1")
    assert piece.takes(NOW_MS)
    assert piece.takes(NOW_MS + ALIKE_MS)
    assert not piece.takes(NOW_MS - 1)
    assert not piece.takes(NOW_MS + ALIKE_MS + 1)
    piece.add(b"a", a_run("a", [bytes(RUNS_SIZE_MAX)]), "c", NOW_MS, None)
    assert not piece.takes(NOW_MS)


@pytest.mark.parametrize(
    ("first", "count", "refused", "records"),
    [(0, 1, {"a"}, 2), (1, 1, {"a"}, 2), (2, 1, {"b"}, 1), (1, 2, {"a", "b"}, 3), (3, 3, {"c"}, 3)],
)
def test_of_a_piece_only_those_runs_are_refused_of_which_kafka_refuses_a_record(
    first: int, count: int, refused: set[str], records: int
) -> None:
    piece = RunsPiece(NOW_MS, RUN, 0, RunEncoder())
    for topic, payloads in (("a", [b"1", b"2"]), ("b", [b"3"]), ("c", [b"4", b"5", b"6"])):
        piece.add(topic.encode(), a_run(topic, payloads), "client", NOW_MS, topic)
    error = BusRefused("too large")
    piece.refuse(first, count, error)
    assert piece.outcomes() == [
        (ticket, error if ticket in refused else None) for ticket in ("a", "b", "c")
    ]
    assert piece.refused_count() == records
    assert piece.error is error


def test_facts_stand_in_a_record_that_takes_more_of_them() -> None:
    piece = FactsPiece(SESSION_TOPIC, NOW_MS, RUN, 3)
    before = piece.size
    assert piece.text.add(Gap(partition=1, to=2))
    assert piece.grow() > 0
    assert piece.text.add(Gap(partition=2, to=3))
    piece.grow()
    assert piece.size > before
    ((time_ms, key, value, headers),) = piece.fields()
    assert (time_ms, key) == (NOW_MS, SESSION_TOPIC.encode())
    assert headers[1:] == [("monstermq-control", b"")]
    assert unpack_header(headers[0][1]) == (Kind.LEASE << 4, RUN, 3)
    VALIDATOR.validate(json.loads(value))
    record = decode_record(value, offset=0, kind=Kind.LEASE)
    assert decode_facts(record.payload) == [Gap(partition=1, to=2), Gap(partition=2, to=3)]


def test_a_control_record_has_its_second_header() -> None:
    text = b'{"v":1,"facts":[]}'
    piece = RecordPiece(ControlRecord(SESSION_TOPIC, text, NOW_MS, 0, Kind.FACTS), RUN, 0, None)
    (_, _, _, headers), *_ = piece.fields()
    assert [name for name, _ in headers] == ["m", "monstermq-control"]


def test_acknowledgements_alone_are_of_their_own_kind() -> None:
    piece = FactsPiece("$SYS/bus/control", NOW_MS, RUN, 0)
    assert piece.text.add(Ack(client_id="c", offsets=(1,)))
    assert piece.flags() == Kind.ACKS << 4


@pytest.mark.parametrize("sizes", [[2], [1, 1], [5], [1, 4], [4, 1], [2, 3, 2], [1] * 9])
def test_a_batch_is_halved_between_any_two_records(sizes: list[int]) -> None:
    batch: Batch = []
    for number, size in enumerate(sizes):
        payloads = [b"%d.%d" % (number, at) for at in range(size)]
        piece = a_piece(10 * number, *payloads)
        batch.append((piece, piece.fields()))
    first, second = halves(batch)
    assert count_of(first) == sum(sizes) // 2
    assert count_of(first) + count_of(second) == sum(sizes)
    together = [field for _, fields in (*first, *second) for field in fields]
    assert together == [field for _, fields in batch for field in fields]
    assert all(fields for _, fields in (*first, *second))
