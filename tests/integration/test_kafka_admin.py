"""Questions to real Kafka servers, and what is said of those that do not answer them."""

import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError
from tests.support.broker import LOOPBACK, free_ports
from tests.support.kafka import KafkaServer
from tests.support.kafka_security import PASSWORD, USER, Security
from tests.support.kafka_tools import create_topic

from monstermq_shared.config import Kafka, KafkaSecurity
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka import admin
from monstermq_shared.kafka.admin import Admin, NewTopicSpec, TopicFacts
from monstermq_shared.kafka.settings import KafkaSettings

pytestmark = pytest.mark.integration

# Who logs in has no rights; who does not may do everything.
_AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


def settings_of(servers: str, **security: Any) -> KafkaSettings:
    section = Kafka(servers=servers, security=KafkaSecurity(**security))
    return KafkaSettings(section=section, record_size_max=1_000_000)


async def topics_of(settings: KafkaSettings, *names: str) -> dict[str, TopicFacts]:
    async with Admin.opened(settings, ExitCode.STORE_UNREACHABLE) as asked:
        return dict(await asked.topics(names))


async def refusal_of(settings: KafkaSettings, *names: str) -> str:
    with pytest.raises(StartupError) as refused:
        await topics_of(settings, *names)
    assert refused.value.exit_code == ExitCode.STORE_UNREACHABLE
    return str(refused.value)


async def test_topics_are_made_and_found(each_kafka: KafkaServer, kafka_topic: str) -> None:
    settings = settings_of(each_kafka.address())
    spec = NewTopicSpec(
        name=kafka_topic, partitions=3, replication=None, configs={"retention.ms": "12345"}
    )
    async with Admin.opened(settings, ExitCode.STORE_UNREACHABLE) as asked:
        assert asked.cluster_id == each_kafka.cluster_id
        assert asked.servers == 1
        assert await asked.topics([kafka_topic]) == {}
        await asked.create([spec])
        await asked.create([spec])  # as two processes that start together
        found = (await asked.topics([kafka_topic, "another"]))[kafka_topic]
    assert (found.partitions, found.replication) == (3, 1)
    assert found.configs["retention.ms"] == "12345"
    assert found.configs["min.insync.replicas"] == "1"
    assert found.configs["cleanup.policy"] == "delete"


async def test_a_topic_is_not_made_by_asking_for_it(own_kafka: KafkaServer) -> None:
    own_kafka.settings["auto.create.topics.enable"] = "true"
    own_kafka.restart()
    settings = settings_of(own_kafka.address())
    assert await topics_of(settings, "asked") == {}
    assert await topics_of(settings, "asked") == {}


async def test_more_copies_than_servers_are_refused(kafka_server: KafkaServer) -> None:
    spec = NewTopicSpec(name="copies", partitions=1, replication=2, configs={})
    async with Admin.opened(settings_of(kafka_server.address()), ExitCode.STORE_UNREACHABLE) as at:
        with pytest.raises(StartupError, match="topic copies: there are fewer servers than"):
            await at.create([spec])


async def test_a_server_that_is_away_is_named() -> None:
    (port,) = free_ports(1)
    told = await refusal_of(settings_of(f"{LOOPBACK}:{port}"))
    assert f"Kafka.Servers: Kafka at {LOOPBACK}:{port} cannot be reached" in told


async def test_one_server_of_several_is_enough(kafka_server: KafkaServer, kafka_topic: str) -> None:
    (port,) = free_ports(1)
    settings = settings_of(f"{LOOPBACK}:{port},{kafka_server.address()}")
    assert await topics_of(settings, kafka_topic) == {}


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "CONNECT_S", 0.1)
    with socket.create_server((LOOPBACK, 0)) as silent:
        address = f"{LOOPBACK}:{silent.getsockname()[1]}"
        assert f"cannot be reached ({address}: no answer" in await refusal_of(settings_of(address))


@pytest.fixture(scope="module")
def guarded() -> Iterator[KafkaServer]:
    server = KafkaServer(settings=_AUTHORIZER, security=Security(sasl=True))
    try:
        yield server.start()
    finally:
        server.close()


def logged_in(server: KafkaServer, **changed: str) -> KafkaSettings:
    login = {"user": USER, "password": PASSWORD, "mechanism": "SCRAM-SHA-512", **changed}
    return settings_of(server.address("SASL_PLAINTEXT"), protocol="SASL_PLAINTEXT", **login)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_is_told(guarded: KafkaServer, mechanism: str) -> None:
    told = await refusal_of(logged_in(guarded, password="wrong", mechanism=mechanism))
    assert "does not let us in" in told
    assert "check Kafka.Security.User and Pass" in told


async def test_a_wrong_protocol_is_told(guarded: KafkaServer) -> None:
    plain = settings_of(guarded.address("SASL_PLAINTEXT"))
    assert "Kafka.Security.Protocol may not be that of this port" in await refusal_of(plain)
    sasl = settings_of(guarded.address(), protocol="SASL_PLAINTEXT", user=USER, password=PASSWORD)
    assert "does not log in by Kafka.Security.Mechanism" in await refusal_of(sasl)


async def test_missing_rights_are_told(guarded: KafkaServer, kafka_topic: str) -> None:
    spec = NewTopicSpec(name=kafka_topic, partitions=1, replication=None, configs={})
    async with Admin.opened(logged_in(guarded), ExitCode.STORE_UNREACHABLE) as asked:
        with pytest.raises(StartupError, match=f"{kafka_topic}: Kafka.Security.User has no right"):
            await asked.create([spec])


async def test_a_topic_we_may_not_see_is_not_there(guarded: KafkaServer, kafka_topic: str) -> None:
    await create_topic(guarded.address(), kafka_topic)
    assert await topics_of(logged_in(guarded), kafka_topic) == {}


async def test_a_server_that_knows_of_no_server_yet_is_waited_for(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment after its start it answers so."""
    ask, asked = admin._ask_once, []

    async def ask_too_early(server: str, arguments: Mapping[str, Any]) -> None:
        asked.append(server)
        if len(asked) < 3:
            raise NodeNotReadyError("too early")
        await ask(server, arguments)

    monkeypatch.setattr(admin, "_ask_once", ask_too_early)
    assert await topics_of(settings_of(kafka_server.address()), "nothing") == {}
    assert len(asked) == 3
