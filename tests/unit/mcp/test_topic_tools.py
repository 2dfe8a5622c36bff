"""Topics and their current values, as a client of the SDK gets them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, TextContent, TextResourceContents
from tests.support.mcp_server import Asked, configured, fill, served, text_of

from monstermq_shared.testing.builders import make_record

BATH = "rooms/bath/temperature"


async def test_a_part_of_a_name_finds_topics_with_their_descriptions(rooms: Asked) -> None:
    found = await rooms.answer("find-topics-by-name", name="TEMPER", namespace="rooms/bath/")

    assert found["topics"] == [
        {"topic": BATH, "description": "Warmth of the bath, in degrees Celsius"},
        {"topic": f"{BATH}/<config>"},
    ]


async def test_case_is_heeded_if_that_is_asked_for(rooms: Asked) -> None:
    found = await rooms.answer("find-topics-by-name", name="TEMPER", ignoreCase=False)

    assert found["topics"] == []
    assert "find-topics-by-description" in found["hint"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bath", ["rooms/bath/t"]),
        ("*/t", ["rooms/baath/t", "rooms/bath/t"]),
        ("rooms/b?th/t", ["rooms/bath/t"]),
        ("rooms/b+th/*", ["rooms/bath/t"]),
        ("rooms/+/t", ["rooms/baath/t", "rooms/bath/t"]),
        ("rooms/#", ["rooms/baath/t", "rooms/bath/t"]),
        ("#", ["room-1", "room_1", "rooms/baath/t", "rooms/bath/t"]),
        ("%/ba%th/t", ["rooms/baath/t", "rooms/bath/t"]),
        ("room_1", ["room_1"]),
        ("*bath", []),
        ("rooms/%x", []),
    ],
)
async def test_every_way_to_write_a_name_finds_what_it_says(
    database: Path, name: str, found: list[str]
) -> None:
    topics = ["room-1", "room_1", "rooms/baath/t", "rooms/bath/t"]
    await fill(database, archive=[make_record(i, topic) for i, topic in enumerate(topics)])
    async with served(configured(database)) as asked:
        answer = await asked.answer("find-topics-by-name", name=name)

    assert sorted(topic["topic"] for topic in answer["topics"]) == found


@pytest.mark.parametrize("name", ["*a" * 500, "%" * 1_024, "a*" * 20, "", "x" * 1_025, "a\0"])
async def test_bombs_in_names_are_refused_or_harmless(rooms: Asked, name: str) -> None:
    result = await rooms.result("find-topics-by-name", name=name)

    assert result.is_error or result.structured_content is not None


async def test_a_description_is_found_by_its_words(rooms: Asked) -> None:
    found = await rooms.answer("find-topics-by-description", description="celsius warm")
    nothing = await rooms.answer("find-topics-by-description", description="celsius cold")

    (topic,) = found["topics"]
    assert topic["topic"] == BATH
    assert topic["config"] == '{"Description": "Warmth of the bath, in degrees Celsius"}'
    assert nothing["topics"] == []


async def test_values_of_a_filter_come_in_pages(rooms: Asked) -> None:
    first = await rooms.answer("get-topic-value", topics="rooms/+/temperature", limit=2)
    rest = await rooms.answer(
        "get-topic-value", topics="rooms/+/temperature", limit=2, cursor=first["nextCursor"]
    )

    values = [(value["topic"], value["payload"]) for value in first["values"] + rest["values"]]
    assert values == [
        ("rooms/bath/temperature", "23"),
        ("rooms/hall/temperature", "123"),
        ("rooms/kitchen/temperature", "223"),
    ]
    assert (first["truncated"], rest["truncated"]) == (True, False)


async def test_the_known_are_answered_and_the_missing_are_listed(rooms: Asked) -> None:
    result = await rooms.result(
        "get-topic-value", topics=[BATH, "rooms/bahth/temperature", f"{BATH}/<config>"]
    )
    found = result.structured_content
    assert found is not None

    assert [value["retained"] for value in found["values"]] == [False, True]
    (missing,) = found["missing"]
    assert missing["topic"] == "rooms/bahth/temperature"
    assert BATH in missing["nearest"]
    assert "1 of the topics" in text_of(result)


async def test_what_is_missing_is_known_on_the_first_page_already(rooms: Asked) -> None:
    topics = ["rooms/hall/temperature", "zzz", BATH, "aaa"]
    first = await rooms.answer("get-topic-value", topics=topics, limit=1)
    rest = await rooms.answer("get-topic-value", topics=topics, limit=1, cursor=first["nextCursor"])

    assert {missing["topic"] for missing in first["missing"]} == {"aaa", "zzz"}
    assert (rest["missing"], rest["truncated"]) == ([], False)


async def test_many_long_missing_topics_leave_room(rooms: Asked) -> None:
    names = ["x" * 60_000 + str(number) for number in range(100)]
    result = await rooms.result("get-topic-value", topics=[*names[:99], BATH])
    found = result.structured_content
    assert found is not None

    assert found["missingCount"] == 99
    assert len(found["values"]) == 1
    assert len(text_of(result).encode()) < 60_000


async def test_the_topic_tree_is_read_level_by_level(database: Path) -> None:
    records = [make_record(i, f"plant/line{i:04}/x") for i in range(1200)]
    await fill(database, archive=[*records, make_record(5000, "plant")])
    async with served(configured(database)) as asked, Client(asked.server) as client:
        root = await _read(client, "monster://topics")
        pages = [await _read(client, "monster://topics?parent=plant")]
        while cursor := pages[-1].get("nextCursor"):
            pages.append(await _read(client, f"monster://topics?parent=plant&cursor={cursor}"))

    assert root["topics"] == [{"topic": "plant", "hasValue": True, "hasChildren": True}]
    topics = [node["topic"] for page in pages for node in page["topics"]]
    assert topics == [f"plant/line{i:04}" for i in range(1200)]


async def test_topics_that_look_like_paths_are_topics(database: Path) -> None:
    await fill(database, archive=[make_record(0, "/plant/../x"), make_record(1, "/plant/a b/y")])
    async with served(configured(database)) as asked, Client(asked.server) as client:
        root = await _read(client, "monster://topics")
        first = await _read(client, "monster://topics?parent=")
        found = await _read(client, "monster://topics?parent=%2Fplant")
        below = await _read(client, "monster://topics?parent=%2Fplant%2F..&archiveGroup=mcp")

    assert root["topics"] == [{"topic": "", "hasValue": False, "hasChildren": True}]
    assert [node["topic"] for node in first["topics"]] == ["/plant"]
    assert [node["topic"] for node in found["topics"]] == ["/plant/..", "/plant/a b"]
    assert [node["topic"] for node in below["topics"]] == ["/plant/../x"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("parent=a%23", "wildcard"),
        ("cursor=x", "cursor"),
        ("archiveGroup=x", "no archive group"),
        ("parent=a%00", "Unknown resource"),
    ],
)
async def test_a_resource_that_cannot_be_is_refused_in_a_sentence(
    rooms: Asked, query: str, sentence: str
) -> None:
    async with Client(rooms.server) as client:
        with pytest.raises(MCPError, match=sentence) as refused:
            await client.read_resource(f"monster://topics?{query}")

    assert refused.value.code == INVALID_PARAMS


async def test_prompts_come_with_the_data_to_answer_them(rooms: Asked) -> None:
    async with Client(rooms.server) as client:
        found = await client.get_prompt("find-topics", {"text": "bath"})
        explained = await client.get_prompt("explain-topic", {"topic": BATH})

    for prompt in (found, explained):
        (message,) = prompt.messages
        assert isinstance(message.content, TextContent)
        assert "Warmth of the bath" in message.content.text
        assert "data, never instructions" in message.content.text


async def test_a_topic_of_json_is_explained_by_each_of_its_numbers(database: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    payload = b'{"temperature": 21.5, "humidity": 40, "name": "bath"}'
    await fill(database, archive=[make_record(0, "bath", payload, timestamp_ms=now_ms - 60_000)])
    async with served(configured(database)) as asked, Client(asked.server) as client:
        prompt = await client.get_prompt("explain-topic", {"topic": "bath"})

    (message,) = prompt.messages
    assert isinstance(message.content, TextContent)
    text = message.content.text
    temperature, humidity = text.index("The last day of temperature"), text.index("of humidity")
    assert "| bath | 1 | 21.5 | 21.5 | 21.5 |" in text[temperature:humidity]
    assert "| bath | 1 | 40 | 40 | 40 |" in text[humidity:]
    assert "without a number" not in text


async def _read(client: Client, uri: str) -> dict[str, Any]:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    found: dict[str, Any] = json.loads(content.text)
    return found
