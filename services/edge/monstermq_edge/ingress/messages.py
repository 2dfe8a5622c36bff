"""What a record of somebody else's Kafka topic means as a message."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from monstermq_shared.bus.header import CONTROL_HEADER
from monstermq_shared.bus.publishing import PublisherLimits
from monstermq_shared.config import KafkaIngress, PayloadFormat
from monstermq_shared.config.templates import HEADER, KEY, TOPIC, source_template
from monstermq_shared.errors import InvalidRecord, QueryRefused
from monstermq_shared.kafka.origin import ORIGIN
from monstermq_shared.queries.live import Publication
from monstermq_shared.records import text_size

CLIENT_ID_SIZE_MAX = 65_535
"""Bytes of a client id, as of any text in MQTT [MQTT-1.5.3]."""

_RAW_QOS = 1


class Source(NamedTuple):
    """A record as Kafka has it.

    Attributes:
        partition: Where it stands.
        offset: And at which place.
        time_ms: Its time in Kafka, milliseconds since 1970-01-01 UTC.
    """

    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Incoming(NamedTuple):
    """A message.

    Attributes:
        client_id: Who has published it: who the record says, or the Kafka topic.
    """

    publication: Publication
    client_id: str


class Reading:
    """Reads the records of one topic.

    Args:
        ingress: What its records are.
        generation: Of the broker's own log.
        limits: What may be published.
    """

    def __init__(self, ingress: KafkaIngress, generation: str, limits: PublisherLimits) -> None:
        self._ingress = ingress
        self._own = generation.encode()
        self._limits = limits
        self._client_id = f"kafka:{ingress.topic}"
        self._template = None
        if ingress.topic_from is not None:
            self._template = source_template(ingress.topic_from)
        elif ingress.format is PayloadFormat.RAW:
            self._template = source_template(KEY)

    def is_own(self, source: Source) -> bool:
        """Whether it is from an archive of this broker: it was a message already."""
        return any(name == ORIGIN and value == self._own for name, value in source.headers)

    def message_of(self, source: Source) -> Incoming | None:
        """Return the message; None for what says nothing.

        That is a note of a broker, on a bus, and in a compacted topic of JSON a record without a
        value, unless ``TopicFrom`` says which topic it is that has no more.

        Raises:
            InvalidRecord: It cannot be one.
        """
        if any(name == CONTROL_HEADER for name, _ in source.headers):
            return None
        if source.value is None and self._template is None:
            return None
        try:
            if source.value is None or self._ingress.format is PayloadFormat.RAW:
                incoming = self._raw(source)
            else:
                incoming = self._record(source)
            self._limits.check(incoming.publication)
        except QueryRefused as exc:
            raise InvalidRecord(str(exc)) from exc
        return incoming

    def _raw(self, source: Source) -> Incoming:
        ingress = self._ingress
        qos = _RAW_QOS if ingress.format is PayloadFormat.RAW else 0
        publication = Publication(
            topic=self._topic(source),
            payload=source.value or b"",
            qos=qos if ingress.qos is None else ingress.qos,
            retained=bool(ingress.retain),
        )
        return Incoming(publication, self._client_id)

    def _record(self, source: Source) -> Incoming:
        try:
            members = orjson.loads(source.value or b"")
        except orjson.JSONDecodeError as exc:
            raise InvalidRecord(f"the value is no JSON: {exc}") from exc
        if not isinstance(members, dict):
            raise InvalidRecord("the value is JSON, and no object")
        ingress = self._ingress
        topic = _text(members, "topic", "topicName") if self._template is None else None
        publication = Publication(
            topic=self._topic(source) if topic is None else topic,
            payload=_payload(members),
            qos=_qos(members) if ingress.qos is None else ingress.qos,
            retained=_retained(members) if ingress.retain is None else ingress.retain,
        )
        client_id = self._client_id
        if members.get("clientId"):
            client_id = _text(members, "clientId")
            if "\0" in client_id or text_size(client_id) > CLIENT_ID_SIZE_MAX:
                raise InvalidRecord("clientId is none that a client can have")
        return Incoming(publication, client_id)

    def _topic(self, source: Source) -> str:
        assert self._template is not None
        return self._template.fill(lambda name: self._part(name, source))

    def _part(self, name: str, source: Source) -> str:
        if name == TOPIC:
            return self._ingress.topic
        if name == KEY:
            return _decoded("the key", source.key)
        if name.startswith(HEADER):
            wanted = name.removeprefix(HEADER)
            # Of several the last one counts, as Kafka's own clients have it.
            found = dict(source.headers).get(wanted)
            return _decoded(f"the header {wanted}", found)
        return str(source.partition)


def _decoded(what: str, value: bytes | None) -> str:
    if value is None:
        raise InvalidRecord(f"{what}, which makes the topic, is not there")
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRecord(f"{what}, which makes the topic, is no UTF-8") from exc


def _member(members: Mapping[str, Any], *names: str) -> tuple[str, Any]:
    """Return the first of some members that is there, with its name; null is as good as none."""
    for name in names:
        if members.get(name) is not None:
            return name, members[name]
    return names[0], None


def _text(members: Mapping[str, Any], *names: str) -> str:
    name, value = _member(members, *names)
    if value is None:
        raise InvalidRecord(f"the member {' or '.join(names)} is missing")
    if not isinstance(value, str):
        raise InvalidRecord(f"{name} is {value!r:.100}, not text")
    return value


def _payload(members: Mapping[str, Any]) -> bytes:
    name, value = _member(members, "payload", "payloadBase64")
    if name == "payload" and value is not None:
        return _text(members, "payload").encode()
    text = _text(members, "payloadBase64", "payload")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise InvalidRecord(f"payloadBase64 is no base64: {exc}") from exc


def _qos(members: Mapping[str, Any]) -> int:
    name, value = _member(members, "qos", "qosLevel")
    if value is None:
        return 0
    if type(value) is not int or value not in {0, 1, 2}:
        raise InvalidRecord(f"{name} is {value!r:.100}, not 0, 1 or 2")
    return value


def _retained(members: Mapping[str, Any]) -> bool:
    name, value = _member(members, "retained", "isRetain")
    if value is None:
        return False
    if type(value) is not bool:
        raise InvalidRecord(f"{name} is {value!r:.100}, not true or false")
    return value
