"""What a model is told when it was nearly right."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.mcp_server import Asked, configured, fill, served

from monstermq_mcp.tools.publishing import PublishArguments
from monstermq_shared.testing.builders import make_record

KITCHEN = "rooms/kitchen/temperature"


async def test_what_another_group_takes_is_told(database: Path) -> None:
    await fill(database, archive=[make_record(0)])
    group = {"TopicFilter": ["rooms/#"], "LastValType": "SQLITE", "ArchiveType": "SQLITE"}
    config = configured(database, ArchiveGroups=[{"Name": "MCP", **group}, {"Name": "Now"}])
    async with served(config) as asked:
        value = await asked.answer("get-topic-value", topics="now/x")
        past = await asked.answer("query-message-archive", topic="now/x")
        numbers = await asked.answer("query-message-archive-aggregated", topic="now/x")
        found = await asked.answer("find-topics-by-name", name="now")

    for answer in (value, past, numbers):
        assert answer["hint"].endswith("MCP takes rooms/# only; now/x is taken by: Now.")
    assert "Other archive groups may have it: Now." in found["hint"]


async def test_a_position_of_before_a_restart_says_where_to_go_on(database: Path) -> None:
    await fill(database, archive=[make_record(i, "t") for i in range(5)])
    async with served(configured(database)) as asked:
        read = await asked.answer("read-log", topics="t", limit=2, startTime="2026-01-15")
    async with served(configured(database)) as asked:
        refusal = await asked.refusal("read-log", topics="t", position=read["nextPosition"])

    assert "startTime 2026-01-15T12:00:00.001Z" in refusal


async def test_a_cursor_of_another_group_is_refused(database: Path) -> None:
    await fill(database, archive=[make_record(i, "t") for i in range(5)])
    config = configured(database, {"Name": "Other", "ArchiveType": "SQLITE"})
    async with served(config) as asked:
        first = await asked.answer("query-message-archive", topic="t", limit=2)
        refusal = await asked.refusal(
            "query-message-archive", topic="t", cursor=first["nextCursor"], archiveGroup="Other"
        )

    assert "cursor" in refusal


async def test_a_start_in_the_future_is_called_that(rooms: Asked) -> None:
    refusal = await rooms.refusal(
        "query-message-archive-aggregated", topic=KITCHEN, startTime="2999-01-01"
    )

    assert "is in the future" in refusal


@pytest.mark.parametrize(
    ("tool", "argument"),
    [
        ("query-message-archive", "startTime"),
        ("query-message-archive", "endTime"),
        ("query-message-archive-aggregated", "startTime"),
        ("read-log", "startTime"),
    ],
)
async def test_who_has_no_clock_is_told_the_time(rooms: Asked, tool: str, argument: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    refusal = await rooms.refusal(tool, topic=KITCHEN, **{argument: "yesterday"})

    assert "'yesterday' is not a time; write it as ISO 8601" in refusal
    found = re.search(r"; it is (\S+) now$", refusal)
    assert found is not None
    assert before <= datetime.fromisoformat(found[1]) <= datetime.now(UTC)


async def test_a_time_without_messages_is_told_beside_the_present_one(rooms: Asked) -> None:
    found = await rooms.answer("query-message-archive", topic=KITCHEN, endTime="2020-01-01")

    assert f"It is {datetime.now(UTC).year}-" in found["hint"]


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("get-topic-value", {}),
        ("query-message-archive", {}),
        ("query-message-archive-aggregated", {}),
        ("read-log", {}),
        ("read-log", {"startTime": "2026-01-15"}),
    ],
)
async def test_who_writes_a_star_for_a_level_is_told_what_to_write(
    rooms: Asked, tool: str, given: dict[str, object]
) -> None:
    starred = await rooms.answer(tool, topic="rooms/*/temperature", **given)
    unknown = await rooms.answer(tool, topic="rooms/attic*/temperature", **given)

    assert "* is no wildcard in topics: write + for one level" in starred["hint"]
    assert "wildcard" not in unknown["hint"]


async def test_numbers_in_fields_are_named(database: Path) -> None:
    payload = (
        b'{"temperature": 21.5, "name": "bath", "on": true, "AM2301": {"Humidity": 40},'
        b' "pm2.5": 7, "a\\"b": 1, "": 2, "list": [3], "deep": {"er": {"and": {"deeper": 4}}}}'
    )
    await fill(database, archive=[make_record(i, "t", payload) for i in range(3)])
    times = {"startTime": "2026-01-15", "endTime": "2026-01-16"}
    async with served(configured(database)) as asked:
        without = await asked.answer("query-message-archive-aggregated", topic="t", **times)
        right = [
            await asked.answer("query-message-archive-aggregated", topic="t", field=path, **times)
            for path in ("temperature", "AM2301.Humidity", '"pm2.5"')
        ]

    assert 'numbers in: temperature, AM2301.Humidity, "pm2.5". Set field.' in without["hint"]
    assert [answer["rows"][0]["max"] for answer in right] == [21.5, 40.0, 7.0]
    assert not any("hint" in answer for answer in right)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"functions": ["median"]}, "it should be 'avg', 'min'"),
        ({"functions": "median"}, "it should be 'avg', 'min'"),
        ({"functions": []}, "the argument functions is empty"),
        ({"interval": "1 hour"}, "'1 hour' is not an interval; write"),
        ({"topic": ""}, "the argument topic is empty"),
    ],
)
async def test_wrong_arguments_are_told_in_words(
    rooms: Asked, arguments: dict[str, object], sentence: str
) -> None:
    given = {"topic": KITCHEN, **arguments}

    assert sentence in await rooms.refusal("query-message-archive-aggregated", **given)


async def test_very_many_arguments_are_counted_and_not_looked_at(rooms: Asked) -> None:
    names = {f"name{number}": None for number in range(1000)}
    refusal = await rooms.refusal("get-topic-value", topics=KITCHEN, **names)

    assert refusal == (
        "get-topic-value was called with 1001 arguments; there are: archiveGroup, limit, cursor, "
        "topics"
    )


async def test_both_names_of_topics_are_taken(rooms: Asked) -> None:
    past = await rooms.answer("query-message-archive", topics=KITCHEN, limit=1)
    now = await rooms.answer("get-topic-value", topic=KITCHEN)
    upper = await rooms.answer(
        "query-message-archive-aggregated",
        topics=[KITCHEN],
        functions=["MAX"],
        startTime="2026-01-15",
        endTime="2026-01-17",
    )

    assert past["returned"] == now["returned"] == upper["returned"] == 1
    assert upper["rows"][0]["max"] == 223.0


async def test_a_pattern_that_finds_nothing_is_called_one(rooms: Asked) -> None:
    pattern = await rooms.answer("find-topics-by-name", name="room+")
    part = await rooms.answer("find-topics-by-name", name="cellar")
    starred = await rooms.answer("find-topics-by-name", name="*cellar*")
    refusal = await rooms.refusal("find-topics-by-name", name="temp", namespace="rooms/+")

    assert "This was a pattern, which is for whole names" in pattern["hint"]
    assert "pattern" not in part["hint"]
    assert starred["hint"] == part["hint"]
    assert "the namespace is the beginning of names, without wildcards" in refusal


async def test_a_level_without_a_value_leads_to_what_is_below_it(rooms: Asked) -> None:
    found = await rooms.answer("get-topic-value", topics=["rooms", KITCHEN, "attic/+", "rooms/#"])

    assert [(one["topic"], one["nearest"][:1]) for one in found["missing"]] == [
        ("rooms", ["rooms/#"]),
        ("attic/+", []),
    ]


async def test_what_is_kept_nowhere_is_called_that(rooms: Asked) -> None:
    found = await rooms.answer("get-topic-value", topics="$SYS/broker/version")

    assert "no archive group keeps them" in found["hint"]
    assert found["missing"][0]["nearest"] == []


async def test_the_log_says_that_a_name_is_unknown(rooms: Asked) -> None:
    unknown = await rooms.answer("read-log", topics="attic/#", startTime="2026-01-15")
    quiet = await rooms.answer("read-log", topics=KITCHEN, startTime="2026-06-01")

    assert "No topic of these has a value" in unknown["hint"]
    assert quiet["hint"] == "Nothing yet; call again later with this position."


async def test_a_cursor_of_nobody_is_refused_as_everywhere(rooms: Asked) -> None:
    refusal = await rooms.refusal("query-message-archive-aggregated", topic=KITCHEN, cursor="abc")

    assert "ask again without a cursor" in refusal


@pytest.mark.parametrize(
    ("field", "number"), [("[0]", 1.0), ('["a.b"]', 2.0), ("null", 3.0), (None, None)]
)
async def test_a_field_that_looks_like_json_is_a_field(
    database: Path, field: str | None, number: float | None
) -> None:
    payloads = (b"[1]", b'{"a.b": 2}', b'{"null": 3}')
    await fill(database, archive=[make_record(i, "t", each) for i, each in enumerate(payloads)])
    async with served(configured(database)) as asked:
        found = await asked.answer(
            "query-message-archive-aggregated",
            topic="t",
            field=field,
            startTime="2026-01-15",
            endTime="2026-01-16",
        )

    (row,) = found["rows"]
    assert row.get("avg") == number


async def test_a_topic_that_looks_like_json_is_a_topic(database: Path) -> None:
    topics = ["null", "{}", "[1]", "true", '"a"']
    await fill(database, archive=[make_record(i, each) for i, each in enumerate(topics)])
    async with served(configured(database)) as asked:
        found = [await asked.answer("get-topic-value", topics=each) for each in topics]
        wrapped = await asked.answer("get-topic-value", topics=json.dumps(topics))

    assert [value["topic"] for each in found for value in each["values"]] == topics
    assert {value["topic"] for value in wrapped["values"]} == {*topics}


@pytest.mark.parametrize("value", ["1e400", "[NaN]"])
def test_a_value_that_json_cannot_say_is_not_published(value: str) -> None:
    with pytest.raises(ValidationError, match="not JSON compliant"):
        PublishArguments.model_validate({"topic": "a", "value": json.loads(value)})
