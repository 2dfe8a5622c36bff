"""Projectors that archive in Kafka what stands on the bus: everything is there, in order."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import new_topic_name, read_topic
from tests.support.projectors import ProjectorProcess, Setting, Writer, until

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration


class Archived:
    """What stands in the topic of a group."""

    def __init__(self, servers: str, group: str) -> None:
        self.group = group
        self._servers = servers
        self.again = 0

    async def payloads(self) -> dict[str, list[bytes]]:
        """Return MQTT topic -> payloads in order, each record once."""
        found: dict[str, dict[str, bytes]] = {}
        records = await read_topic(self._servers, self.group)
        for record in records:
            members = json.loads(record.value)
            assert record.key == members["topic"].encode()
            assert [name for name, _ in record.headers] == ["monstermq-log"]
            of_topic = found.setdefault(members["topic"], {})
            of_topic.setdefault(members["id"], members["payload"].encode())
        self.again = len(records) - sum(map(len, found.values()))
        return {topic: [*ids.values()] for topic, ids in found.items()}


@pytest.fixture
def archived(kafka_server: KafkaServer) -> Archived:
    return Archived(kafka_server.address(), new_topic_name())


@pytest.fixture
def setting(
    tmp_path: Path, kafka_server: KafkaServer, postgres_database: str, archived: Archived
) -> Setting:
    group = {"Name": archived.group, "TopicFilter": ["plant/#"], "ArchiveType": "KAFKA"}
    return Setting(
        tmp_path, kafka_server.address(), postgres_database, more={"ArchiveGroups": [group]}
    )


@pytest.fixture
async def projector(setting: Setting) -> AsyncIterator[ProjectorProcess]:
    projector = ProjectorProcess(setting)
    yield projector
    projector.close()


async def some_load(writer: Writer, count: int) -> None:
    for number in range(count):
        await writer.publish(f"plant/{number % 10}", b"%d" % number, b"%d again" % number)
        await writer.publish("elsewhere", b"%d" % number)


def wanted(writer: Writer) -> dict[str, list[bytes]]:
    return {topic: sent for topic, sent in writer.sent.items() if topic != "elsewhere"}


async def test_the_archive_is_a_fold_of_the_log(
    setting: Setting, projector: ProjectorProcess, archived: Archived
) -> None:
    await projector.start()
    async with setting.bus() as writer:
        await some_load(writer, 100)

        async def done() -> bool:
            return await archived.payloads() == wanted(writer)

        await until(done, projector)
    assert archived.again == 0
    assert await projector.stop() == ExitCode.OK
    assert "ERROR monstermq" not in projector.log


async def test_a_killed_projector_leaves_nothing_out(
    setting: Setting, projector: ProjectorProcess, archived: Archived
) -> None:
    await projector.start()
    async with setting.bus() as writer:
        for _ in range(4):
            await some_load(writer, 50)
            await projector.kill()
            await some_load(writer, 50)
            await projector.start()

        async def done() -> bool:
            return await archived.payloads() == wanted(writer)

        await until(done, projector)
