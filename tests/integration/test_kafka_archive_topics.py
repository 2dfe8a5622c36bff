"""Topics that archives meet in Kafka, and what clients may put into them."""

import asyncio
import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml
from aiokafka import ConsumerRecord
from tests.integration.observing import until_ready
from tests.support.broker import RunningBroker
from tests.support.kafka import KafkaServer
from tests.support.kafka_security import PASSWORD, USER, Security
from tests.support.kafka_tools import VERSIONS, create_topic, read_topic
from tests.support.load import Cast
from tests.support.machine import program
from tests.support.mqtt_peer import Peer
from tests.support.repository import ROOT

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

BOUND_S = 60.0
FOR_EVER_MS = str(2**63 - 1)


def config_of(servers: str, group: str, **extra: Any) -> str:
    """Return a configuration whose group of that name archives everything in Kafka."""
    groups = [{"Name": group, "TopicFilter": ["#"], "ArchiveType": "KAFKA"}]
    return str(yaml.safe_dump({"Kafka": {"Servers": servers}, "ArchiveGroups": groups, **extra}))


async def a_publisher(cast: Cast, broker: RunningBroker) -> Peer:
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("publisher")
    return peer


async def archived(server: KafkaServer, topic: str, count: int) -> Sequence[ConsumerRecord]:
    """Return the records of a topic, once there are so many."""
    async with asyncio.timeout(BOUND_S):
        while len(records := await read_topic(server.address(), topic)) < count:
            pass
    return records


async def test_every_payload_is_there_as_it_was(
    broker: RunningBroker, cast: Cast, each_kafka: KafkaServer, kafka_topic: str
) -> None:
    broker.start(config_of(each_kafka.address(), kafka_topic, MaxMessageSizeKb=512))
    peer = await a_publisher(cast, broker)
    payloads = {
        "empty": b"",
        "text": "größe ☃".encode(),
        "json": b'{"value": "\\"\\u0000"}',
        "binary": bytes(range(256)),
        "large": b"x" * (512 * 1024 - 100),
        "large/binary": b"\xff" * (512 * 1024 - 100),
        "large/escaped": b"\x01" * (512 * 1024 - 100),
        "t" * 60_000: b"a long topic",
    }
    for topic, payload in payloads.items():
        await peer.publish(topic, payload, 1)
    records = await archived(each_kafka, kafka_topic, len(payloads))
    found: dict[str, bytes] = {}
    for record in records:
        members = json.loads(record.value)
        assert record.key == members["topic"].encode()
        assert ("payload" in members) != ("payloadBase64" in members)
        text = members.get("payload")
        payload = base64.b64decode(members["payloadBase64"]) if text is None else text.encode()
        found[members["topic"]] = payload
    assert found == payloads


