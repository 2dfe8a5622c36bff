"""What edges and projectors say when Kafka or the database is not as they need it."""

import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.kafka_scenes import KafkaScene
from tests.integration.observing import until_logged, until_metric
from tests.support.broker import LOOPBACK, RunningBroker, free_ports
from tests.support.kafka import KafkaServer
from tests.support.kafka_security import PASSWORD, USER, Security
from tests.support.kafka_stack import KafkaStack, StackProcess
from tests.support.kafka_tools import delete_topics
from tests.support.postgres import PostgresServer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

BOUND_S = 60.0


@pytest.fixture(scope="module")
def strict_kafka() -> Iterator[KafkaServer]:
    """A server that wants a login, and gives no right to anybody."""
    server = KafkaServer(security=Security(sasl=True, authorize=True))
    try:
        yield server.start()
    finally:
        server.close()


async def assert_refused(stack: KafkaStack, exit_code: ExitCode, *words: str) -> None:
    """Assert that edge and projectors end by themselves with this status, and say these words."""
    await assert_refused_by([stack.edges[0], stack.views, stack.sessions], stack, exit_code, *words)


async def assert_refused_by(
    processes: Sequence[StackProcess], stack: KafkaStack, exit_code: ExitCode, *words: str
) -> None:
    """Assert the same of some processes."""
    stack.write()
    ends = await asyncio.gather(*(asyncio.to_thread(p.run_to_end) for p in processes))
    for process, (status, said) in zip(processes, ends, strict=True):
        assert status == exit_code, f"{process.directory.name} ended with {status}: {said}"
        missing = [word for word in words if word not in said]
        assert not missing, f"{process.directory.name} does not say {missing}: {said}"


def security(password: str) -> dict[str, Any]:
    """Return the section of a login."""
    return {
        "Protocol": "SASL_PLAINTEXT",
        "Mechanism": "SCRAM-SHA-512",
        "User": USER,
        "Pass": password,
    }


@pytest.fixture
def stack(tmp_path: Path, strict_kafka: KafkaServer, postgres_server: PostgresServer) -> KafkaStack:
    """A stack on that server, none of whose processes runs."""
    return KafkaStack(tmp_path, strict_kafka.address("SASL_PLAINTEXT"), "bus", postgres_server)


async def test_a_server_that_is_not_there_is_named(stack: KafkaStack) -> None:
    nowhere = f"{LOOPBACK}:{free_ports(1)[0]}"
    stack.settings["Kafka"]["Servers"] = nowhere
    await assert_refused(stack, ExitCode.BUS_UNREACHABLE, "Kafka.Servers", nowhere)


async def test_a_wrong_password_is_told(stack: KafkaStack) -> None:
    stack.settings["Kafka"]["Security"] = security("wrong")
    await assert_refused(stack, ExitCode.BUS_UNREACHABLE, "Kafka.Security.User and Pass")


async def test_a_user_without_rights_is_told_which(stack: KafkaStack) -> None:
    stack.settings["Kafka"]["Security"] = security(PASSWORD)
    await assert_refused(stack, ExitCode.BUS_UNREACHABLE, "Kafka.Security.User", "ACL")


async def test_a_login_that_the_server_does_not_want_is_told(
    stack: KafkaStack, strict_kafka: KafkaServer
) -> None:
    stack.settings["Kafka"]["Servers"] = strict_kafka.address()
    stack.settings["Kafka"]["Security"] = security(PASSWORD)
    await assert_refused(stack, ExitCode.BUS_UNREACHABLE, "Kafka.Security")


async def test_a_database_that_is_away_ends_a_projector_and_is_named(
    kafka_scene: KafkaScene,
) -> None:
    """An edge waits for it, see ``test_kafka_outages.py``."""
    stack = kafka_scene.stack
    nowhere = f"{LOOPBACK}:{free_ports(1)[0]}"
    stack.settings["Postgres"]["Url"] = f"postgresql://system:manager@{nowhere}/monster"
    stack.write()
    for process in (stack.views, stack.sessions):
        status, said = await asyncio.to_thread(process.run_to_end)
        assert status == ExitCode.STORE_UNREACHABLE, said
        assert nowhere in said


