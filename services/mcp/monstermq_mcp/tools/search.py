"""``find-topics-by-name`` and ``find-topics-by-description``."""

from functools import partial
from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import Field

from monstermq_mcp.groups import Groups
from monstermq_mcp.rendering.bounds import PAYLOAD_MAX
from monstermq_mcp.rendering.tables import DATA_NOTE, paragraphs, table
from monstermq_mcp.rendering.text import clipped
from monstermq_mcp.tools.answers import (
    Answer,
    ClientText,
    GroupNamed,
    Page,
    counted,
    joined,
    more_text,
    shown_name,
)
from monstermq_mcp.tools.arguments import Paged, ShortText
from monstermq_mcp.tools.making import READS, About, fit_page, make_tool, result
from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.bounds import TEXT_SIZE_MAX
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.topics import (
    DescriptionSearch,
    FoundPage,
    FoundTopic,
    NameSearch,
)
from monstermq_shared.topics import is_wildcard

BY_NAME = About(
    "find-topics-by-name",
    "Find topics by name",
    "Returns topics that have a value, by a part of their names, each with its description if it"
    " has one. Use it first, to learn what topics are called. name is a part of the name, or a"
    " pattern for the whole of it: * is any text, ? is one character, % is any text as in SQL. A +"
    " or # that fills a level is any text too, slashes included: it finds more than that MQTT"
    " filter, which get-topic-value takes. Narrow by namespace, the beginning of the names, or by a"
    " longer name. If nothing is found, try another word, or"
    " find-topics-by-description.",
    READS,
)

BY_DESCRIPTION = About(
    "find-topics-by-description",
    "Find topics by description",
    "Returns topics whose description has all of some words in it, also as parts of longer words."
    " Use it if you know what is measured but not what the topic is called. Descriptions are the"
    " member Description of the JSON documents retained at <topic>/<config>; not every topic has"
    " one. Narrow by namespace, the beginning of the names, or by more words.",
    READS,
)


_WHOLE = "This was a pattern, which is for whole names; * before and after it finds parts of them."
_NARROWER = "A longer name, more words or a namespace finds fewer."


class SearchArguments(Paged):
    """What both searches take."""

    ignore_case: Annotated[
        bool, Field(description="Whether upper and lower case are the same.")
    ] = True
    namespace: Annotated[
        str | None,
        Field(
            max_length=TEXT_SIZE_MAX,
            description="Only topics below this one, without wildcards: plant/line1. Absent: all.",
        ),
    ] = None

    @property
    def below(self) -> str | None:
        """The namespace without the slash or wildcard that it may end with.

        Raises:
            QueryRefused: It has other wildcards.
        """
        below = (self.namespace or "").removesuffix("#").rstrip("/")
        if is_wildcard(below):
            raise QueryRefused(
                "the namespace is the beginning of names, without wildcards; a pattern for whole"
                " names is the argument name of find-topics-by-name"
            )
        return below or None


class NameArguments(SearchArguments):
    """Which names."""

    name: Annotated[
        ShortText, Field(description="A part of the name, or a pattern: *temperature*, room?/temp*")
    ]


class DescriptionArguments(SearchArguments):
    """Which descriptions."""

    description: Annotated[ShortText, Field(description="Words of the description.")]


class Found(Answer):
    """A topic that was found."""

    topic: ClientText
    description: ClientText | None = None
    config: Annotated[
        ClientText | None, Field(description="The whole document at <topic>/<config>.")
    ] = None


class FoundTopics(Page):
    """Topics that were found."""

    archive_group: GroupNamed
    topics: list[Found]


def search_tools(groups: Groups) -> list[Tool]:
    """Return both tools."""
    by_name, by_description = partial(found_by_name, groups), partial(found_by_description, groups)
    return [
        make_tool(BY_NAME, by_name, NameArguments, FoundTopics),
        make_tool(BY_DESCRIPTION, by_description, DescriptionArguments, FoundTopics),
    ]


async def found_by_name(groups: Groups, arguments: NameArguments) -> CallToolResult:
    """Return topics by their names.

    Raises:
        QueryError: They cannot be told; the message says why.
        StoreError: The database failed.
    """
    group, topics = groups.topics(arguments.archive_group)
    pattern = name_pattern(arguments.name)
    page = await topics.find_by_name(
        NameSearch(
            pattern=pattern if arguments.below is None else pattern.below(arguments.below),
            ignore_case=arguments.ignore_case,
            limit=arguments.limit,
            cursor=arguments.cursor,
        )
    )
    return _found(
        group,
        page,
        joined(
            None if pattern.is_open else _WHOLE,
            _nothing(groups, group, arguments, BY_DESCRIPTION),
        ),
        with_config=False,
    )


async def found_by_description(groups: Groups, arguments: DescriptionArguments) -> CallToolResult:
    """Return topics by their descriptions.

    Raises:
        QueryError: They cannot be told; the message says why.
        StoreError: The database failed.
    """
    group, topics = groups.topics(arguments.archive_group)
    page = await topics.find_by_description(
        DescriptionSearch(
            text=arguments.description,
            namespace=arguments.below,
            ignore_case=arguments.ignore_case,
            limit=arguments.limit,
            cursor=arguments.cursor,
        )
    )
    return _found(group, page, _nothing(groups, group, arguments, BY_NAME), with_config=True)


def name_pattern(text: str) -> TopicPattern:
    """Return what names are looked for by.

    Models write MQTT filters here as well, so a ``+`` that fills a level, and ``#``, are any text.

    Raises:
        QueryRefused: It has too many wildcards.
    """
    levels = text.split("/")
    if len(levels) > 1 or text == "#":
        text = "/".join("*" if level in {"+", "#"} else level for level in levels)
    if any(wildcard in text for wildcard in "*?+"):
        return TopicPattern.glob(text)
    if "%" in text:
        return TopicPattern.like(text)
    return TopicPattern.containing(text)


def _found(
    group: str, page: FoundPage, nothing: str | None, *, with_config: bool
) -> CallToolResult:
    def show(found: FoundTopic) -> Found:
        return Found(
            topic=shown_name(found.topic),
            description=_clipped(found.description),
            config=_clipped(found.config) if with_config else None,
        )

    def cells(found: Found) -> tuple[str, str]:
        return found.topic, (found.config if with_config else found.description) or ""

    fitted = fit_page(page, show, cells)
    answer = FoundTopics(
        archive_group=group,
        **fitted.place,
        hint=nothing if not fitted.rows else _NARROWER if fitted.truncated else None,
        topics=fitted.rows,
    )
    heading = f"{counted(answer.returned, 'topic')} of archive group {group}. {DATA_NOTE}"
    listed = table(["topic", "configuration" if with_config else "description"], fitted.lines)
    return result(answer, paragraphs(heading, listed, more_text(answer)))


def _clipped(text: str | None) -> str | None:
    return None if text is None else clipped(text, PAYLOAD_MAX)


def _nothing(groups: Groups, group: str, arguments: SearchArguments, other: About) -> str | None:
    """Return what to do if nothing is found."""
    space = "without namespace, " if arguments.namespace else ""
    sentence = f"No topic was found; try another or a shorter word, {space}or {other.name}."
    return joined(sentence, groups.elsewhere(group))
