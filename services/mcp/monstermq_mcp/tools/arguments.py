"""What tools take: named as in JSON, each with a bound, and nothing that they do not know."""

from collections.abc import Sequence
from itertools import permutations
from typing import Annotated, Any

from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase
from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from monstermq_shared.clock import Clock
from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.bounds import FILTERS_MAX, ROWS_DEFAULT, ROWS_MAX, TEXT_SIZE_MAX
from monstermq_shared.queries.times import parse_time
from monstermq_shared.records import format_timestamp

CURSOR_MAX = 4_096
"""Characters of a cursor."""

TOPIC_NAMES = ("topic", "topics")
"""What tools call the topics and filters that they are about: one or the other."""


class Arguments(ArgModelBase):
    """The arguments of one tool.

    What the SDK validates arguments with, so that a tool gets them as one value instead of as
    many keywords, and refuses a name it does not know instead of passing it over.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )

    @model_validator(mode="before")
    @classmethod
    def forgiven(cls, values: Any) -> Any:  # noqa: ANN401 - whatever a client has sent
        """Take null for nothing, and ``topic`` and ``topics`` for each other.

        Some models name all arguments, and set most of them to null; and no model remembers which
        tool calls it how.
        """
        if not isinstance(values, dict):
            return values
        taken = {name: value for name, value in values.items() if value is not None}
        for other, name in permutations(TOPIC_NAMES):
            if name in cls.model_fields and name not in taken and other in taken:
                taken[name] = taken.pop(other)
        return taken

    def model_dump_one_level(self) -> dict[str, Any]:
        """Return what the tool's function is called with: these arguments."""
        return {"arguments": self}


ShortText = Annotated[str, Field(min_length=1, max_length=TEXT_SIZE_MAX)]

Topic = Annotated[str, Field(min_length=1, max_length=65_535)]

Topics = Annotated[
    Topic | Annotated[list[Topic], Field(min_length=1, max_length=FILTERS_MAX)],
    Field(
        description="A topic, or a filter (+ is one level, # all that follow: rooms/+/temperature,"
        " rooms/#), or a list of them."
    ),
]

Limit = Annotated[
    int,
    Field(ge=1, le=ROWS_MAX, description=f"Rows to return at most, up to {ROWS_MAX:,}."),
]

GroupName = Annotated[
    str | None,
    Field(
        max_length=63,
        description="The archive group to ask; see list-archive-groups. Absent: MCP, else the"
        " first that can answer.",
    ),
]

NoGroup = Annotated[
    str | None,
    Field(max_length=63, description="Not needed here: messages are not asked of an archive."),
]

Cursor = Annotated[
    str | None,
    Field(
        max_length=CURSOR_MAX,
        description="The nextCursor of the result before, for what follows it; leave all other"
        " arguments as they were.",
    ),
]

StartTime = Annotated[
    str | None,
    Field(
        max_length=TEXT_SIZE_MAX,
        description="From this moment on: ISO 8601, as 2026-01-15T10:30:00+01:00; UTC if it has no"
        " offset.",
    ),
]

EndTime = Annotated[
    str | None,
    Field(
        max_length=TEXT_SIZE_MAX,
        description="Up to this moment: ISO 8601, as 2026-01-15T11:30:00+01:00; UTC if it has no"
        " offset.",
    ),
]


class Paged(Arguments):
    """Arguments of a tool that answers in pages."""

    archive_group: GroupName = None
    limit: Limit = ROWS_DEFAULT
    cursor: Cursor = None


def as_list(topics: str | list[str]) -> tuple[str, ...]:
    """Return topics as they were given, one or several, as several."""
    return (topics,) if isinstance(topics, str) else tuple(topics)


def mistaken_wildcard(topics: Sequence[str]) -> str | None:
    """Return what to write instead, if ``*`` fills a level, as wildcards do elsewhere."""
    if not any("*" in topic.split("/") for topic in topics):
        return None
    return "* is no wildcard in topics: write + for one level, and # for all that follow."


def time_ms(text: str | None, clock: Clock) -> int | None:
    """Return a time in milliseconds since 1970-01-01 UTC, None if there is none.

    Raises:
        QueryRefused: It is not a time. Who asks for "yesterday" may have no clock, so the message
            says what time it is.
    """
    try:
        return None if text is None else parse_time(text)
    except QueryRefused as exc:
        raise QueryRefused(f"{exc}; it is {format_timestamp(clock.wall_ms())} now") from exc
