"""Resources: what the server is, what is kept, and the tree of topics."""

from typing import Annotated

from mcp.server.mcpserver import ResourceSecurity
from pydantic import Field

from monstermq_mcp.broker_server import BrokerServer
from monstermq_mcp.faults import as_protocol_errors
from monstermq_mcp.groups import Groups
from monstermq_mcp.sources import Sources
from monstermq_mcp.tables_text import TablesText
from monstermq_mcp.tools.answers import Answer, ClientText, GroupNamed, Moment, Page, shown_name
from monstermq_mcp.tools.listing import list_groups
from monstermq_mcp.tools.making import fit_page
from monstermq_shared.queries.topics import ChildrenQuery, TopicChild
from monstermq_shared.records import format_timestamp

STATUS_URI = "monster://server/status"
GROUPS_URI = "monster://archive-groups"
TOPICS_URI = "monster://topics"

_JSON = "application/json"

# Topics look like paths, and lead nowhere.
_TOPICS = ResourceSecurity(reject_path_traversal=False, reject_absolute_paths=False)
_CHILDREN_MAX = 500


class Status(Answer):
    """The server's status."""

    status: str = "running"
    version: str
    time: Moment
    tools_count: int
    archive_groups: tuple[str, ...]
    bus: Annotated[str, Field(description="What carries the messages.")]
    publishing: Annotated[bool, Field(description="Whether who may can publish.")]


class Node(Answer):
    """A node of the topic tree."""

    topic: ClientText
    has_value: bool
    has_children: bool


class Level(Page):
    """One level of the topic tree."""

    archive_group: GroupNamed
    parent: Annotated[str | None, Field(description="What is above it; absent: nothing.")] = None
    topics: list[Node]


def add_resources(
    server: BrokerServer, sources: Sources, groups: Groups, tables: TablesText
) -> None:
    """Give the server its resources."""
    tools_count = server.tools_count

    @server.resource(
        STATUS_URI,
        name="server-status",
        title="Server status",
        mime_type=_JSON,
        description="Version, time and archive groups of this server.",
    )
    async def status() -> str:
        return _json(
            Status(
                version=sources.version,
                time=format_timestamp(sources.clock.wall_ms()),
                tools_count=tools_count,
                archive_groups=tuple(group.config.name for group in groups.all),
                bus="internal" if sources.log is None else "Kafka",
                publishing=sources.publisher is not None,
            )
        )

    @server.resource(
        GROUPS_URI,
        name="archive-groups",
        title="Archive groups",
        mime_type=_JSON,
        description="The archive groups, with the tables and columns of their databases.",
    )
    async def archive_groups() -> str:
        with as_protocol_errors():
            return _json(await list_groups(groups, tables, None))

    async def topics(
        parent: str | None = None, cursor: str | None = None, archiveGroup: str | None = None
    ) -> str:
        with as_protocol_errors():
            return _json(await level(groups, parent, cursor, archiveGroup))

    async def first_level() -> str:
        return await topics()

    server.resource(
        TOPICS_URI,
        name="topics",
        title="Topic tree",
        mime_type=_JSON,
        description="The first level of the topic tree.",
    )(first_level)
    server.resource(
        f"{TOPICS_URI}{{?parent,cursor,archiveGroup}}",
        name="topics-below",
        title="Topic tree below a topic",
        mime_type=_JSON,
        description="One level of the topic tree, below parent; go on with cursor.",
        security=_TOPICS,
    )(topics)


async def level(groups: Groups, parent: str | None, cursor: str | None, group: str | None) -> Level:
    """Return one level of the topic tree, or a page of it.

    Raises:
        QueryError: It cannot be told; the message says why.
        StoreError: The database failed.
    """
    name, queries = groups.topics(group)
    page = await queries.children(ChildrenQuery(parent=parent, limit=_CHILDREN_MAX, cursor=cursor))
    fitted = fit_page(page, _node, lambda node: (node.topic,))
    return Level(
        archive_group=name,
        parent=parent,
        **fitted.place,
        hint="Go on with the parameter cursor." if fitted.cursor else None,
        topics=fitted.rows,
    )


def _node(child: TopicChild) -> Node:
    return Node(
        topic=shown_name(child.topic), has_value=child.has_value, has_children=child.has_children
    )


def _json(answer: Answer) -> str:
    return answer.model_dump_json(by_alias=True, exclude_none=True)
