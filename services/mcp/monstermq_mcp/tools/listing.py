"""``list-archive-groups``: what is kept, where, and since when."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import Field

from monstermq_mcp.groups import Groups
from monstermq_mcp.rendering.bounds import ROWS_SIZE_MAX, fit
from monstermq_mcp.rendering.tables import paragraphs, row, table
from monstermq_mcp.rendering.text import clipped
from monstermq_mcp.sources import Group
from monstermq_mcp.tables_text import TablesText
from monstermq_mcp.tools.answers import Answer, Moment, counted, moment
from monstermq_mcp.tools.arguments import Arguments, GroupName
from monstermq_mcp.tools.making import READS, About, make_tool, result
from monstermq_shared.config.durations import format_duration
from monstermq_shared.errors import MonsterError, NotSupported
from monstermq_shared.queries.history import HistoryQuery
from monstermq_shared.queries.ports import ArchiveQueries

_PATIENCE_S = 3.0
"""Seconds for the times of all archives together: they are a help, and not what was asked for."""

_TIMED_MAX = 20
_FILTERS_SHOWN_MAX = 500
_TABLES_SIZE_MAX = 8_000

ABOUT = About(
    "list-archive-groups",
    "Archive groups",
    "Returns the archive groups: which topics each one takes, whether it has current values and"
    " history, in which database, how long they are kept, and what time its history covers. Use it"
    " first if you do not know what there is, and whenever another tool finds nothing. It also"
    " lists the tables and columns for query-message-archive-by-sql. archiveGroup narrows it to"
    " one.",
    READS,
)


class ListArguments(Arguments):
    """Which groups."""

    archive_group: GroupName = None


class ArchiveGroupRow(Answer):
    """An archive group."""

    name: str
    topic_filter: Annotated[str, Field(description="The topics it takes: one of these filters.")]
    retained_only: Annotated[bool, Field(description="Whether it takes retained messages only.")]
    last_val_type: Annotated[str, Field(description="What keeps current values; NONE: nothing.")]
    archive_type: Annotated[str, Field(description="What keeps the history; NONE: nothing.")]
    archive_retention: Annotated[
        str | None, Field(description="How long the history is kept; absent: for ever.")
    ] = None
    last_val_retention: Annotated[
        str | None, Field(description="How long values without news are kept; absent: for ever.")
    ] = None
    answers: Annotated[
        tuple[str, ...], Field(description="What can be asked: values, history, sql.")
    ]
    history_from: Annotated[Moment | None, Field(description="Its oldest message.")] = None
    history_to: Annotated[Moment | None, Field(description="Its newest message.")] = None


class ArchiveGroups(Answer):
    """The archive groups."""

    returned: Annotated[int, Field(description="How many groups are here.")]
    truncated: Annotated[bool, Field(description="Whether there are more.")]
    hint: Annotated[str | None, Field(description="How to get what is not here.")] = None
    groups: list[ArchiveGroupRow]
    tables: Annotated[
        str | None, Field(description="Tables and columns for query-message-archive-by-sql.")
    ] = None


def listing_tool(groups: Groups, tables: TablesText) -> Tool:
    """Return the tool."""

    async def answer(arguments: ListArguments) -> CallToolResult:
        listed = await list_groups(groups, tables, arguments.archive_group)
        return result(listed, groups_text(listed))

    return make_tool(ABOUT, answer, ListArguments, ArchiveGroups)


async def list_groups(groups: Groups, tables: TablesText, name: str | None) -> ArchiveGroups:
    """Return the archive groups, or the one of that name.

    Raises:
        QueryRefused: There is none of that name.
    """
    chosen = groups.all if name is None else (groups.named(name),)
    times = await _times(chosen[:_TIMED_MAX])
    spans = [*times, *[(None, None)] * (len(chosen) - len(times))]
    rows, _ = fit(
        list(zip(chosen, spans, strict=True)),
        lambda pair: _shown(*pair),
        _cells,
        ROWS_SIZE_MAX - _TABLES_SIZE_MAX,
    )
    cut = len(rows) < len(chosen)
    return ArchiveGroups(
        returned=len(rows),
        truncated=cut,
        hint=f"{len(chosen) - len(rows)} more groups can be asked for by name." if cut else None,
        groups=rows,
        tables=clipped(await tables.get(), _TABLES_SIZE_MAX // 2) or None,
    )


def groups_text(listed: ArchiveGroups) -> str:
    """Return them as Markdown."""
    columns = ["name", "topics", "values in", "history in", "kept", "from", "to", "answers"]
    heading = f"{counted(listed.returned, 'archive group')}."
    rows = table(columns, [row(_cells(group)) for group in listed.groups])
    return paragraphs(heading, rows, listed.hint, listed.tables)


def _shown(group: Group, span: tuple[int | None, int | None]) -> ArchiveGroupRow:
    config = group.config
    parts = {"values": group.topics, "history": group.archive, "sql": group.sql}
    kept, values_kept = config.archive_retention, config.last_val_retention
    return ArchiveGroupRow(
        name=config.name,
        topic_filter=clipped(", ".join(config.topic_filter) or "#", _FILTERS_SHOWN_MAX),
        retained_only=config.retained_only,
        last_val_type=config.last_val_type.value,
        archive_type=config.archive_type.value,
        archive_retention=None if kept is None else format_duration(kept),
        last_val_retention=None if values_kept is None else format_duration(values_kept),
        answers=tuple(
            part for part, queries in parts.items() if not isinstance(queries, NotSupported)
        ),
        history_from=None if span[0] is None else moment(span[0]),
        history_to=None if span[1] is None else moment(span[1]),
    )


def _cells(group: ArchiveGroupRow) -> Sequence[str]:
    return [
        group.name,
        group.topic_filter + (" (retained only)" if group.retained_only else ""),
        group.last_val_type,
        group.archive_type,
        group.archive_retention or "for ever",
        group.history_from or "",
        group.history_to or "",
        ", ".join(group.answers),
    ]


async def _times(groups: Sequence[Group]) -> list[tuple[int | None, int | None]]:
    """Return the times of the oldest and the newest message of the first, those told in time."""
    spans: list[tuple[int | None, int | None]] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            for group in groups:
                spans.append(await _span(group.archive))  # noqa: PERF401 - what is known stays
    return spans


async def _span(archive: ArchiveQueries | NotSupported) -> tuple[int | None, int | None]:
    if isinstance(archive, NotSupported):
        return None, None
    try:
        ends = [
            await archive.history(
                HistoryQuery(filters=("#",), newest_first=newest, limit=1, payload_limit=0)
            )
            for newest in (False, True)
        ]
    except MonsterError:
        return None, None
    oldest, newest = (page.rows[0].time_ms if page.rows else None for page in ends)
    return oldest, newest
