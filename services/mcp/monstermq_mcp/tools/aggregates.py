"""``query-message-archive-aggregated``: numbers of past messages, computed by the database."""

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import BeforeValidator, Field

from monstermq_mcp.groups import Groups
from monstermq_mcp.rendering.tables import DATA_NOTE, paragraphs, table
from monstermq_mcp.rendering.text import clipped, plain
from monstermq_mcp.tools.answers import (
    Answer,
    ClientText,
    GroupNamed,
    Moment,
    Page,
    counted,
    joined,
    moment,
    more_text,
    shown_name,
)
from monstermq_mcp.tools.arguments import (
    EndTime,
    Limit,
    Paged,
    StartTime,
    Topics,
    as_list,
    mistaken_wildcard,
    time_ms,
)
from monstermq_mcp.tools.making import READS, About, fit_page, make_tool, result
from monstermq_mcp.tools.number_fields import number_fields
from monstermq_shared.clock import Clock
from monstermq_shared.config.durations import format_duration, parse_duration
from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.aggregates import (
    AggregateFunction,
    AggregateQuery,
    Bucket,
    coarsened,
)
from monstermq_shared.queries.bounds import TEXT_SIZE_MAX
from monstermq_shared.queries.cursors import refused_cursor
from monstermq_shared.queries.fields import FieldPath
from monstermq_shared.queries.ports import ArchiveQueries

BUCKETS_MAX = 500
"""Buckets of one topic in a result; more of them are made fewer and longer."""

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS

_CURSOR = re.compile(r"(?P<start>\d{1,15})-(?P<end>\d{1,15})-(?P<rest>.*)", re.ASCII | re.DOTALL)

ABOUT = About(
    "query-message-archive-aggregated",
    "Statistics of past messages",
    "Returns average, minimum, maximum, first, last, count or sum of the numbers in past messages,"
    " for each topic, for a whole stretch of time or in buckets of it. Ask this first whenever a"
    " question is about more than a few dozen messages: which was the highest, how did it develop,"
    " how many were there. Without interval each topic has one row for the whole time, which is"
    " the way to compare topics: a filter such as rooms/+/temperature asks all of them at once."
    " With interval, such as 1h, there is a row for each bucket. field names a member of JSON"
    " payloads; messages that have no number there are left out and counted. Narrow by time, by"
    " naming topics, or by longer intervals.",
    READS,
)


def _several(functions: Any) -> Any:  # noqa: ANN401 - whatever a client has sent
    """Take one name, or names with commas between them, for a list."""
    if isinstance(functions, str):
        functions = functions.replace(",", " ").split()
    if not isinstance(functions, list):
        return functions
    return [name.lower() if isinstance(name, str) else name for name in functions]


class AggregateArguments(Paged):
    """Which numbers."""

    topic: Topics
    start_time: StartTime = None
    end_time: EndTime = None
    interval: Annotated[
        str | None,
        Field(
            max_length=TEXT_SIZE_MAX,
            description="How long a bucket is: a number and s, m, h, d, w, M (30 days) or"
            " y, as 15m, 1h, 1d."
            " Absent: one bucket for the whole time.",
        ),
    ] = None
    functions: Annotated[
        tuple[AggregateFunction, ...],
        BeforeValidator(_several),
        Field(min_length=1, max_length=20, description="What to compute."),
    ] = (AggregateFunction.AVG, AggregateFunction.MIN, AggregateFunction.MAX)
    # Not ``str | None``: of that the SDK would take [0] and ["a.b"] for lists.
    field: Annotated[
        str,
        Field(
            max_length=TEXT_SIZE_MAX,
            description="Where the number is in a JSON payload: value, motor.speed, axes[0].pos."
            " Absent: the payload is the number.",
        ),
    ] = ""
    by_topic: Annotated[
        bool, Field(description="Whether each topic has rows of its own; else all count as one.")
    ] = True
    limit: Limit = BUCKETS_MAX


