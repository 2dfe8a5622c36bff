"""The MCP tools of a broker, over HTTP, while MQTT clients publish to it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST, TextContent
from tests.support.mcp_broker import Served
from tests.support.mcp_serving import READER, WRITER
from tests.support.mqtt_peer import Peer, Publish
from tests.support.postgres import PostgresServer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

BOUND_S = 60.0
SQLITE = {"LastValType": "SQLITE", "ArchiveType": "SQLITE"}
POSTGRES = {"LastValType": "POSTGRES", "ArchiveType": "POSTGRES"}

AVERAGES = {
    "SQLITE": """
        SELECT topic, AVG(payload) AS avg_value
        FROM mcparchive
        WHERE topic LIKE 'sensors/%'
        AND time > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour')
        GROUP BY topic ORDER BY topic
    """,
    "POSTGRES": """
        SELECT topic, AVG(payload::float) as avg_value
        FROM mcparchive
        WHERE topic LIKE 'sensors/%'
        AND time > NOW() - INTERVAL '1 hour'
        GROUP BY topic ORDER BY topic
    """,
}
"""The README's statement, in the SQL of each."""


@asynccontextmanager
async def client_of(served: Served, token: str | None = None) -> AsyncIterator[Client]:
    """A client that shows a token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        asyncio.timeout(BOUND_S),
        httpx2.AsyncClient(headers=headers, timeout=BOUND_S) as http,
        Client(streamable_http_client(served.mcp_url, http_client=http)) as client,
    ):
        yield client


async def answer(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    found = await client.call_tool(tool, arguments)
    assert not found.is_error, found.content
    assert found.structured_content is not None
    content: dict[str, Any] = found.structured_content
    return content


async def publish(served: Served, *messages: tuple[str, str]) -> None:
    """Publish at QoS 1: once this returns, what the session store's database has is committed."""
    peer = await Peer.open(served.tcp_port)
    await peer.connect("sensor")
    for topic, payload in messages:
        await peer.publish(topic, payload.encode(), qos=1)
    await peer.disconnect()


def make_reader(folder: Path) -> None:
    """Let the role of the configuration read, as an operator does."""
    command = [sys.executable, "-m", "monstermq", "db", "init", "-config", "config.yaml"]
    made = subprocess.run(command, cwd=folder, capture_output=True, timeout=BOUND_S, check=False)
    assert made.returncode == ExitCode.OK, made.stderr.decode()


async def read_me(served: Served, database: str) -> None:
    """Make the README's three calls, and look at what comes back."""
    await publish(served, *[("sensors/temperature", f"2{n}") for n in range(5)])
    await publish(served, ("sensors/humidity", "40"), ("sensors/humidity", "50"))
    async with client_of(served) as client:
        async with asyncio.timeout(BOUND_S):
            while True:
                current = await answer(client, "get-topic-value", topics=["sensors/#"])
                if [value["payload"] for value in current["values"]] == ["50", "24"]:
                    break
        history = await answer(
            client,
            "query-message-archive",
            topic="sensors/temperature",
            startTime="2024-01-01T00:00:00Z",
            limit=1000,
        )
        results = await answer(client, "query-message-archive-by-sql", sql=AVERAGES[database])

    assert [value["topic"] for value in current["values"]] == [
        "sensors/humidity",
        "sensors/temperature",
    ]
    assert [row["payload"] for row in history["rows"]] == ["24", "23", "22", "21", "20"]
    assert history["truncated"] is False
    assert results["rows"] == [["sensors/humidity", 45], ["sensors/temperature", 22]]


async def test_the_readmes_calls_on_sqlite(served: Served) -> None:
    served.serve(SQLITE)
    await read_me(served, "SQLITE")


async def test_the_readmes_calls_on_postgresql(
    served: Served, postgres_server: PostgresServer
) -> None:
    database = postgres_server.create_database()
    reader = f"reader_of_{database}"
    section = {"Url": postgres_server.url(database), "ReadUser": reader, "ReadPass": "reads"}
    served.serve(
        POSTGRES, SessionStoreType="POSTGRES", RetainedStoreType="POSTGRES", Postgres=section
    )
    postgres_server.psql(f"CREATE ROLE {reader} LOGIN PASSWORD 'reads'")
    await asyncio.to_thread(make_reader, served.directory)
    await read_me(served, "POSTGRES")


async def test_sql_on_postgresql_needs_a_role_that_only_reads(
    served: Served, postgres_server: PostgresServer
) -> None:
    section = {"Url": postgres_server.url(postgres_server.create_database())}
    served.serve(
        POSTGRES, SessionStoreType="POSTGRES", RetainedStoreType="POSTGRES", Postgres=section
    )
    async with client_of(served) as client:
        refused = await client.call_tool("query-message-archive-by-sql", {"sql": "SELECT 1"})

    assert refused.is_error
    assert "Postgres.ReadUser" in str(refused.content)