async def test_the_topic_is_as_the_group_says(
    broker: RunningBroker, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    group = {"Name": kafka_topic, "ArchiveType": "KAFKA", "ArchiveRetention": "2d"}
    archive = {"Partitions": 5, "Replication": 1}
    kafka = {"Servers": kafka_server.address(), "Archive": archive}
    broker.start(yaml.safe_dump({"Kafka": kafka, "ArchiveGroups": [group]}))
    described = kafka_server.tool(
        "org.apache.kafka.tools.TopicCommand", "--describe", "--topic", kafka_topic
    )
    for setting in (
        "PartitionCount: 5",
        "cleanup.policy=delete",
        "retention.ms=172800000",
        f"message.timestamp.before.max.ms={FOR_EVER_MS}",
        f"message.timestamp.after.max.ms={FOR_EVER_MS}",
    ):
        assert setting in described


async def test_a_foreign_topic_is_used_as_it_is_and_its_dangers_are_told(
    broker: RunningBroker, cast: Cast, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = {"cleanup.policy": "compact", "message.timestamp.before.max.ms": "900000"}
    await create_topic(kafka_server.address(), kafka_topic, partitions=2, settings=settings)
    broker.start(config_of(kafka_server.address(), kafka_topic))
    told = [line for line in broker.log_text().splitlines() if f"topic {kafka_topic}: its" in line]
    for setting in ("cleanup.policy", "before.max.ms", "retention.ms", "max.message.bytes"):
        assert any(setting in line for line in told), told
    peer = await a_publisher(cast, broker)
    for number in range(10):
        await peer.publish(f"t/{number}", b"x", 1)
    records = await archived(kafka_server, kafka_topic, 10)
    assert {record.partition for record in records} <= {0, 1}


async def test_a_refused_record_waits_until_the_topic_takes_it(
    broker: RunningBroker, cast: Cast, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = {"max.message.bytes": "2000"}
    await create_topic(kafka_server.address(), kafka_topic, settings=settings)
    broker.start(config_of(kafka_server.address(), kafka_topic))
    peer = await a_publisher(cast, broker)
    sent = [b"%d" % number * (3_000 if number == 5 else 10) for number in range(10)]
    for payload in sent:
        await peer.publish("t", payload, 1)
    told = ""
    async with asyncio.timeout(BOUND_S):
        # A server that is slow is told first, and what it says only then.
        while f"topic {kafka_topic}: a record is larger than the topic takes" not in told:
            told = await until_ready(broker, 503, BOUND_S)
    assert "raise its max.message.bytes" in told
    kafka_server.tool(
        "kafka.admin.ConfigCommand",
        *("--alter", "--topic", kafka_topic, "--add-config", "max.message.bytes=100000"),
    )
    await until_ready(broker, 200, BOUND_S)
    records = await archived(kafka_server, kafka_topic, 10)
    ids = {json.loads(record.value)["id"]: record for record in records}
    assert [json.loads(at.value)["payload"].encode() for at in ids.values()] == sent


async def test_bare_payloads_go_to_the_topics_that_messages_lead_to(
    broker: RunningBroker, cast: Cast, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    group = {
        "Name": kafka_topic,
        "ArchiveType": "KAFKA",
        "PayloadFormat": "RAW",
        "KafkaTopic": f"{kafka_topic}.{{2}}",
        "KafkaKey": "{clientId}:{1}",
        "KafkaCompression": "ZSTD",
    }
    # What Kafka takes for the same name as another one's cannot be made.
    await create_topic(kafka_server.address(), f"{kafka_topic}_taken")
    kafka = {"Servers": kafka_server.address(), "Archive": {"TopicsMax": 3}}
    broker.start(yaml.safe_dump({"Kafka": kafka, "ArchiveGroups": [group]}))
    peer = await a_publisher(cast, broker)
    sent = {"a/1/x": b"\xff\x00", "a/2": b"", "a/taken": b"taken", "a/3": b"one too many"}
    for topic, payload in sent.items():
        await peer.publish(topic, payload, 1)
    (first,) = await archived(kafka_server, f"{kafka_topic}.1", 1)
    (second,) = await archived(kafka_server, f"{kafka_topic}.2", 1)
    others = await archived(kafka_server, kafka_topic, 2)
    assert [first.value, second.value] == [sent["a/1/x"], sent["a/2"]]
    assert [at.value for at in others] == [sent["a/taken"], sent["a/3"]]
    assert {at.key for at in (first, second, *others)} == {b"publisher:a"}
    headers = {name: value.decode() for name, value in first.headers}
    assert headers.pop("mqtt.timestamp").endswith("Z")
    assert headers.pop("monstermq-log")
    assert headers == {
        "mqtt.topic": "a/1/x",
        "mqtt.clientId": "publisher",
        "mqtt.qos": "1",
        "mqtt.retained": "false",
    }
    assert "Kafka.Archive.TopicsMax" in broker.log_text()
    kafka_server.tool(
        "org.apache.kafka.tools.TopicCommand", "--delete", "--topic", f"{kafka_topic}.1"
    )
    await peer.publish("a/1", b"again", 1)
    (again,) = await archived(kafka_server, f"{kafka_topic}.1", 1)
    assert again.value == b"again"


@pytest.fixture(scope="module")
def guarded() -> Iterator[KafkaServer]:
    """A server of the newest version whose user may do nothing until somebody says so."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    server = KafkaServer(version=VERSIONS[-1], settings=settings, security=Security(sasl=True))
    try:
        yield server.start()
    finally:
        server.close()


def allow(server: KafkaServer, topic: str, *operations: str) -> None:
    wanted = [f"--operation={operation}" for operation in operations]
    server.tool(
        "org.apache.kafka.tools.AclCommand",
        *("--add", f"--allow-principal=User:{USER}", f"--topic={topic}", *wanted),
    )


async def test_rights_are_asked_for_one_after_the_other(
    broker: RunningBroker, cast: Cast, guarded: KafkaServer, kafka_topic: str
) -> None:
    security = {"Protocol": "SASL_PLAINTEXT", "Mechanism": "SCRAM-SHA-256"}
    login = {"User": USER, "Pass": PASSWORD}
    servers = guarded.address("SASL_PLAINTEXT")
    kafka = {"Servers": servers, "Security": {**security, **login}}
    config = config_of(servers, kafka_topic, Kafka=kafka)
    status, said = broker.run_to_end(config)
    assert status == ExitCode.STORE_UNREACHABLE
    assert f"making the topic {kafka_topic}: Kafka.Security.User has no right to do this" in said
    assert PASSWORD not in said
    allow(guarded, kafka_topic, "Create", "Describe")
    broker.start(config)
    assert "may not see its settings" in broker.log_text()
    peer = await a_publisher(cast, broker)
    await peer.publish("t", b"1", 1)
    told = ""
    async with asyncio.timeout(BOUND_S):
        # A server that is slow is told first, and what it says only then.
        while f"topic {kafka_topic}: Kafka.Security.User has no right to do this" not in told:
            told = await until_ready(broker, 503, BOUND_S)
    allow(guarded, kafka_topic, "Write", "DescribeConfigs")
    await until_ready(broker, 200, BOUND_S)
    (record,) = await archived(guarded, kafka_topic, 1)
    assert json.loads(record.value)["payload"] == "1"


async def test_a_deleted_topic_is_made_again(
    broker: RunningBroker, cast: Cast, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    broker.start(config_of(kafka_server.address(), kafka_topic))
    peer = await a_publisher(cast, broker)
    await peer.publish("t", b"1", 1)
    await archived(kafka_server, kafka_topic, 1)
    kafka_server.tool("org.apache.kafka.tools.TopicCommand", "--delete", "--topic", kafka_topic)
    await peer.publish("t", b"2", 1)
    assert "the views in KAFKA" in await until_ready(broker, 503, BOUND_S)
    await until_ready(broker, 200, BOUND_S)
    (record,) = await archived(kafka_server, kafka_topic, 1)
    assert json.loads(record.value)["payload"] == "2"
    assert broker.log_text().count(f"made the Kafka topic {kafka_topic}") == 2


async def test_a_topic_that_somebody_makes_again_with_fewer_partitions_is_used(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    """As a server does by itself, with its defaults, as soon as a client asks for the topic."""
    own_kafka.settings["auto.create.topics.enable"] = "true"
    own_kafka.restart()
    broker.start(config_of(own_kafka.address(), "sensors"))
    peer = await a_publisher(cast, broker)
    topics = [f"t/{number}" for number in range(20)]
    for topic in topics:
        await peer.publish(topic, b"1", 1)
    await archived(own_kafka, "sensors", len(topics))
    own_kafka.tool("org.apache.kafka.tools.TopicCommand", "--delete", "--topic", "sensors")
    for topic in topics:
        await peer.publish(topic, b"2", 1)
    values: dict[str, str] = {}
    async with asyncio.timeout(2 * BOUND_S):
        while values.keys() != set(topics):
            records = await read_topic(own_kafka.address(), "sensors")
            members = [json.loads(record.value) for record in records]
            values = {at["topic"]: at["payload"] for at in members}
    assert set(values.values()) == {"2"}


async def test_the_example_archives_what_its_groups_ask_for(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    """Seen as the README sees it: through Kafka's console consumer and jq."""
    jq = program("jq")
    example = ROOT / "examples" / "config-kafka.yaml"
    settings = yaml.safe_load(example.read_text(encoding="utf-8"))
    settings["Kafka"]["Servers"] = own_kafka.address()
    kept = ("Kafka", "ArchiveGroups", "Limits")
    broker.start(yaml.safe_dump({name: settings[name] for name in kept}))
    peer = await a_publisher(cast, broker)
    for topic in ("sensors/a", "sensors/b", "events/c", "alerts/d", "elsewhere"):
        await peer.publish(topic, b"23.5", 1)
    for group, topics in (
        ("sensors", ["sensors/a", "sensors/b"]),
        ("events", ["alerts/d", "events/c"]),
    ):
        lines = await asyncio.to_thread(own_kafka.consume, group, len(topics))
        shown = await asyncio.to_thread(
            subprocess.run,
            [jq, "-r", ".topic"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
        )
        assert sorted(shown.stdout.split()) == topics
