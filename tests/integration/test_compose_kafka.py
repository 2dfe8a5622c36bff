"""The Compose stack with Kafka, without containers: messages, tables, and what a kill leaves."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator

import jsonschema
import pytest
from tests.support.compose import COMPOSE, Stack
from tests.support.kafka import KafkaServer
from tests.support.load import Cast
from tests.support.local_stack import LocalStack
from tests.support.mqtt_peer import Peer, Publish
from tests.support.postgres import PostgresServer
from tests.support.repository import ROOT

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

BOUND_S = 60.0
PER_TOPIC = 20
LAST = PER_TOPIC - 1


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    """A server whose bus topic is this stack's alone."""
    server = KafkaServer()
    try:
        yield server.start()
    finally:
        server.close()


class Tables:
    """The stack's database, as psql shows it."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._name = server.create_database()

    @property
    def url(self) -> str:
        """Where it is."""
        return self._server.url(self._name)

    async def show(self, query: str, expected: str) -> None:
        """Wait until a query has the expected rows: the tables follow the bus."""
        shown = ""
        async with asyncio.timeout(BOUND_S):
            while shown != expected:
                shown = await asyncio.to_thread(self._server.psql, query, database=self._name)


@pytest.fixture(scope="module")
def tables(postgres_server: PostgresServer) -> Tables:
    return Tables(postgres_server)


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaServer, tables: Tables
) -> Iterator[LocalStack]:
    """The stack, running; in the end every service stops when it is told to."""
    stack = LocalStack(
        Stack(COMPOSE / "docker-compose-kafka.yaml"),
        tmp_path_factory.mktemp("stack"),
        kafka=kafka.address(),
        database=tables.url,
    )
    try:
        yield stack.start()
        for name, service in stack.services.items():
            status = service.stop()
            assert status == (-signal.SIGTERM if name == "balancer" else ExitCode.OK), service.log
    finally:
        stack.close()


def topics_of(site: str) -> list[str]:
    return [f"{site}/line{n}/temperature" for n in range(5)]


async def guest(stack: LocalStack, cast: Cast, client_id: str, at: str = "balancer") -> Peer:
    """Connect somebody to a service."""
    peer = await cast.peer(stack.config.tcp, stack.address(at))
    await peer.connect(client_id)
    return peer


async def publish_all(peer: Peer, topics: list[str]) -> None:
    for number in range(PER_TOPIC):
        for topic in topics:
            await peer.publish(topic, str(number).encode(), 1, retain=number == LAST)


async def take_all(peer: Peer, topics: list[str]) -> None:
    """Take what ``publish_all`` publishes, in order per topic."""
    taken: dict[str, list[int]] = {topic: [] for topic in topics}
    for _ in range(PER_TOPIC * len(topics)):
        message = await peer.take()
        taken[message.topic].append(int(message.payload))
    assert taken == {topic: list(range(PER_TOPIC)) for topic in topics}


TIMEOUTS_MS = (3_000, 10_000, 40_000)
"""How long the console consumer waits for more. On a busy machine the shortest may be over before
it has read anything."""


def monitored(command: str, stack: LocalStack, kafka: KafkaServer) -> str:
    """Run one of the README's commands, which would otherwise go on; return what it prints."""
    typed = command.replace("--timeout-ms 5000", "")
    typed = typed.replace("localhost:9092", f"{kafka.address()} --timeout-ms $TIMEOUT_MS")
    typed = typed.replace("monstermq-stream", stack.config.kafka.bus.topic)
    assert "TIMEOUT_MS" in typed
    path = f"{ROOT / 'scripts'}{os.pathsep}{os.environ['PATH']}"
    printed = ""
    for timeout_ms in TIMEOUTS_MS:
        printed = subprocess.run(
            ["bash", "-c", typed],
            cwd=ROOT,
            env={**os.environ, "PATH": path, "TIMEOUT_MS": str(timeout_ms)},
            capture_output=True,
            text=True,
            timeout=2 * BOUND_S,
            check=True,
        ).stdout
        if "plant/" in printed:
            break
    return printed


