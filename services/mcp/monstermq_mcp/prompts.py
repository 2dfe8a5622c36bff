"""Prompts: questions that come with the data to answer them."""

from collections.abc import Awaitable
from contextlib import suppress
from typing import Annotated

from mcp.types import CallToolResult, TextContent
from pydantic import Field

from monstermq_mcp.broker_server import BrokerServer
from monstermq_mcp.faults import as_protocol_errors
from monstermq_mcp.groups import Groups
from monstermq_mcp.rendering.bounds import NAME_MAX
from monstermq_mcp.rendering.text import clipped, plain
from monstermq_mcp.tools.aggregates import AggregateArguments, aggregates
from monstermq_mcp.tools.history import HistoryArguments, history
from monstermq_mcp.tools.number_fields import number_fields
from monstermq_mcp.tools.search import (
    DescriptionArguments,
    NameArguments,
    found_by_description,
    found_by_name,
)
from monstermq_mcp.tools.values import ValuesArguments, values
from monstermq_shared.clock import Clock
from monstermq_shared.errors import NotSupported, QueryRefused
from monstermq_shared.queries.bounds import TEXT_SIZE_MAX
from monstermq_shared.queries.filters import checked_filters
from monstermq_shared.topics import is_wildcard

_SECTION_MAX = 12_000
"""Characters of one kind of data in a prompt."""

_ROWS = 20
_FIELDS_MAX = 3


def add_prompts(server: BrokerServer, groups: Groups, clock: Clock) -> None:
    """Give the server its prompts."""

    @server.prompt(
        name="find-topics",
        title="Find topics",
        description="Finds topics by a word, in their names and in their descriptions.",
    )
    async def find_topics(
        text: Annotated[str, Field(description="What is looked for: temperature.")],
    ) -> str:
        with as_protocol_errors():
            return await found(groups, text)

    @server.prompt(
        name="explain-topic",
        title="Explain a topic",
        description="Explains a topic by its value, its description and its last day.",
    )
    async def explain_topic(
        topic: Annotated[str, Field(description="The topic: rooms/kitchen/temperature.")],
    ) -> str:
        with as_protocol_errors():
            return await explained(groups, clock, topic)


async def found(groups: Groups, text: str) -> str:
    """Return the question which topics fit a word, with those that may.

    Raises:
        QueryRefused: It is empty or too long.
        StoreError: The database failed.
    """
    text = text.strip()
    if not 1 <= len(text) <= TEXT_SIZE_MAX:
        raise QueryRefused(f"the text must have 1 to {TEXT_SIZE_MAX} characters")
    return _prompt(
        f"Which MQTT topics are about “{plain(text)}”? Below is what a search found. Name those"
        " that fit, say what each seems to tell, and read their current values with"
        " get-topic-value. If none fits, search for other words.",
        await _section(
            "Topics whose names have it",
            found_by_name(groups, NameArguments(name=text, limit=_ROWS)),
        ),
        await _section(
            "Topics whose descriptions have it",
            found_by_description(groups, DescriptionArguments(description=text, limit=_ROWS)),
        ),
    )


async def explained(groups: Groups, clock: Clock, topic: str) -> str:
    """Return the question what a topic is, with what is known of it.

    Raises:
        QueryRefused: It is not a topic.
        StoreError: The database failed.
    """
    checked_filters([topic])
    if is_wildcard(topic):
        raise QueryRefused("explain-topic takes one topic, without a wildcard")
    if len(topic) > NAME_MAX:
        raise QueryRefused(f"explain-topic takes a topic of at most {NAME_MAX} characters")
    return _prompt(
        f"Explain the MQTT topic {plain(topic)}: what it tells, in which unit, how often, and"
        " whether what it tells is usual. Below is what is known of it. Use the tools for more.",
        await _section(
            "Current value, and what describes the topic",
            values(groups, ValuesArguments(topics=[topic, f"{topic}/<config>"])),
        ),
        *await _last_day(groups, clock, topic),
        await _section(
            "The newest messages",
            history(groups, clock, HistoryArguments(topic=topic, limit=_ROWS)),
        ),
    )


async def _last_day(groups: Groups, clock: Clock, topic: str) -> list[str]:
    """Return a section of statistics, or one for each of the first numbers of a JSON payload."""
    fields: list[str] = []
    with suppress(NotSupported):  # the section says so
        _, archive = groups.archive(None)
        fields = await number_fields(archive, [topic])
    return [
        await _section(
            f"The last day of {plain(field)}" if field else "The last day by the hour",
            aggregates(groups, clock, AggregateArguments(topic=topic, interval="1h", field=field)),
        )
        for field in fields[:_FIELDS_MAX] or [""]
    ]


async def _section(title: str, asked: Awaitable[CallToolResult]) -> str:
    """Return what a tool says under a title; a store that cannot tell it says so."""
    try:
        answer = await asked
    except NotSupported as exc:
        return f"## {title}\n\n{exc}"
    text = "\n".join(part.text for part in answer.content if isinstance(part, TextContent))
    return f"## {title}\n\n{clipped(text, _SECTION_MAX)}"


def _prompt(question: str, *sections: str) -> str:
    return "\n\n".join([question, *sections])
