"""``watch-topics``: messages as they come."""

import time
from functools import partial
from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import Field

from monstermq_mcp.counts import Counts
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
from monstermq_mcp.tools.arguments import Arguments, NoGroup, Topics, as_list, mistaken_wildcard
from monstermq_mcp.tools.making import READS, About, make_tool, result
from monstermq_shared.errors import BusUnavailable
from monstermq_shared.queries.filters import checked_filters
from monstermq_shared.queries.history import Message
from monstermq_shared.queries.ports import LiveFeed

SECONDS_MAX = 60
"""The longest that a call waits."""

MESSAGES_MAX = 200
"""Messages of a call."""

ABOUT = About(
    "watch-topics",
    "Watch topics live",
    "Waits for messages that are published from now on, and returns them: once there are limit of"
    " them, or the seconds are over. Use it to see whether something is alive, how often it"
    " publishes, or what happens next; get-topic-value is immediate, and read-log has what came"
    " before. Narrow by exact filters; a small limit ends the waiting early.",
    READS,
)


class WatchArguments(Arguments):
    """What to watch, and how long."""

    topics: Topics
    seconds: Annotated[
        float,
        Field(gt=0, le=SECONDS_MAX, description=f"How long to wait, up to {SECONDS_MAX}."),
    ] = 10.0
    limit: Annotated[
        int,
        Field(ge=1, le=MESSAGES_MAX, description=f"Messages to wait for, up to {MESSAGES_MAX}."),
    ] = 50
    archive_group: NoGroup = None


class SeenMessage(Payload):
    """A message that came."""

    time: Moment
    topic: ClientText
    retained: Annotated[bool, Field(description="Whether it was published with the retain flag.")]


class Watched(Answer):
    """Messages that came."""

    note: Note = DATA_NOTE
    returned: Annotated[int, Field(description="How many messages are here.")]
    truncated: Annotated[bool, Field(description="Whether there were more while it watched.")]
    hint: Annotated[str | None, Field(description="How to see what is not here.")] = None
    watched_seconds: Annotated[float, Field(description="How long it has watched.")]
    rows: list[SeenMessage]


def watch_tool(live: LiveFeed, counts: Counts) -> Tool:
    """Return the tool."""
    return make_tool(ABOUT, partial(_watched, live, counts), WatchArguments, Watched)


async def _watched(live: LiveFeed, counts: Counts, arguments: WatchArguments) -> CallToolResult:
    begin = time.monotonic()
    try:
        messages, dropped = await _messages(live, arguments)
    except BusUnavailable:
        counts.watches_refused += 1
        raise
    counts.messages_dropped += dropped
    seconds = round(time.monotonic() - begin, 1)
    rows, lines = fit(messages, _shown, lambda row: (row.time, row.topic, row.cell), ROWS_SIZE_MAX)
    left = len(messages) - len(rows) + dropped
    answer = Watched(
        returned=len(rows),
        truncated=left > 0,
        hint=joined(
            _hint(len(rows), left),
            None if rows else mistaken_wildcard(as_list(arguments.topics)),
        ),
        watched_seconds=seconds,
        rows=rows,
    )
    heading = f"{counted(answer.returned, 'message')} came in {seconds} seconds. {DATA_NOTE}"
    listed = table(["time", "topic", "payload"], lines)
    return result(answer, paragraphs(heading, listed, answer.hint))


async def _messages(live: LiveFeed, arguments: WatchArguments) -> tuple[list[Message], int]:
    """Return what came, and how many messages more came and were dropped."""
    filters = checked_filters(as_list(arguments.topics))
    deadline = time.monotonic() + arguments.seconds
    messages: list[Message] = []
    async with live.watch(filters, payload_limit=PAYLOAD_MAX) as watch:
        while len(messages) < arguments.limit and (rest := deadline - time.monotonic()) > 0:
            message = await watch.next(rest)
            if message is not None:
                messages.append(message)
        return messages, watch.dropped


def _shown(message: Message) -> SeenMessage:
    return SeenMessage(
        time=moment(message.time_ms),
        topic=shown_name(message.topic),
        retained=message.retained,
        **payload_members(message),
    )


def _hint(returned: int, left: int) -> str | None:
    if left:
        return f"{left} messages more came and are not here; a more exact filter has fewer."
    if not returned:
        return (
            "No message came in that time. get-topic-value tells when the last one came; a longer"
            " time may be needed."
        )
    return None
