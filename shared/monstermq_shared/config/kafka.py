"""The section ``Kafka``: where the cluster is, how to log in, and how the bus uses it."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema

from monstermq_shared.config.fields import (
    FileName,
    Flag,
    PayloadForm,
    PayloadFormat,
    Section,
    Setting,
    Text,
    choice,
    matching,
)
from monstermq_shared.config.kafka_names import CONSUMER, PRODUCER
from monstermq_shared.config.limits import KIB
from monstermq_shared.config.templates import SourceTemplate

SESSIONS_SUFFIX = "-sessions"
"""What follows the bus topic's name in that of the log of sessions."""
DEFAULT_PORT = 9092
TOPIC_LENGTH_MAX = 249
"""Characters of a topic; Kafka's own limit."""
_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253})"
_SERVER = re.compile(rf"({_HOST}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::([0-9]{{1,5}}))?")
_OVERHEAD_KB = 1_280


class SecurityProtocol(StrEnum):
    """How a connection to Kafka is protected, by Kafka's own names."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def logs_in(self) -> bool:
        """Whether it has a user."""
        return self in {SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL}

    @property
    def encrypts(self) -> bool:
        """Whether it is TLS."""
        return self in {SecurityProtocol.SSL, SecurityProtocol.SASL_SSL}


class SaslMechanism(StrEnum):
    """How a user proves who it is, by Kafka's own names."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


def parse_servers(text: str) -> list[tuple[str, int]]:
    """Return (host, port) of the servers that a comma-separated list names; IPv6 in brackets.

    Raises:
        ValueError: One of them is not written as a server; the message follows the key.
    """
    servers = []
    for written in map(str.strip, text.split(",")):
        if "://" in written:
            raise ValueError(f"has {written[:80]!r}: leave out what is before the host")
        found = _SERVER.fullmatch(written)
        if found is None and written.count(":") > 1:
            raise ValueError(f"has {written[:80]!r}: put an IPv6 address in brackets, [::1]:9092")
        if found is None:
            raise ValueError(f"has {written[:80]!r}: must be host:port, separated by commas")
        port = int(found[2]) if found[2] else DEFAULT_PORT
        if not 0 < port <= 65_535:
            raise ValueError(f"has {written[:80]!r}: a port is a number from 1 to 65535")
        servers.append((found[1].strip("[]"), port))
    return servers


def _check_servers(text: str) -> str:
    parse_servers(text)
    return text


def folded(topic: str) -> str:
    """Return what Kafka takes for the same topic: it has no two that differ in these only."""
    return topic.replace(".", "_")