async def test_a_database_of_another_log_is_refused_until_it_is_given_away(
    kafka_scene: KafkaScene,
) -> None:
    scene, stack = kafka_scene, kafka_scene.stack
    await fill(scene)
    before, after = stack.topic, f"{stack.topic}-next"
    stack.settings["Kafka"]["Bus"]["Topic"] = after
    await assert_refused(stack, ExitCode.STORE_OF_ANOTHER_LOG, before, "monstermq db adopt")
    assert f":{before}, and now to " in await adopt(stack)
    await asyncio.to_thread(stack.start)
    await scene.until_ready()
    stack.settings["Kafka"]["Bus"]["Topic"] = before
    await assert_refused_by(
        [stack.projector(stack.config_path.parent / "late", "VIEWS")],
        stack,
        ExitCode.STORE_OF_ANOTHER_LOG,
        after,
    )


async def adopt(stack: KafkaStack) -> str:
    """Give the database to the log that the configuration names; return what is said."""
    command = (sys.executable, "-m", "monstermq", "db", "adopt", "-config", str(stack.config_path))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == ExitCode.OK
    return said.decode()


async def test_a_database_of_the_internal_bus_is_refused(
    kafka_scene: KafkaScene, broker: RunningBroker
) -> None:
    stack = kafka_scene.stack
    stores = {key: value for key, value in stack.settings.items() if key != "Kafka"}
    await asyncio.to_thread(broker.start, yaml.safe_dump(stores))
    assert await asyncio.to_thread(broker.stop) == ExitCode.OK
    await assert_refused(stack, ExitCode.STORE_OF_ANOTHER_LOG, "monstermq db adopt")


async def test_a_database_of_kafka_is_refused_on_the_internal_bus(
    kafka_scene: KafkaScene, broker: RunningBroker
) -> None:
    stack = kafka_scene.stack
    await asyncio.to_thread(stack.views.start)
    await asyncio.to_thread(stack.views.stop)
    stores = {key: value for key, value in stack.settings.items() if key != "Kafka"}
    status, said = await asyncio.to_thread(broker.run_to_end, yaml.safe_dump(stores))
    assert status == ExitCode.STORE_OF_ANOTHER_LOG, said
    assert stack.topic in said


async def fill(scene: KafkaScene) -> None:
    """Leave something in log and tables, with no process running."""
    await scene.begin()
    await until_metric(scene.stack.views, "monstermq_rows_written_total", 100, BOUND_S)
    await scene.close()
    for process in scene.stack.processes:
        assert await asyncio.to_thread(process.stop) == ExitCode.OK, process.log_text()


async def test_a_topic_that_was_made_again_is_refused(kafka_scene: KafkaScene) -> None:
    scene, stack = kafka_scene, kafka_scene.stack
    await fill(scene)
    await delete_topics(stack.servers, stack.topic, stack.sessions_topic)
    await assert_refused(
        stack, ExitCode.STORE_OF_ANOTHER_LOG, "Kafka.Bus.Topic", "monstermq db adopt"
    )


async def test_a_topic_that_goes_under_way_ends_everybody_loudly(kafka_scene: KafkaScene) -> None:
    scene, stack = kafka_scene, kafka_scene.stack
    await scene.begin()
    await delete_topics(stack.servers, stack.topic, stack.sessions_topic)
    told = f"CRITICAL .* Kafka.Bus.Topic: the topic {stack.topic}"
    for process in (stack.views, stack.sessions):
        assert await asyncio.to_thread(process.has_ended, within_s=BOUND_S), process.log_text()
        assert process.wait() == ExitCode.BUS_MISMATCH
        assert re.search(told, process.log_text())
    for edge in stack.edges:  # these end too, once they have tried to get rid of what they have
        await until_logged(edge, f" Kafka.Bus.Topic: the topic {stack.topic}", BOUND_S)
        assert re.search(told, edge.log_text())
