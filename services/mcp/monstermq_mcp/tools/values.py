"""``get-topic-value``: current values."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import Field

from monstermq_mcp.groups import Groups
from monstermq_mcp.rendering.bounds import PAYLOAD_MAX, ROWS_SIZE_MAX, fit
from monstermq_mcp.rendering.tables import DATA_NOTE, paragraphs, table
from monstermq_mcp.rendering.text import clipped
from monstermq_mcp.tools.answers import (
    Answer,
    ClientText,
    GroupNamed,
    Moment,
    Page,
    Payload,
    counted,
    joined,
    moment,
    more_text,
    payload_members,
    shown_name,
)
from monstermq_mcp.tools.arguments import Paged, Topics, as_list, mistaken_wildcard
from monstermq_mcp.tools.making import READS, About, fit_page, make_tool, result
from monstermq_shared.errors import MonsterError
from monstermq_shared.queries.filters import exact_topics
from monstermq_shared.queries.ports import TopicQueries
from monstermq_shared.queries.topics import (
    TopicValue,
    ValuesPage,
    ValuesQuery,
    without_value,
)
from monstermq_shared.topics import is_system_topic

_GUESSED_MAX = 10
_NEAREST_MAX = 3
_NAME_MAX = 200

PATIENCE_S = 2.0
"""Seconds that a help may take, which is no answer to the question."""

NO_VALUE = "No topic of these has a value; find-topics-by-name finds topics by a part of the name."
"""What is told where nothing is found."""

MISSING_SIZE_MAX = 12_000
"""Bytes of a result that tell what is missing, in JSON, and in Markdown."""

ABOUT = About(
    "get-topic-value",
    "Current values",
    "Returns the current values of topics: the retained message, or the last one. Use it to see"
    " how things are now; for what was before, use query-message-archive-aggregated or"
    " query-message-archive. Filters are taken too: rooms/+/temperature asks all rooms at once."
    " Narrow by more exact filters. Topics that have no value are listed with those whose names"
    " are nearest.",
    READS,
)


class ValuesArguments(Paged):
    """Which topics."""

    topics: Topics


class Value(Payload):
    """The current value of a topic."""

    topic: ClientText
    time: Moment
    retained: Annotated[bool, Field(description="Whether it was published with the retain flag.")]


class Missing(Answer):
    """A topic or filter that was asked for and has no value."""

    topic: ClientText
    nearest: Annotated[
        tuple[ClientText, ...],
        Field(
            description="Topics with a value whose names are like it; first the filter of those"
            " below it, if there are any."
        ),
    ] = ()


class Values(Page):
    """Current values."""

    archive_group: GroupNamed
    values: list[Value]
    missing: Annotated[
        tuple[Missing, ...],
        Field(description="Topics and filters that were asked for and have no value."),
    ] = ()
    missing_count: Annotated[
        int | None, Field(description="How many they are; not all need to be listed.")
    ] = None


def values_tool(groups: Groups) -> Tool:
    """Return the tool."""
    return make_tool(ABOUT, partial(values, groups), ValuesArguments, Values)


async def values(groups: Groups, arguments: ValuesArguments) -> CallToolResult:
    """Return current values.

    Raises:
        QueryError: They cannot be told; the message says why.
        StoreError: The database failed.
    """
    group, topics = groups.topics(arguments.archive_group)
    query = ValuesQuery(
        filters=as_list(arguments.topics),
        limit=arguments.limit,
        cursor=arguments.cursor,
        payload_limit=PAYLOAD_MAX,
    )
    page = await topics.values(query)
    names = await _missing(topics, query, page)
    missing, missing_lines = fit(
        await _guessed(topics, names),
        lambda one: one,
        lambda one: (one.topic, ", ".join(one.nearest)),
        size_max=MISSING_SIZE_MAX,
    )
    room = ROWS_SIZE_MAX - (MISSING_SIZE_MAX if missing else 0)
    fitted = fit_page(page, _shown, lambda one: (one.topic, one.cell, one.time), size_max=room)
    answer = Values(
        archive_group=group,
        **fitted.place,
        hint=joined(
            _hint(query, len(fitted.rows), truncated=fitted.truncated),
            mistaken_wildcard(names),
            groups.elsewhere(group, names) if names or not fitted.rows else None,
        ),
        values=fitted.rows,
        missing=tuple(missing),
        missing_count=len(names) or None,
    )
    heading = f"{counted(answer.returned, 'current value')} of archive group {group}. {DATA_NOTE}"
    listed = table(["topic", "value", "time"], fitted.lines)
    without = table(["topic without a value", "nearest"], missing_lines)
    lacking = (
        f"{len(names)} of the topics and filters asked for without a value." if names else None
    )
    return result(answer, paragraphs(heading, listed, lacking, without, more_text(answer)))


def _shown(value: TopicValue) -> Value:
    return Value(
        topic=shown_name(value.message.topic),
        time=moment(value.message.time_ms),
        retained=value.message.retained,
        **payload_members(value.message),
    )


async def _missing(topics: TopicQueries, query: ValuesQuery, page: ValuesPage) -> list[str]:
    """Return the topics without a value; the first page tells it, for all of them.

    Where it has everything, it tells of filters too.
    """
    if query.cursor is not None:
        return []
    if not page.more:
        return without_value(query.filters, page.rows)
    asked = exact_topics(query.filters)
    if not asked:
        return []
    exact = ValuesQuery(filters=tuple(asked), limit=len(asked), payload_limit=0)
    return without_value(asked, (await topics.values(exact)).rows)


async def _guessed(topics: TopicQueries, names: Sequence[str]) -> list[Missing]:
    """Return topics without a value, the first of them with those that may be meant."""
    nearest: dict[str, tuple[str, ...]] = {}
    guessable = [name for name in exact_topics(names) if not is_system_topic(name)]
    # A guess is a help: whoever asked gets the values also if none can be made in that time.
    with suppress(TimeoutError, MonsterError):
        async with asyncio.timeout(PATIENCE_S):
            for name in guessable[:_GUESSED_MAX]:
                near = [*await _below(topics, name)]
                near += await topics.similar(name, limit=_NEAREST_MAX - len(near))
                nearest[name] = tuple(clipped(one, _NAME_MAX) for one in near)
    return [
        Missing(topic=clipped(name, _NAME_MAX), nearest=nearest.get(name, ())) for name in names
    ]


async def _below(topics: TopicQueries, name: str) -> Sequence[str]:
    """Return the filter of what is below a topic, if anything there has a value."""
    below = f"{name}/#"
    query = ValuesQuery(filters=(below,), limit=1, payload_limit=0)
    return [below] if (await topics.values(query)).rows else []


def _hint(query: ValuesQuery, returned: int, *, truncated: bool) -> str | None:
    if truncated:
        return "A narrower filter has fewer values."
    if returned or query.cursor is not None:
        return None
    return NO_VALUE