def record_bytes_max(max_message_size_kb: int) -> int:
    """Return how large a record can become, with key and headers.

    A payload grows by a third as base64; topic, client id and control text are escaped in JSON.
    """
    return -(-max_message_size_kb * KIB * 4 // 3) + _OVERHEAD_KB * KIB


def _topic_name(length_max: int) -> tuple[object, ...]:
    return matching(
        rf"^(?!__)(?!\.{{1,2}}$)[A-Za-z0-9._-]{{1,{length_max}}}$",
        f"must be 1 to {length_max} letters, digits, '.', '_' or '-', as Kafka's topics have "
        "them, and not begin with __",
    )


TopicName = Annotated[str, *_topic_name(TOPIC_LENGTH_MAX - len(SESSIONS_SUFFIX))]
SourceTopicName = Annotated[str, *_topic_name(TOPIC_LENGTH_MAX)]
Partitions = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Copies = Annotated[int, Field(strict=True, ge=1, le=100)]


class KafkaSecurity(Section):
    """How connections to Kafka are protected, and who logs in."""

    protocol: Annotated[SecurityProtocol, *choice(*SecurityProtocol)] = SecurityProtocol.PLAINTEXT
    """PLAINTEXT, SSL (which is TLS), or one of them with a login before it."""
    mechanism: Annotated[SaslMechanism, *choice(*SaslMechanism)] = SaslMechanism.PLAIN
    """How the user logs in, with a protocol that begins with SASL."""
    user: Text | None = None
    """Who logs in."""
    password: SecretStr | None = None
    """Its password."""
    ca_file: FileName | None = None
    """Authorities, PEM, that sign the servers' certificates; absent: the system's."""
    cert_file: FileName | None = None
    """A certificate chain, PEM, for servers that want to see one."""
    key_file: FileName | None = None
    """Its private key, PEM; may be in CertFile too."""
    key_password: SecretStr | None = None
    """The password of an encrypted key."""


class KafkaBus(Section):
    """How the Kafka bus is used."""

    enabled: Flag = False
    """Send every message through one Kafka topic instead of the internal bus."""
    topic: TopicName = "monster"
    """The Kafka topic that carries them; `<Topic>-sessions` carries what clients do."""
    partitions: Partitions = 12
    """Partitions the topic is created with; never changed in place."""
    replication: Copies | None = None
    """Copies of each partition; absent: 3, or one for each server where there are fewer."""
    min_insync_replicas: Copies | None = None
    """Copies a record has before it is acknowledged; absent: one less than Replication, or 1."""
    retention_hours: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 168
    """How long Kafka keeps records; 0: for ever."""
    lateness_s: Annotated[int, Field(strict=True, ge=1, le=86_400)] = 900
    """Seconds by which clocks may differ; Kafka refuses records that are older or newer."""
    lease_s: Annotated[int, Field(strict=True, ge=1, le=600)] = 10
    """Seconds without a sign of life after which an edge counts as dead."""
    producer_config: Annotated[dict[str, Setting], WithJsonSchema(PRODUCER.schema())] = Field(
        default_factory=dict
    )
    """Kafka producer settings by their Kafka names, see below."""
    consumer_config: Annotated[dict[str, Setting], WithJsonSchema(CONSUMER.schema())] = Field(
        default_factory=dict
    )
    """Kafka consumer settings by their Kafka names, see below."""
    protocol_version: Annotated[int, Field(strict=True, ge=1, le=2)] = 2
    """Version of the control records that are written. 1, while processes of the release before
    run, which cannot read 2: sessions end with their connections, and CONNECT with clean session
    0 is refused."""
    in_flight_kb_per_partition: Annotated[int, Field(strict=True, ge=64, le=16 * KIB * KIB)] = 8_192
    """KiB of records that wait for Kafka, per partition; then their publishers are held. Where
    Kafka has taken nothing for 5 s, QoS 0 is dropped instead, and counted (`log_full`)."""


class KafkaArchive(Section):
    """Topics of archive groups of type KAFKA."""

    partitions: Partitions = 12
    """Partitions a topic is created with."""
    replication: Copies | None = None
    """Copies of each partition; absent: 3, or one for each server where there are fewer."""
    topics_max: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1_000
    """Topics that a process writes to for a group whose KafkaTopic has placeholders; what would
    need another one goes to the topic of the group's name."""


class KafkaIngress(Section):
    """A Kafka topic whose records become MQTT messages."""

    topic: SourceTopicName
    """The Kafka topic to read."""
    format: PayloadForm = PayloadFormat.RECORD
    """RECORD: values are the JSON of a message; RAW: they are payloads."""
    topic_from: SourceTemplate | None = None
    """The MQTT topic: `key`, `header:NAME`, or text with `{key}`, `{header:NAME}`, `{topic}`,
    `{partition}`. Absent: what the RECORD says, and the key with RAW."""
    qos: Annotated[int, Field(strict=True, ge=0, le=2)] | None = None
    """Their QoS; absent: what the RECORD says, or 0, and 1 with RAW."""
    retain: Flag | None = None
    """Their retain flag; absent: what the RECORD says, and false with RAW."""
    group: Annotated[Text, Field(max_length=200)] | None = None
    """The consumer group; absent: one of this broker alone."""
    dead_letter_topic: SourceTopicName | None = None
    """The Kafka topic for records that cannot become messages; absent: the quarantine in
    PostgreSQL, and without one they are logged and counted."""


class Kafka(Section):
    """The Kafka cluster, for archive groups of type KAFKA and for the bus."""

    servers: Annotated[Text, AfterValidator(_check_servers)] = f"localhost:{DEFAULT_PORT}"
    """Some of its servers, host:port, separated by commas."""
    client_rack: Text | None = None
    """Where this process is, as the servers' `broker.rack` says it; it reads what is near."""
    security: KafkaSecurity = KafkaSecurity()
    """How connections are protected."""
    bus: KafkaBus = KafkaBus()
    """Kafka as the message bus."""
    archive: KafkaArchive = KafkaArchive()
    """Topics of archive groups."""
    ingress: Annotated[tuple[KafkaIngress, ...], Field(max_length=100)] = ()
    """Kafka topics whose records become MQTT messages."""
