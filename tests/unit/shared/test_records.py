"""The bus record: round trips, the promised JSON, and its schema."""

import base64
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.errors import InvalidRecord
from monstermq_shared.records import (
    CONTROL_TOPIC,
    SESSION_TOPIC,
    ControlRecord,
    Record,
    StampedRecord,
    decode_record,
    encode_record,
    format_timestamp,
    parse_timestamp,
    uuid7,
)

SCHEMA = json.loads((Path(__file__).parents[3] / "schemas/bus-record.v1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TOPICS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=40
)
RECORDS = st.builds(
    Record,
    TOPICS,
    st.binary(max_size=100) | TEXTS.map(str.encode),
    st.integers(0, 2),
    st.booleans(),
    TEXTS,
    st.integers(0, LAST_MS),
    st.integers(0, 2**62),
)


def a_record(payload: bytes = b"23.5") -> Record:
    return Record("sensors/temperature/room1", payload, 1, False, "sensor-001", 1705314600000, 7)


@given(RECORDS)
def test_what_is_encoded_decodes_to_an_equal_record_with_the_same_id(record: Record) -> None:
    decoded = decode_record(encode_record(record), offset=record.offset)
    assert decoded == record
    assert decoded.id == record.id


@given(RECORDS)
def test_what_is_encoded_satisfies_the_schema(record: Record) -> None:
    VALIDATOR.validate(json.loads(encode_record(record)))


def test_the_schema_is_a_schema_and_its_examples_satisfy_it_and_decode() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for example in SCHEMA["examples"]:
        VALIDATOR.validate(example)
        decode_record(json.dumps(example).encode(), offset=0)


def test_a_text_payload_is_written_as_the_readme_promises() -> None:
    record = a_record()
    assert json.loads(encode_record(record)) == {
        "topic": "sensors/temperature/room1",
        "payload": "23.5",
        "timestamp": "2024-01-15T10:30:00.000Z",
        "qos": 1,
        "retained": False,
        "clientId": "sensor-001",
        "id": record.id,
    }


def test_the_readmes_own_example_without_an_id_decodes() -> None:
    line = (
        b'{"topic": "sensors/temperature/room1", "payload": "23.5",'
        b' "timestamp": "2024-01-15T10:30:00Z", "qos": 1, "retained": false,'
        b' "clientId": "sensor-001"}'
    )
    assert decode_record(line, offset=7) == a_record()


@pytest.mark.parametrize("payload", [b"\xff\xd8\xff", b"\xed\xa0\x80", b"ok\x80"])
def test_a_payload_that_is_not_utf8_is_base64_and_nothing_else(payload: bytes) -> None:
    members = json.loads(encode_record(a_record(payload)))
    assert "payload" not in members
    assert base64.b64decode(members["payloadBase64"]) == payload
    assert decode_record(json.dumps(members).encode(), offset=7).payload == payload


@pytest.mark.parametrize(
    "payload", [b"", b"a\0bcdefghijklmnop", b'{"a": 1}', "\ufeffÄ€😀".encode(), b"x" * 100_000]
)
def test_a_payload_that_is_utf8_is_kept_to_the_byte(payload: bytes) -> None:
    data = encode_record(a_record(payload))
    assert "payloadBase64" not in json.loads(data)
    assert decode_record(data, offset=7).payload == payload


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"", "payload"),
        (b"\0", "payloadBase64"),  # 6 bytes escaped, 4 in base64
        (b"\1\1\1xxxxxxxxxxxx", "payloadBase64"),
        (b"\1xxxxxxxxxxxxxx", "payload"),  # 20 bytes in either
        (b'""', "payload"),
        (b"\n" * 100, "payloadBase64"),
    ],
)
def test_a_text_whose_escapes_make_it_longer_than_base64_is_base64(
    payload: bytes, name: str
) -> None:
    data = encode_record(a_record(payload))
    assert name in json.loads(data)
    VALIDATOR.validate(json.loads(data))
    assert decode_record(data, offset=7).payload == payload


@pytest.mark.parametrize("topic", [CONTROL_TOPIC, SESSION_TOPIC])
def test_a_control_record_comes_back_and_satisfies_the_schema(topic: str) -> None:
    record = ControlRecord(topic, b'{"v":1,"facts":[]}', 1_768_473_000_123, 7, 3)
    data = encode_record(record)
    VALIDATOR.validate(json.loads(data))
    assert [*json.loads(data)] == ["topic", "timestamp", "control"]
    decoded = decode_record(data, offset=7, kind=3)
    assert decoded == record
    assert isinstance(decoded, ControlRecord)
    assert decoded.kind == 3
    assert isinstance(decode_record(data, offset=7), ControlRecord)