VIEW_ALL = (
    "kafka-console-consumer --topic monstermq-stream --from-beginning "
    "--bootstrap-server localhost:9092 | jq '.'"
)
COUNT_PER_TOPIC = (
    "kafka-console-consumer --topic monstermq-stream --from-beginning "
    "--bootstrap-server localhost:9092 | jq -r '.topic' | sort | uniq -c"
)


def count_per_topic_in_the_readme() -> str:
    """Return the command with which our README counts the same."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (part for part in text.split("```") if "uniq -c" in part)
    return block[block.rindex("scripts/kafka-console-consumer") :]


async def test_messages_cross_the_edges_and_are_in_kafka_and_in_the_tables(
    stack: LocalStack, kafka: KafkaServer, tables: Tables, cast: Cast
) -> None:
    topics = topics_of("plant")
    first = await guest(stack, cast, "first", at="edge1")
    anywhere = await guest(stack, cast, "anywhere")
    for subscriber in (first, anywhere):
        await subscriber.subscribe(("plant/#", 1))
    publisher = await guest(stack, cast, "publisher", at="edge2")
    await publish_all(publisher, topics)
    await asyncio.gather(take_all(first, topics), take_all(anywhere, topics))

    for command in (COUNT_PER_TOPIC, count_per_topic_in_the_readme()):
        counted = await asyncio.to_thread(monitored, command, stack, kafka)
        counts = [line.split() for line in counted.splitlines() if " plant/" in line]
        assert counts == [[str(PER_TOPIC), topic] for topic in topics]

    viewed = await asyncio.to_thread(monitored, VIEW_ALL, stack, kafka)
    records = [json.loads(text) for text in viewed.replace("\n}\n", "\n}\0").split("\0") if text]
    schema = json.loads((ROOT / "schemas/bus-record.v1.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    assert [record for record in records if not validator.is_valid(record)] == []
    of_clients = [record for record in records if record["topic"].startswith("plant/")]
    assert len({record["id"] for record in of_clients}) == PER_TOPIC * len(topics)
    assert {record["clientId"] for record in of_clients} == {"publisher"}

    lines = "\n".join(f"{topic}|{LAST}" for topic in topics)
    rows = "SELECT topic, payload FROM {} WHERE topic LIKE 'plant/%' ORDER BY topic"
    await tables.show(rows.format("mcplastval"), lines)
    await tables.show(rows.format("retainedmessages"), lines)
    total = PER_TOPIC * len(topics)
    await tables.show(
        "SELECT count(*), count(DISTINCT (topic, payload)) FROM mcparchive "
        "WHERE topic LIKE 'plant/%'",
        f"{total}|{total}",
    )
    late = await guest(stack, cast, "late", at="edge1")
    await late.subscribe((topics[0], 0))
    assert await late.receive() == Publish(topics[0], str(LAST).encode(), retain=True)


async def test_a_killed_edge_and_a_killed_projector_are_not_missed(
    stack: LocalStack, tables: Tables, cast: Cast
) -> None:
    topics = topics_of("harbour")
    balancer = stack.services["balancer"]
    said = len(balancer.log)
    stack.services["edge1"].kill()
    stack.services["projector1"].kill()
    # The balancer finds out by itself, and then everybody is at the other edge.
    balancer.wait_until_it_logs("edges_mqtt/edge1 is DOWN", behind=said)
    subscriber = await guest(stack, cast, "subscriber")
    await subscriber.subscribe(("harbour/#", 1))
    publisher = await guest(stack, cast, "publisher")
    await publish_all(publisher, topics)
    await take_all(subscriber, topics)
    await tables.show(
        "SELECT count(*) FROM mcparchive WHERE topic LIKE 'harbour/%'",
        str(PER_TOPIC * len(topics)),
    )

    for name in ("edge1", "projector1"):
        stack.services[name].start()
        stack.services[name].wait_until("/ready")
    back = await guest(stack, cast, "back", at="edge1")
    await back.subscribe((topics[0], 0))
    assert await back.receive() == Publish(topics[0], str(LAST).encode(), retain=True)
