"""``read-log``: messages in the order in which they came, from a place on."""

import asyncio
from contextlib import suppress
from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import Field

from monstermq_mcp.archived_log import ArchivedLog
from monstermq_mcp.groups import Groups
from monstermq_mcp.rendering.bounds import PAYLOAD_MAX, ROWS_SIZE_MAX, fit
from monstermq_mcp.rendering.tables import DATA_NOTE, paragraphs, table
from monstermq_mcp.tools.answers import (
    Answer,
    ClientText,
    Moment,
    Note,
    Payload,
    counted,
    joined,
    moment,
    payload_members,
    shown_name,
)
from monstermq_mcp.tools.arguments import (
    Arguments,
    GroupName,
    StartTime,
    Topics,
    as_list,
    mistaken_wildcard,
    time_ms,
)
from monstermq_mcp.tools.making import READS, About, make_tool, result
from monstermq_mcp.tools.values import NO_VALUE, PATIENCE_S
from monstermq_shared.clock import Clock
from monstermq_shared.errors import MonsterError
from monstermq_shared.queries.history import Message
from monstermq_shared.queries.live import LogPage, LogQuery
from monstermq_shared.queries.ports import LogQueries
from monstermq_shared.queries.topics import ValuesQuery

MESSAGES_MAX = 200
"""Messages of a call."""

_LATER = "Nothing yet; call again later with this position."

POSITION_MAX = 32 * 1024
"""Characters of a position: on Kafka it has a place for each partition of the bus."""

ABOUT = About(
    "read-log",
    "Read the log",
    "Returns messages in the order in which they came, the oldest first, from a time or a position"
    " on, and always the position to go on from: so one call after the other follows what happens,"
    " and hint tells of what was deleted before it was read. Use it to see what happened in which"
    " order across topics, or to catch up since the last look. Without startTime and position it"
    " returns the newest messages. With the internal bus it reads the archive group, in order of"
    " time, and says so; on Kafka it reads the bus, which has everything while it keeps it."
    " Narrow by exact filters. For numbers over time use query-message-archive-aggregated.",
    READS,
)


class LogArguments(Arguments):
    """From where on, and of which topics."""

    topics: Topics
    start_time: StartTime = None
    position: Annotated[
        str | None,
        Field(
            max_length=POSITION_MAX,
            description="The nextPosition of a result before; it wins over startTime.",
        ),
    ] = None
    limit: Annotated[
        int,
        Field(ge=1, le=MESSAGES_MAX, description=f"Messages to return, up to {MESSAGES_MAX}."),
    ] = 100
    archive_group: GroupName = None


class LogMessage(Payload):
    """A message of the log."""

    time: Moment
    topic: ClientText
    qos: int
    retained: Annotated[bool, Field(description="Whether it was published with the retain flag.")]
    client_id: Annotated[str, Field(description="Who published it.")]


class LogRead(Answer):
    """Messages of the log."""

    note: Note = DATA_NOTE
    source: Annotated[str, Field(description="What was read.")]
    returned: Annotated[int, Field(description="How many messages are here.")]
    truncated: Annotated[bool, Field(description="Whether others follow already.")]
    next_position: Annotated[
        str | None, Field(description="Where to go on, now or later: pass it as position.")
    ] = None
    hint: str | None = None
    rows: list[LogMessage]


def log_tool(groups: Groups, clock: Clock, log: LogQueries | None) -> Tool:
    """Return the tool; without a log it reads the archive."""

    async def answer(arguments: LogArguments) -> CallToolResult:
        where, queries = "", log
        if queries is None:
            group, archive = groups.archive(arguments.archive_group)
            where, queries = f" (archive group {group})", ArchivedLog(archive)
        query = LogQuery(
            filters=as_list(arguments.topics),
            start_ms=time_ms(arguments.start_time, clock),
            limit=arguments.limit,
            cursor=arguments.position,
            payload_limit=PAYLOAD_MAX,
        )
        page = await queries.read(query)
        hint = None if page.messages else _nothing(query, page)
        if hint == _LATER and await _is_unknown(groups, arguments):
            hint = f"{NO_VALUE} {_LATER}"
        mistake = None if page.messages else mistaken_wildcard(query.filters)
        return _read(page, where, joined(_lost(page), mistake, hint))

    return make_tool(ABOUT, answer, LogArguments, LogRead)


async def _is_unknown(groups: Groups, arguments: LogArguments) -> bool:
    """Tell whether no topic has such a name, as far as that is known soon."""
    with suppress(TimeoutError, MonsterError):
        async with asyncio.timeout(PATIENCE_S):
            _, topics = groups.topics(arguments.archive_group)
            query = ValuesQuery(filters=as_list(arguments.topics), limit=1, payload_limit=0)
            return not (await topics.values(query)).rows
    return False


def _read(page: LogPage, where: str, hint: str | None) -> CallToolResult:
    room = ROWS_SIZE_MAX - min(len(page.next_cursor), POSITION_MAX)
    rows, lines = fit(page.messages, _shown, _cells, room)
    whole = len(rows) == len(page.messages)
    position = page.next_cursor if whole else page.cursors[len(rows) - 1]
    answer = LogRead(
        source=f"{page.source.value}{where}",
        returned=len(rows),
        truncated=page.more or not whole,
        next_position=position if len(position) <= POSITION_MAX else None,
        hint=hint,
        rows=rows,
    )
    heading = f"{counted(answer.returned, 'message')}, read from {answer.source}. {DATA_NOTE}"
    listed = table(["time", "topic", "payload", "client"], lines)
    follow = "More follow already" if answer.truncated else "Go on later"
    end = f"{follow}: position `{answer.next_position}`." if answer.next_position else None
    return result(answer, paragraphs(heading, listed, answer.hint, end))


def _lost(page: LogPage) -> str | None:
    """Return what is missing before a page, None if nothing is."""
    if not page.lost:
        return None
    return (
        f"Up to {counted(page.lost, 'message')} that followed the position are deleted from the"
        " log; an archive may have them, see query-message-archive."
    )


def _nothing(query: LogQuery, page: LogPage) -> str:
    """Return why a page may be empty, and what to do."""
    if page.more:
        return "Nothing in what was looked through so far; go on with this position."
    if query.start_ms is None and query.cursor is None:
        return "Nothing among the newest messages; give startTime to look at older ones."
    return _LATER


def _shown(message: Message) -> LogMessage:
    return LogMessage(
        time=moment(message.time_ms),
        topic=shown_name(message.topic),
        qos=message.qos,
        retained=message.retained,
        client_id=shown_name(message.client_id),
        **payload_members(message),
    )


def _cells(row: LogMessage) -> tuple[str, str, str, str]:
    return row.time, row.topic, row.cell, row.client_id