class BucketRow(Answer):
    """Numbers of one stretch of time."""

    start: Annotated[str, Field(description="Where the bucket begins: ISO 8601, UTC.")]
    topic: Annotated[ClientText | None, Field(description="Absent if all count as one.")] = None
    messages: Annotated[int, Field(description="How many messages there are in it.")]
    without_number: Annotated[
        int | None, Field(description="How many of them have no number, if some have none.")
    ] = None
    beyond: Annotated[
        tuple[str, ...] | None,
        Field(description="Functions whose value is more than a number of JSON can be."),
    ] = None
    avg: float | None = None
    min: float | None = None
    max: float | None = None
    first: float | None = None
    last: float | None = None
    sum: float | None = None
    count: Annotated[
        int | None, Field(description="How many of the messages have a number, if asked for.")
    ] = None


class Aggregates(Page):
    """Numbers of past messages."""

    archive_group: GroupNamed
    start_time: Moment
    end_time: Moment
    interval: Annotated[str, Field(description="How long a bucket is.")]
    coarsened: Annotated[
        bool, Field(description="Whether that is longer than what was asked for.")
    ] = False
    rows: list[BucketRow]


def aggregates_tool(groups: Groups, clock: Clock) -> Tool:
    """Return the tool."""
    return make_tool(ABOUT, partial(aggregates, groups, clock), AggregateArguments, Aggregates)


async def aggregates(groups: Groups, clock: Clock, arguments: AggregateArguments) -> CallToolResult:
    """Return numbers of past messages.

    Raises:
        QueryError: They cannot be told; the message says why.
        StoreError: The database failed.
    """
    group, archive = groups.archive(arguments.archive_group)
    query, wanted_ms = _query(clock, arguments)
    page = await archive.aggregate(query)
    fitted = fit_page(page, _shown, lambda row: _cells(row, query))
    changed = query.bucket_ms != wanted_ms
    answer = Aggregates(
        archive_group=group,
        start_time=moment(query.start_ms),
        end_time=moment(query.end_ms),
        interval=_length(query.bucket_ms),
        coarsened=changed,
        **fitted.place | {"next_cursor": _cursor(query, fitted.cursor)},
        hint=joined(
            _hint(query, len(fitted.rows), coarse=changed, truncated=fitted.truncated),
            await _without_numbers(archive, query, fitted.rows),
            None if fitted.rows else mistaken_wildcard(query.filters),
            None if fitted.rows else groups.elsewhere(group, query.filters),
        ),
        rows=fitted.rows,
    )
    one = query.bucket_ms >= query.end_ms - query.start_ms
    buckets = "in one bucket" if one else f"in buckets of {answer.interval}"
    heading = (
        f"{counted(answer.returned, 'row')} of archive group {group}, from {answer.start_time} to"
        f" {answer.end_time}, {buckets}. {DATA_NOTE}"
    )
    columns = ["start", *(["topic"] if query.by_topic else []), "messages", *query.functions]
    return result(answer, paragraphs(heading, table(columns, fitted.lines), more_text(answer)))


def _query(clock: Clock, arguments: AggregateArguments) -> tuple[AggregateQuery, int]:
    """Return the question, and the bucket's length that was asked for."""
    (start_ms, end_ms), cursor = _place(clock, arguments)
    wanted_ms = max(end_ms - start_ms, 1)
    if arguments.interval is not None:
        wanted_ms = _interval_ms(arguments.interval)
    bucket_ms = wanted_ms
    if start_ms < end_ms:
        bucket_ms = coarsened(start_ms, end_ms, wanted_ms, buckets_max=BUCKETS_MAX)
    query = AggregateQuery(
        filters=as_list(arguments.topic),
        functions=arguments.functions,
        start_ms=start_ms,
        end_ms=end_ms,
        bucket_ms=bucket_ms,
        field=FieldPath.parse(arguments.field),
        by_topic=arguments.by_topic,
        limit=arguments.limit,
        cursor=cursor,
    )
    return query, wanted_ms


def _place(clock: Clock, arguments: AggregateArguments) -> tuple[tuple[int, int], str | None]:
    """Return from when to when, and where the page begins.

    A cursor of ours has the times before it, because now is another moment than then. Nobody can
    change them: they are part of the question that the cursor belongs to.
    """
    if arguments.cursor is None:
        return _stretch(clock, arguments), None
    found = _CURSOR.fullmatch(arguments.cursor)
    if found is None:
        raise refused_cursor()
    return (int(found["start"]), int(found["end"])), found["rest"]


