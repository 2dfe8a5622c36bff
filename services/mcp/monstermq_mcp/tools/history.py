"""``query-message-archive``: past messages."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import Field

from monstermq_mcp.groups import Groups
from monstermq_mcp.rendering.bounds import PAYLOAD_MAX
from monstermq_mcp.rendering.tables import DATA_NOTE, paragraphs, table
from monstermq_mcp.tools.answers import (
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
from monstermq_mcp.tools.arguments import (
    EndTime,
    Paged,
    StartTime,
    Topics,
    as_list,
    mistaken_wildcard,
    time_ms,
)
from monstermq_mcp.tools.making import READS, About, fit_page, make_tool, result
from monstermq_shared.clock import Clock
from monstermq_shared.queries.history import HistoryQuery, Message
from monstermq_shared.topics import is_wildcard

ABOUT = About(
    "query-message-archive",
    "Past messages",
    "Returns past messages of topics, the newest first. Use it to see single messages as they"
    " were: what came last, what happened around a moment, which message was the first."
    " For a trend, a comparison or an extreme value over more than a few dozen messages use"
    " query-message-archive-aggregated instead: it is computed in the database, and far shorter."
    " Narrow by startTime and endTime and by naming topics; get-topic-value has current values.",
    READS,
)


class HistoryArguments(Paged):
    """Which past messages."""

    topic: Topics
    start_time: StartTime = None
    end_time: EndTime = None
    oldest_first: Annotated[
        bool, Field(description="Return the oldest first instead of the newest.")
    ] = False


class HistoryRow(Payload):
    """A past message."""

    time: Moment
    topic: Annotated[
        ClientText | None, Field(description="Absent if one topic was asked for: that one.")
    ] = None


class History(Page):
    """Past messages."""

    archive_group: GroupNamed
    rows: list[HistoryRow]


def history_tool(groups: Groups, clock: Clock) -> Tool:
    """Return the tool."""
    return make_tool(ABOUT, partial(history, groups, clock), HistoryArguments, History)


async def history(groups: Groups, clock: Clock, arguments: HistoryArguments) -> CallToolResult:
    """Return past messages.

    Raises:
        QueryError: They cannot be told; the message says why.
        StoreError: The database failed.
    """
    group, archive = groups.archive(arguments.archive_group)
    filters = as_list(arguments.topic)
    query = HistoryQuery(
        filters=filters,
        start_ms=time_ms(arguments.start_time, clock),
        end_ms=time_ms(arguments.end_time, clock),
        newest_first=not arguments.oldest_first,
        limit=arguments.limit,
        cursor=arguments.cursor,
        payload_limit=PAYLOAD_MAX,
    )
    one = len(query.filters) == 1 and not is_wildcard(query.filters[0])
    page = await archive.history(query)
    fitted = fit_page(page, lambda message: _shown(message, one), lambda row: _cells(row, one))
    answer = History(
        archive_group=group,
        **fitted.place,
        hint=joined(
            _hint(query, clock, len(fitted.rows), truncated=fitted.truncated),
            None if fitted.rows else mistaken_wildcard(query.filters),
            None if fitted.rows else groups.elsewhere(group, query.filters),
        ),
        rows=fitted.rows,
    )
    columns = ["time", "payload"] if one else ["time", "topic", "payload"]
    order = "oldest first" if arguments.oldest_first else "newest first"
    heading = (
        f"{counted(answer.returned, 'past message')} of archive group {group}, {order}. {DATA_NOTE}"
    )
    return result(answer, paragraphs(heading, table(columns, fitted.lines), more_text(answer)))


def _shown(message: Message, one: bool) -> HistoryRow:
    return HistoryRow(
        time=moment(message.time_ms),
        topic=None if one else shown_name(message.topic),
        **payload_members(message),
    )


def _cells(row: HistoryRow, one: bool) -> Sequence[str]:
    return [row.time, row.cell] if one else [row.time, row.topic or "", row.cell]


def _hint(query: HistoryQuery, clock: Clock, returned: int, *, truncated: bool) -> str | None:
    if truncated:
        return (
            "For a trend or an extreme value ask query-message-archive-aggregated; else narrow the"
            " time or the topics."
        )
    if returned or query.cursor is not None:
        return None
    if query.start_ms is not None or query.end_ms is not None:
        return (
            f"No message in that time. It is {moment(clock.wall_ms())} now, and times without an"
            " offset are UTC; without startTime and endTime the newest messages are returned, and"
            " list-archive-groups tells what time an archive covers."
        )
    return (
        "No message. Either the topic does not exist, see find-topics-by-name, or this archive"
        " group does not take it, see list-archive-groups."
    )
