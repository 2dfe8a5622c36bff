"""Where ingress puts what cannot become a message, while that place takes nothing."""

import asyncio
import logging

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import create_topic, read_topic
from tests.support.postgres import PostgresServer
from tests.support.postgres_database import open_database

from monstermq_edge.ingress.aside import Aside
from monstermq_edge.ingress.dead_letters import REASON, DeadLetters
from monstermq_edge.ingress.messages import Source
from monstermq_edge.ingress.quarantine import Quarantine
from monstermq_shared.config import Kafka
from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin
from monstermq_shared.kafka.settings import KafkaSettings

pytestmark = pytest.mark.integration

WITHIN_S = 60.0
LETTERS = [
    (Source(0, 5, 1_768_478_400_000, b"key", b"garbage", [("h", b"1")]), "it is no JSON"),
    (Source(0, 6, 1_768_478_400_001, None, b"more", []), "it is no JSON"),
]


async def prepared(aside: Aside, server: KafkaServer, topic: str) -> None:
    settings = KafkaSettings(section=Kafka(servers=server.address()), record_size_max=100_000)
    async with Admin.opened(settings, ExitCode.STORE_UNREACHABLE) as admin:
        await aside.prepare(admin, (await admin.topics([topic]))[topic])


async def until_in_trouble(aside: Aside) -> str:
    async with asyncio.timeout(WITHIN_S):
        while aside.trouble is None:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.05)
    return aside.trouble


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [at.message for at in caplog.records if at.name == "monstermq_shared.stores.outages"]


async def test_a_topic_that_refuses_dead_letters_is_told_at_the_beginning_and_at_the_end(
    kafka_server: KafkaServer, kafka_topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    servers, dead = kafka_server.address(), f"{kafka_topic}.dead"
    await create_topic(servers, kafka_topic)
    await create_topic(servers, dead, settings={"cleanup.policy": "compact"})  # nothing without key
    settings = KafkaSettings(section=Kafka(servers=servers), record_size_max=100_000)
    letters = DeadLetters(dead, settings)
    try:
        await prepared(letters, kafka_server, kafka_topic)
        putting = asyncio.create_task(letters.put(kafka_topic, LETTERS))
        trouble = await until_in_trouble(letters)
        assert trouble.startswith(f"the Kafka topic {dead}: writes of dead letters fail: ")
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        try:
            takes_all = {"cleanup.policy": "delete"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, dead, takes_all)])
        finally:
            await admin.close()
        async with asyncio.timeout(WITHIN_S):
            await putting
        assert letters.trouble is None
    finally:
        await letters.close()
    found = await read_topic(servers, dead)
    assert [dict(at.headers)[REASON] for at in found] == [b"it is no JSON"] * 2
    begun, ended = told(caplog)
    assert begun.startswith(f"the Kafka topic {dead}: writes of dead letters fail, and are repeat")
    assert ended.startswith(f"the Kafka topic {dead}: works again, after ")


async def test_a_quarantine_that_is_away_is_told_at_the_beginning_and_at_the_end(
    kafka_server: KafkaServer,
    kafka_topic: str,
    hasty_postgres: PostgresServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    await create_topic(kafka_server.address(), kafka_topic)
    database = hasty_postgres.create_database()
    url = hasty_postgres.url(database)
    await (await open_database(url)).close()  # as the broker has made it
    quarantine = Quarantine(parse_url(url))
    try:
        await prepared(quarantine, kafka_server, kafka_topic)
        await quarantine.put(kafka_topic, LETTERS[:1])
        hasty_postgres.kill()
        putting = asyncio.create_task(quarantine.put(kafka_topic, LETTERS[1:]))
        trouble = await until_in_trouble(quarantine)
        assert trouble.startswith("the quarantine of Kafka.Ingress: writes fail: ")
        await asyncio.to_thread(hasty_postgres.start)
        async with asyncio.timeout(WITHIN_S):
            await putting
        assert quarantine.trouble is None
    finally:
        await quarantine.close()
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT position, reason FROM quarantine ORDER BY position")
    finally:
        await connection.close()
    assert [tuple(row) for row in rows] == [(5, "it is no JSON"), (6, "it is no JSON")]
    begun, ended = told(caplog)
    assert begun.startswith("the quarantine of Kafka.Ingress: writes fail, and are repeated: ")
    assert ended.startswith("the quarantine of Kafka.Ingress: works again, after ")
