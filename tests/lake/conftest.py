"""One filled bus for all tests of the data lake; they only read it."""

import asyncio

import pytest
from tests.lake.filled_bus import FilledBus, fill
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.kafka_tools import new_topic_name
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def bus(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_server: KafkaServer,
    postgres_server: PostgresServer,
) -> FilledBus:
    """A topic that MQTT clients have filled, with control records among the messages.

    The broker has stopped, so that all readers find the same.
    """
    folder = tmp_path_factory.mktemp("stack")
    stack = KafkaStack(folder, kafka_server.address(), new_topic_name(), postgres_server, edges=1)
    try:
        stack.start()
        filled = asyncio.run(fill(stack))
    finally:
        stack.close()
    return filled
