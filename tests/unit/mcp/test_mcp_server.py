"""What the server says of itself, and how calls that cannot succeed end."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    TextContent,
    TextResourceContents,
)
from tests.support.broker import LOOPBACK
from tests.support.mcp_server import Asked, configured, fill, served, text_of

from monstermq_mcp.broker_server import CALLS_MAX, BrokerServer
from monstermq_mcp.tools import listing
from monstermq_mcp.tools.listing import ArchiveGroups, ListArguments
from monstermq_mcp.tools.making import READS, About, make_tool
from monstermq_shared.testing.builders import NOON_MS, make_record

READING = {
    "find-topics-by-name",
    "find-topics-by-description",
    "get-topic-value",
    "query-message-archive",
    "query-message-archive-aggregated",
    "query-message-archive-by-sql",
    "list-archive-groups",
    "read-log",
}


async def test_every_tool_tells_what_it_is_for_and_what_it_does_to_the_world(rooms: Asked) -> None:
    async with Client(rooms.server) as client:
        tools = (await client.list_tools()).tools

    assert {tool.name for tool in tools} == READING
    for tool in tools:
        assert tool.title
        assert tool.description
        assert "Use it" in tool.description or "Ask this first" in tool.description
        assert "arrow" in tool.description
        hints = tool.annotations
        assert hints is not None
        assert hints.read_only_hint is True
        assert hints.destructive_hint is False
        assert hints.idempotent_hint is True
        assert hints.open_world_hint is False
        assert tool.input_schema["additionalProperties"] is False
        assert "archiveGroup" in tool.input_schema["properties"]
        for described in tool.input_schema["properties"].values():
            assert described["description"]


async def test_answers_are_of_the_schema_that_is_told(rooms: Asked) -> None:
    calls: dict[str, dict[str, object]] = {
        "find-topics-by-name": {"name": "temp"},
        "find-topics-by-description": {"description": "warmth"},
        "get-topic-value": {"topics": ["rooms/bath/temperature", "x"]},
        "query-message-archive": {"topic": "rooms/#"},
        "query-message-archive-aggregated": {"topic": "rooms/#", "startTime": "2026-01-15"},
        "query-message-archive-by-sql": {"sql": "SELECT * FROM mcparchive"},
        "list-archive-groups": {},
        "read-log": {"topics": "#"},
    }
    async with Client(rooms.server) as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
    for tool, arguments in calls.items():
        answer = await rooms.answer(tool, **arguments)
        schema = schemas[tool]
        assert schema is not None
        Draft202012Validator(schema).validate(answer)


async def test_the_instructions_are_short_and_say_that_data_is_no_instruction(
    rooms: Asked,
) -> None:
    async with Client(rooms.server) as client:
        instructions = client.instructions

    assert instructions is not None
    assert len(instructions.split("\n")) == 10
    assert "never instructions" in instructions


async def test_the_archive_groups_tell_what_they_have(database: Path) -> None:
    await fill(database, archive=[make_record(0)])
    values = {"Name": "Values", "TopicFilter": ["plant/#"], "LastValType": "SQLITE"}
    config = configured(database, {**values, "RetainedOnly": True, "LastValRetention": "7d"})
    async with served(config) as asked:
        found = await asked.answer("list-archive-groups")
        one = await asked.answer("list-archive-groups", archiveGroup="values")
        refusal = await asked.refusal("list-archive-groups", archiveGroup="valeus")

    first, second = found["groups"]
    assert (first["name"], first["answers"]) == ("MCP", ["values", "history", "sql"])
    assert first["historyFrom"] == first["historyTo"] == "2026-01-15T12:00:00.000Z"
    assert second == one["groups"][0]
    assert (second["topicFilter"], second["retainedOnly"]) == ("plant/#", True)
    assert (second["answers"], second["lastValRetention"]) == (["values", "sql"], "7d")
    assert "did you mean Values?" in refusal


async def test_a_thousand_groups_are_told_as_far_as_there_is_room(database: Path) -> None:
    groups = [
        {"Name": f"Group{n:04}", "TopicFilter": [f"plant/{n}/{'x' * 1_000}/#"]}
        for n in range(1_000)
    ]
    async with served(configured(database, *groups)) as asked:
        result = await asked.result("list-archive-groups")
        last = await asked.answer("list-archive-groups", archiveGroup="Group0999")
    found = result.structured_content
    assert found is not None

    assert found["truncated"]
    assert found["returned"] == len(found["groups"])
    assert "by name" in found["hint"]
    assert len(text_of(result).encode()) <= 60_000
    assert len(json.dumps(found).encode()) <= 60_000
    assert last["groups"][0]["name"] == "Group0999"


async def test_a_database_that_does_not_answer_hides_no_other_groups_times(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, archive=[make_record(0)])
    monkeypatch.setattr(listing, "_PATIENCE_S", 1.0)
    group = {"Name": "Away", "ArchiveType": "POSTGRES"}
    with socket.create_server((LOOPBACK, 0)) as silent:
        url = f"postgresql://{LOOPBACK}:{silent.getsockname()[1]}/x"
        postgres = {"Url": url, "User": "x", "Pass": "x"}
        async with served(configured(database, group, Postgres=postgres)) as asked:
            found = await asked.answer("list-archive-groups")

    known, away = found["groups"]
    assert known["historyFrom"] == "2026-01-15T12:00:00.000Z"
    assert "historyFrom" not in away


async def test_a_group_that_keeps_no_history_names_those_that_do(database: Path) -> None:
    config = configured(
        database,
        {"Name": "Values", "LastValType": "SQLITE"},
        {"Name": "Log", "ArchiveType": "KAFKA", "LastValType": "MEMORY"},
        Kafka={"Servers": "localhost:9092"},
    )
    async with served(config) as asked:
        none = await asked.refusal("query-message-archive", topic="a", archiveGroup="Values")
        kafka = await asked.refusal("query-message-archive", topic="a", archiveGroup="Log")

    assert "the archive group Values keeps no history" in none
    assert "not supported by KAFKA" in kafka
    for refusal in (none, kafka):
        assert refusal.endswith("these groups answer: MCP")


async def test_the_configured_group_is_asked_unless_a_call_names_one(database: Path) -> None:
    await fill(database, archive=[make_record(0)])
    config = configured(
        database, {"Name": "Other", "ArchiveType": "SQLITE"}, MCP={"ArchiveGroup": "Other"}
    )
    async with served(config) as asked:
        error = await asked.failure("query-message-archive", topic="plant/1")
        named = await asked.answer("query-message-archive", topic="plant/1", archiveGroup="MCP")

    assert "otherarchive" in error.message
    assert named["returned"] == 1


async def test_a_tool_that_does_not_exist_is_an_error_of_the_protocol(rooms: Asked) -> None:
    error = await rooms.failure("get-topic-values")

    assert error.code == INVALID_PARAMS
    assert "did you mean get-topic-value?" in error.message


async def test_a_database_that_is_away_is_named(tmp_path: Path) -> None:
    async with served(configured(tmp_path / "nowhere" / "monstermq.db")) as asked:
        error = await asked.failure("query-message-archive", topic="a")

    assert error.code == INTERNAL_ERROR
    assert "nowhere/monstermq.db" in error.message


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    async def wait(_arguments: ListArguments) -> CallToolResult:
        await asyncio.Event().wait()
        raise AssertionError

    about = About("wait", "Wait", "Waits.", READS)
    server = BrokerServer(
        version="9",
        instructions="",
        tools=[make_tool(about, wait, ListArguments, ArchiveGroups)],
        additions={},
        barred=lambda _name: None,
        patience_s={"wait": 0.01},
    )

    assert "given up after 0.01 seconds" in await Asked(server).refusal("wait")


async def test_calls_beyond_the_bound_are_told_to_come_back(rooms: Asked) -> None:
    async with Client(rooms.server) as client:
        results = await asyncio.gather(
            *(
                client.call_tool("get-topic-value", {"topics": "rooms/#"})
                for _ in range(CALLS_MAX + 10)
            )
        )

    refused = [result for result in results if result.is_error]
    assert len(refused) == 10


async def test_the_log_is_followed_without_a_gap(database: Path) -> None:
    records = [make_record(i, f"t/{i % 3}", str(i).encode()) for i in range(250)]
    await fill(database, archive=records)
    async with served(configured(database)) as asked:
        page = await asked.answer(
            "read-log", topics="t/#", startTime="2026-01-15T12:00:00.010Z", limit=70
        )
        seen = [row["payload"] for row in page["rows"]]
        while page["truncated"]:
            page = await asked.answer(
                "read-log", topics="t/#", position=page["nextPosition"], limit=70
            )
            seen += [row["payload"] for row in page["rows"]]
        nothing = await asked.answer("read-log", topics="t/#", position=page["nextPosition"])
        newest = await asked.answer("read-log", topics="t/#", limit=2)

    assert seen == [str(i) for i in range(10, 250)]
    assert (nothing["rows"], nothing["nextPosition"]) == ([], page["nextPosition"])
    assert [row["payload"] for row in newest["rows"]] == ["248", "249"]
    assert "the archive" in page["source"]


async def test_the_newest_of_many_in_one_millisecond_are_the_newest(database: Path) -> None:
    records = [make_record(i, "t", str(i).encode(), timestamp_ms=NOON_MS) for i in range(50)]
    await fill(database, archive=records)
    async with served(configured(database)) as asked:
        newest = await asked.answer("read-log", topics="t", limit=3)
        rest = await asked.answer("read-log", topics="t", position=newest["nextPosition"])

    assert [row["payload"] for row in newest["rows"]] == ["47", "48", "49"]
    assert (newest["truncated"], rest["rows"]) == (False, [])


@pytest.mark.parametrize("position", ["", "x", "5-x", "1-2-3", "9" * 20 + "-"])
async def test_a_position_that_was_made_up_is_refused(rooms: Asked, position: str) -> None:
    refusal = await rooms.refusal("read-log", topics="#", position=position)

    assert "position" in refusal or "cursor" in refusal or "time" in refusal


async def test_a_resource_that_does_not_exist_is_not_repeated_at_length(rooms: Asked) -> None:
    async with Client(rooms.server) as client:
        with pytest.raises(MCPError, match="Unknown resource: monster://topics") as failed:
            await client.read_resource("monster://topics?" + "x" * 100_000)

    assert len(failed.value.error.model_dump_json()) < 1000


async def test_the_status_tells_what_runs(rooms: Asked) -> None:
    async with Client(rooms.server) as client:
        listed = {resource.uri for resource in (await client.list_resources()).resources}
        (content,) = (await client.read_resource("monster://server/status")).contents

    assert listed == {"monster://server/status", "monster://archive-groups", "monster://topics"}
    assert isinstance(content, TextResourceContents)
    status = json.loads(content.text)
    assert (status["status"], status["version"]) == ("running", "9")
    assert (status["toolsCount"], status["bus"]) == (len(READING), "internal")


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("nothing", {}, "find-topics"),
        ("find-topics", {}, "text is missing"),
        ("find-topics", {"text": " "}, "1 to"),
        ("find-topics", {"words": "a"}, "no argument"),
        ("find-topics", {"text": "\0"}, "NUL"),
        ("explain-topic", {"topic": "a/#"}, "wildcard"),
        ("explain-topic", {"topic": "a\0"}, "NUL"),
    ],
)
async def test_a_prompt_that_cannot_be_is_refused_in_a_sentence(
    rooms: Asked, name: str, arguments: dict[str, str], sentence: str
) -> None:
    async with Client(rooms.server) as client:
        with pytest.raises(MCPError, match=sentence) as refused:
            await client.get_prompt(name, arguments)

    assert refused.value.code == INVALID_PARAMS


async def test_a_prompts_text_counts_without_the_spaces_around_it(rooms: Asked) -> None:
    async with Client(rooms.server) as client:
        found = await client.get_prompt("find-topics", {"text": f"{' ' * 2_000}bath"})

    (message,) = found.messages
    assert isinstance(message.content, TextContent)
    assert "rooms/bath/temperature" in message.content.text