def _stretch(clock: Clock, arguments: AggregateArguments) -> tuple[int, int]:
    """Return from when to when; without a start it is the day before the end."""
    start_ms, end_ms = time_ms(arguments.start_time, clock), time_ms(arguments.end_time, clock)
    now_ms = clock.wall_ms()
    if end_ms is None and start_ms is not None and start_ms > now_ms:
        raise QueryRefused(
            f"startTime {moment(start_ms)} is in the future, it is {moment(now_ms)}; if it is local"
            " time, write an offset, such as +01:00"
        )
    if end_ms is None:
        end_ms = -(-now_ms // _MINUTE_MS) * _MINUTE_MS
    return (max(end_ms - _DAY_MS, 0) if start_ms is None else start_ms), end_ms


def _cursor(query: AggregateQuery, cursor: str | None) -> str | None:
    return None if cursor is None else f"{query.start_ms}-{query.end_ms}-{cursor}"


def _interval_ms(text: str) -> int:
    try:
        return parse_duration(text) // timedelta(milliseconds=1)
    except ValueError as exc:
        raise QueryRefused(
            f"{clipped(text, 40)!r} is not an interval; write a number and s, m, h, d or w, such"
            " as 15m, 1h or 1d, or leave it out for one bucket"
        ) from exc


def _length(length_ms: int) -> str:
    """Return a length as ``interval`` is written; a stretch of odd milliseconds in seconds."""
    if length_ms % 1000:
        return f"{length_ms / 1000}s"
    return format_duration(timedelta(milliseconds=length_ms))


def _shown(bucket: Bucket) -> BucketRow:
    missing = bucket.messages - bucket.numbers
    values: dict[str, Any] = {name.value: value for name, value in bucket.values.items()}
    # A bucket with numbers has a value for everything, unless a double cannot hold it.
    infinite = tuple(
        name
        for name, value in values.items()
        if bucket.numbers and (value is None or not math.isfinite(value))
    )
    return BucketRow(
        start=moment(bucket.start_ms),
        topic=None if bucket.topic is None else shown_name(bucket.topic),
        messages=bucket.messages,
        without_number=missing or None,
        beyond=infinite or None,
        **{name: value for name, value in values.items() if name not in infinite},
    )


def _cells(row: BucketRow, query: AggregateQuery) -> Sequence[str]:
    topic = [row.topic or ""] if query.by_topic else []
    without = f" ({row.without_number} without a number)" if row.without_number else ""
    numbers = [_number(row, function.value) for function in query.functions]
    return [row.start, *topic, f"{row.messages}{without}", *numbers]


def _number(row: BucketRow, name: str) -> str:
    if name in (row.beyond or ()):
        return "too large"
    value = getattr(row, name)
    return "" if value is None else f"{value:.10g}"


async def _without_numbers(
    archive: ArchiveQueries, query: AggregateQuery, rows: Sequence[BucketRow]
) -> str | None:
    """Return where the numbers are, if there is none where they were looked for."""
    if not rows or any(row.messages != row.without_number for row in rows):
        return None
    fields = await number_fields(archive, query.filters)
    if not fields:
        return "No message has a number there; look at some with query-message-archive."
    listed = ", ".join(plain(field) for field in fields)
    return f"No message has a number there; payloads are JSON with numbers in: {listed}. Set field."


def _hint(query: AggregateQuery, returned: int, *, coarse: bool, truncated: bool) -> str | None:
    hints = []
    if coarse:
        hints.append(
            f"More than {BUCKETS_MAX} buckets were asked for, so they are"
            f" {_length(query.bucket_ms)} long; for shorter ones shorten the time."
        )
    if truncated:
        hints.append("Name fewer topics, or ask for longer intervals, for fewer rows.")
    elif not returned and query.cursor is None:
        hints.append(
            "No message in that time. Without startTime it is the day before endTime, without"
            " endTime it ends now; find-topics-by-name finds topics, and list-archive-groups tells"
            " what time an archive covers."
        )
    return " ".join(hints) or None
