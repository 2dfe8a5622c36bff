"""Opens what the tools ask, on the event loop that they are called on."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from mcp.server.auth.middleware.auth_context import get_access_token

from monstermq_mcp.access import WRITE
from monstermq_mcp.counts import Counts
from monstermq_mcp.needs import Needs
from monstermq_mcp.sources import Group, Sources
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import ArchiveGroup
from monstermq_shared.config.sections import enabled_groups
from monstermq_shared.errors import NotSupported
from monstermq_shared.queries.bounds import TIMEOUT_S_DEFAULT
from monstermq_shared.stores.group_queries import GroupQueries

_Queries = TypeVar("_Queries")


@asynccontextmanager
async def opened(needs: Needs, counts: Counts) -> AsyncIterator[Sources]:
    """Open what the tools ask, for as long as the context lasts.

    Args:
        needs: What the process gives.
        counts: Where calls are counted.

    Raises:
        ConfigError: A database's section is wrong.
    """
    config = needs.config
    queries = GroupQueries(config, needs.cursors, timeout_s=TIMEOUT_S_DEFAULT, memory=needs.memory)
    try:
        yield Sources(
            version=needs.version,
            groups=[_group(group, queries) for _, group in enabled_groups(config)],
            default_group=config.mcp.archive_group,
            clock=SystemClock(),
            live=needs.live,
            log=needs.log,
            publisher=needs.publisher,
            may_write=_may_write,
            counts=counts,
        )
    finally:
        await queries.close()


def _group(group: ArchiveGroup, queries: GroupQueries) -> Group:
    return Group(
        config=group,
        archive=_supported(queries.archive, group),
        topics=_supported(queries.topics, group),
        sql=_supported(queries.sql, group),
    )


def _supported(
    ask: Callable[[ArchiveGroup], _Queries], group: ArchiveGroup
) -> _Queries | NotSupported:
    try:
        return ask(group)
    except NotSupported as exc:
        return exc


def _may_write() -> bool:
    token = get_access_token()
    return token is not None and WRITE in token.scopes
