"""What records of somebody else's Kafka topic mean as messages, whatever stands there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_edge.ingress.messages import Incoming, Reading, Source
from monstermq_shared.bus.publishing import PublisherLimits
from monstermq_shared.config import KafkaIngress
from monstermq_shared.errors import InvalidRecord
from monstermq_shared.queries.live import Publication

LOG = "kafka:cluster:monster"
LIMITS = PublisherLimits(levels_max=10, size_max=1_000)


def reading(**settings: Any) -> Reading:
    ingress = KafkaIngress.model_validate({"Topic": "orders", **settings})
    return Reading(ingress, LOG, LIMITS)


def source(
    value: bytes | None, key: bytes | None = b"k", headers: tuple[tuple[str, bytes], ...] = ()
) -> Source:
    return Source(3, 17, 1_768_473_000_123, key, value, headers)


def record(**members: object) -> Source:
    return source(json.dumps(members).encode())


def message(found: Incoming | None) -> tuple[str, bytes, int, bool, str]:
    assert found is not None
    at = found.publication
    return at.topic, at.payload, at.qos, at.retained, found.client_id


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"topic": "a/b", "payload": "23.5"}, ("a/b", b"23.5", 0, False, "kafka:orders")),
        (
            {
                "topic": "a",
                "payloadBase64": "/wA=",
                "qos": 2,
                "retained": True,
                "clientId": "me",
                "timestamp": "2026-01-15T10:30:00.123Z",
                "id": "x",
                "more": 1,
            },
            ("a", b"\xff\x00", 2, True, "me"),
        ),
        (
            {
                "topicName": "a",
                "payloadBase64": "MQ==",
                "qosLevel": 1,
                "isRetain": True,
                "time": "2026-01-15T10:30:00Z",
                "clientId": "",
            },
            ("a", b"1", 1, True, "kafka:orders"),
        ),
        (
            {"topic": "a", "payload": "", "qos": None, "retained": None, "clientId": None},
            ("a", b"", 0, False, "kafka:orders"),
        ),
    ],
)
def test_a_record_is_what_its_members_say(
    members: dict[str, object], expected: tuple[str, bytes, int, bool, str]
) -> None:
    assert message(reading().message_of(record(**members))) == expected


def test_the_configuration_has_the_last_word() -> None:
    rules = {"TopicFrom": "in/{key}", "QoS": 1, "Retain": False}
    found = reading(**rules).message_of(record(topic="x", payload="1", qos=2, retained=True))
    assert message(found) == ("in/k", b"1", 1, False, "kafka:orders")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, ("k", 1, False)),
        ({"QoS": 0, "Retain": True}, ("k", 0, True)),
        ({"TopicFrom": "header:place"}, ("plant/1", 1, False)),
        ({"TopicFrom": "{topic}/{partition}/{header:place}"}, ("orders/3/plant/1", 1, False)),
        ({"TopicFrom": "header:{header:place}"}, ("header:plant/1", 1, False)),
        ({"TopicFrom": "always/this"}, ("always/this", 1, False)),
    ],
)
def test_a_bare_payload_gets_its_topic_from_around_it(
    rules: dict[str, object], expected: tuple[str, int, bool]
) -> None:
    given = source(b"\x00\xff", headers=(("place", b"first"), ("place", b"plant/1")))
    topic, payload, qos, retained, _ = message(reading(Format="RAW", **rules).message_of(given))
    assert payload == b"\x00\xff"
    assert (topic, qos, retained) == expected


def test_a_tombstone_clears_what_is_retained() -> None:
    found = reading(Format="RAW", Retain=True).message_of(source(None))
    assert message(found)[1:4] == (b"", 1, True)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"payload": "1"}, "the member topic or topicName is missing"),
        ({"topic": 1, "payload": "1"}, "topic is 1, not text"),
        ({"topic": "a"}, "the member payloadBase64 or payload is missing"),
        ({"topic": "a", "payload": {"v": 1}}, "payload is {'v': 1}, not text"),
        ({"topic": "a", "payloadBase64": "%"}, "payloadBase64 is no base64"),
        ({"topic": "a", "payload": "1", "qos": 3}, "qos is 3, not 0, 1 or 2"),
        ({"topic": "a", "payload": "1", "qosLevel": True}, "qosLevel is True"),
        ({"topic": "a", "payload": "1", "isRetain": 1}, "isRetain is 1, not true or false"),
        ({"topic": "a", "payload": "1", "clientId": "a\0b"}, "clientId is none"),
        ({"topic": "a", "payload": "1", "clientId": "x" * 65_536}, "clientId is none"),
        ({"topic": "a/#", "payload": "1"}, "wildcard"),
        ({"topic": "", "payload": "1"}, "topic"),
        ({"topic": "$SYS/bus/control", "payload": "1"}, "the broker's own"),
        ({"topic": "a", "payload": "x" * 1_000}, "MaxMessageSizeKb"),
        ({"topic": "/".join("abcdefghijkl"), "payload": "1"}, "levels"),
    ],
)
def test_what_is_no_message_is_told(members: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidRecord, match=problem.replace("{", r"\{").replace("}", r"\}")):
        reading().message_of(record(**members))


@pytest.mark.parametrize(
    ("rules", "key", "problem"),
    [
        ({}, None, "the key, which makes the topic, is not there"),
        ({}, b"\xff", "the key, which makes the topic, is no UTF-8"),
        ({"TopicFrom": "header:x"}, b"k", "the header x, which makes the topic, is not there"),
        ({"TopicFrom": "{key}"}, b"$SYS/x", "the broker's own"),
        ({}, b"a\0b", "NUL"),
    ],
)
def test_a_topic_that_cannot_be_made_is_told(
    rules: dict[str, object], key: bytes | None, problem: str
) -> None:
    with pytest.raises(InvalidRecord, match=problem.replace("$", r"\$")):
        reading(Format="RAW", **rules).message_of(source(b"1", key))


@pytest.mark.parametrize("value", [b"", b"\xff", b"[1]", b"1", b'"a"', b"{", b"NaN"])
def test_what_is_no_object_is_told(value: bytes) -> None:
    with pytest.raises(InvalidRecord, match="the value is"):
        reading().message_of(source(value))


def test_what_came_out_of_this_broker_is_known_and_what_came_out_of_another_is_not() -> None:
    mine = source(b"1", headers=(("monstermq-log", LOG.encode()),))
    others = source(b"1", headers=(("monstermq-log", b"kafka:other:monster"),))
    assert reading().is_own(mine)
    assert not reading().is_own(others)
    assert not reading().is_own(source(b"1"))


def test_notes_of_a_bus_are_for_nobody() -> None:
    note = source(b"anything", headers=(("m", b"x" * 17), ("monstermq-control", b"")))
    assert reading().message_of(note) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
NAMES = ["topic", "topicName", "payload", "payloadBase64", "qos", "qosLevel", "retained"]
RECORDS = st.dictionaries(st.sampled_from([*NAMES, "isRetain", "clientId"]), JSON).map(json.dumps)


@given(
    value=st.none() | st.binary(max_size=30) | RECORDS.map(str.encode),
    key=st.none() | st.binary(max_size=10),
    raw=st.booleans(),
)
def test_whatever_stands_there_is_a_message_or_told(
    value: bytes | None, key: bytes | None, raw: bool
) -> None:
    try:
        found = reading(Format="RAW" if raw else "RECORD").message_of(source(value, key))
    except InvalidRecord:
        return
    if found is None:
        assert value is None
        return
    assert isinstance(found.publication, Publication)
    LIMITS.check(found.publication)


def test_a_tombstone_of_json_clears_the_topic_that_is_named_and_says_nothing_else() -> None:
    assert reading().message_of(source(None)) is None
    named = reading(TopicFrom="in/{key}", Retain=True)
    assert message(named.message_of(source(None))) == ("in/k", b"", 0, True, "kafka:orders")