def test_a_stamped_record_comes_back_and_satisfies_the_schema() -> None:
    record = StampedRecord(a_record(), 7, 4711)
    data = encode_record(record)
    VALIDATOR.validate(json.loads(data))
    decoded = decode_record(data, offset=7)
    assert isinstance(decoded, StampedRecord)
    assert (decoded.packet_id, decoded.epoch, decoded.id) == (7, 4711, record.id)
    assert decoded == record


def test_a_record_is_what_its_header_says_or_refused() -> None:
    message = encode_record(a_record())
    control = encode_record(ControlRecord(CONTROL_TOPIC, b"{}", 0, 0))
    with pytest.raises(InvalidRecord):
        decode_record(message, offset=0, kind=1)
    with pytest.raises(InvalidRecord):
        decode_record(control, offset=0, kind=0)
    with pytest.raises(InvalidRecord):
        decode_record(control.replace(b"bus/control", b"bus/elsewhere"), offset=0)


def test_the_time_of_the_log_is_that_of_the_record_unless_somebody_else_wrote_it() -> None:
    data = encode_record(a_record())
    written_ms = a_record().timestamp_ms
    assert decode_record(data, offset=0, timestamp_ms=written_ms).timestamp_ms == written_ms
    assert decode_record(data, offset=0, timestamp_ms=5).timestamp_ms == written_ms


def test_members_nobody_knows_yet_are_ignored() -> None:
    members = json.loads(encode_record(a_record()))
    members |= {"session": "s", "properties": {"a": [1]}, "expiresAt": None}
    VALIDATOR.validate(members)
    assert decode_record(json.dumps(members).encode(), offset=7) == a_record()


@pytest.mark.parametrize("member", ["topic", "payload", "timestamp", "qos", "retained", "clientId"])
def test_a_record_without_a_required_member_is_refused(member: str) -> None:
    members = json.loads(encode_record(a_record()))
    del members[member]
    with pytest.raises(InvalidRecord):
        decode_record(json.dumps(members).encode(), offset=0)


@pytest.mark.parametrize(
    "change",
    [
        {"payload": 5},
        {"payload": None},
        {"payload": None, "payloadBase64": "***"},
        {"timestamp": "yesterday"},
        {"timestamp": "2024-01-15T10:30:00"},
        {"timestamp": 5},
        {"qos": 3},
        {"qos": "1"},
        {"qos": []},
        {"qos": True},
        {"qos": 1.0},
        {"topic": 5},
        {"topic": None},
        {"retained": 0},
        {"retained": None},
        {"clientId": None},
        {"id": 5},
        {"payloadBase64": None},
        {"payloadBase64": "AAAA"},
        {"control": "{}"},
        {"packetId": 1, "epoch": "2"},
        {"packetId": None, "epoch": 2},
        {"packetId": 0, "epoch": 2},
        {"packetId": 65_536, "epoch": 2},
        {"packetId": 1, "epoch": 2**63},
        {"timestamp": "0001-01-01T00:00:00+23:59"},
    ],
)
def test_a_record_with_a_wrong_member_is_refused(change: dict[str, object]) -> None:
    members = json.loads(encode_record(a_record())) | change
    with pytest.raises(InvalidRecord):
        decode_record(json.dumps(members).encode(), offset=0)


@given(st.binary(max_size=60) | st.from_regex(rb'[\[{"0-9a-z:,\]}]{0,30}', fullmatch=True))
def test_bytes_that_are_no_record_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(InvalidRecord):
        decode_record(data, offset=0)


@given(st.integers(0, LAST_MS), st.integers(0, LAST_MS))
def test_the_order_of_timestamps_is_the_order_of_their_texts(first: int, second: int) -> None:
    assert parse_timestamp(format_timestamp(first)) == first
    assert (first < second) == (format_timestamp(first) < format_timestamp(second))


def test_an_id_is_a_version_7_uuid_of_its_millisecond_and_stays_the_same() -> None:
    record = a_record()
    assert record.id == record.id
    assert int(record.id.replace("-", "")[:12], 16) == record.timestamp_ms
    assert record.id[14] == "7"
    assert record.id[19] in "89ab"
    assert uuid7(1) != uuid7(1)


def test_records_differ_where_any_member_differs_and_equal_nothing_else() -> None:
    assert a_record() != a_record(b"24")
    assert a_record() != "a record"
    assert "4 bytes" in repr(a_record())