async def test_values_in_memory_are_found_and_read(served: Served) -> None:
    served.serve({"LastValType": "MEMORY"}, RetainedStoreType="MEMORY")
    await publish(served, ("sensors/temperature", "21"), ("sensors/humidity", "40"))
    async with client_of(served) as client:
        values = await answer(client, "get-topic-value", topics=["sensors/+"])
        found = await answer(client, "find-topics-by-name", name="humid")
        refused = await client.call_tool("query-message-archive", {"topic": "sensors/humidity"})

    assert [value["payload"] for value in values["values"]] == ["40", "21"]
    assert [topic["topic"] for topic in found["topics"]] == ["sensors/humidity"]
    assert refused.is_error
    assert "ArchiveType" in str(refused.content)


async def test_what_is_published_while_somebody_watches_is_seen(served: Served) -> None:
    served.serve(SQLITE)
    async with client_of(served) as client:
        watching = asyncio.create_task(
            answer(client, "watch-topics", topics=["live/#"], seconds=60, limit=3)
        )
        number = 0
        while not watching.done():
            await publish(served, (f"live/{number}", str(number)), ("other", "x"))
            number += 1
        seen = await watching

    first = int(seen["rows"][0]["payload"])
    assert [row["topic"] for row in seen["rows"]] == [f"live/{first + i}" for i in range(3)]
    assert seen["returned"] == 3


async def test_a_watch_ends_when_its_time_is_over(served: Served) -> None:
    served.serve(SQLITE)
    async with client_of(served) as client:
        seen = await answer(
            client, "watch-topics", topics="nothing/#", seconds=0.2, archiveGroup="MCP"
        )
        starred = await answer(client, "watch-topics", topics="rooms/*", seconds=0.2)
        refused = await client.call_tool("watch-topics", {"topics": "a/#/b", "seconds": 1})

    assert (seen["rows"], seen["truncated"]) == ([], False)
    assert "No message came" in seen["hint"]
    assert starred["hint"].endswith("write + for one level, and # for all that follow.")
    assert refused.is_error


async def test_a_value_is_set_by_whoever_has_the_token(served: Served) -> None:
    served.serve(SQLITE, mcp={"AllowPublish": True, "Token": READER, "WriteToken": WRITER})
    peer = await Peer.open(served.tcp_port)
    await peer.connect("machine")
    await peer.subscribe(("machine/speed", 0))
    async with client_of(served, WRITER) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        done = await answer(
            client, "set-topic-value", topic="machine/speed", value=12.5, retain=True
        )
        delivered = await peer.receive()
        value = await answer(client, "get-topic-value", topics="machine/speed")
        refused = await client.call_tool("set-topic-value", {"topic": "machine/#", "value": ""})
    async with client_of(served, READER) as client:
        shown = {tool.name for tool in (await client.list_tools()).tools}
        with pytest.raises(MCPError, match="WriteToken") as denied:
            await client.call_tool("set-topic-value", {"topic": "machine/speed", "value": "99"})
        with pytest.raises(MCPError, match="WriteToken"):
            await client.call_tool("set-topic-value", {"of no": "argument that it has"})
        still = await answer(client, "get-topic-value", topics="machine/speed")
    async with client_of(served, WRITER) as client:
        cleared = await client.call_tool(
            "set-topic-value", {"topic": "machine/speed", "value": "", "retain": True}
        )
    peer.drop()

    hints = tools["set-topic-value"].annotations
    assert hints is not None
    assert (hints.read_only_hint, hints.destructive_hint) == (False, True)
    assert (hints.idempotent_hint, hints.open_world_hint) == (False, True)
    assert done == {"topic": "machine/speed", "payloadSize": 4, "retain": True, "qos": 1}
    assert isinstance(delivered, Publish)
    assert delivered.payload == b"12.5"
    assert (value["values"][0]["payload"], value["values"][0]["retained"]) == ("12.5", True)
    assert refused.is_error
    assert denied.value.code == INVALID_REQUEST
    assert "set-topic-value" not in shown
    assert still["values"][0]["payload"] == "12.5"
    (told,) = cleared.content
    assert isinstance(told, TextContent)
    assert told.text == "Published 0 bytes on machine/speed, and nothing is retained there."


async def test_without_allow_publish_there_is_no_tool_that_publishes(served: Served) -> None:
    served.serve(SQLITE)
    async with client_of(served) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        with pytest.raises(MCPError, match=r"MCP\.AllowPublish.*MCP\.WriteToken"):
            await client.call_tool("set-topic-value", {"topic": "machine/speed", "value": "99"})

    assert len(tools) == 9
    assert "set-topic-value" not in tools
