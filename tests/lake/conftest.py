"""One filled bus for all tests of the data lake; they only read it."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.lake.document import TOPIC
from tests.lake.filled_bus import FilledBus, fill
from tests.lake.rights import LOGIN, give_rights, guarded_server, login
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """The server of all these tests; users of its port for logins may do what they are allowed."""
    server = guarded_server()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def bus(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_server: KafkaServer,
    postgres_server: PostgresServer,
) -> FilledBus:
    """A topic that MQTT clients and an MCP server have filled, with notes among the messages.

    Edge, projectors and MCP server were users with the rights that the document gives them. They
    have stopped, so that all readers find the same.
    """
    give_rights(kafka_server, tmp_path_factory.mktemp("bin"))
    folder = tmp_path_factory.mktemp("stack")
    stack = KafkaStack(folder, kafka_server.address(LOGIN), TOPIC, postgres_server, edges=1)
    stack.settings["Kafka"]["Security"] = {"Protocol": LOGIN, "Mechanism": "PLAIN"}
    stack.write()
    users = {stack.edges[0]: "edge", stack.views: "projector", stack.sessions: "projector"}
    try:
        for process, user in users.items():
            process.launch(env=login(user))
        for process in users:
            process.wait_until_listening()
        return asyncio.run(fill(stack, kafka_server.address()))
    finally:
        stack.close()
