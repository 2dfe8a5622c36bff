"""What the tools stand on: everything that has to be opened, closed or configured elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from monstermq_mcp.counts import Counts
from monstermq_shared.clock import Clock
from monstermq_shared.config.sections import ArchiveGroup
from monstermq_shared.errors import NotSupported
from monstermq_shared.queries.ports import (
    ArchiveQueries,
    LiveFeed,
    LogQueries,
    Publisher,
    SqlQueries,
    TopicQueries,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An archive group and who answers for it.

    Attributes:
        config: What the configuration says of it.
        archive: Questions to its history, or why there are none.
        topics: Questions about its last values and about what is retained, or why there are none.
        sql: Questions in SQL to its database, or why there are none.
    """

    config: ArchiveGroup
    archive: ArchiveQueries | NotSupported
    topics: TopicQueries | NotSupported
    sql: SqlQueries | NotSupported


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the tools ask and use.

    Attributes:
        version: Of this release.
        groups: The archive groups, in the order of the configuration.
        default_group: The group that is meant where nobody says; None: ``MCP``, else the first that
            can answer.
        clock: What time it is.
        live: Messages as they come; None if nobody can tell.
        log: Questions to the bus; None: the archive stands for it.
        publisher: Publishes; None if nobody may.
        may_write: Tells whether who makes the present call may publish.
        counts: Where calls are counted.
    """

    version: str
    groups: Sequence[Group]
    default_group: str | None
    clock: Clock
    live: LiveFeed | None
    log: LogQueries | None
    publisher: Publisher | None
    may_write: Callable[[], bool]
    counts: Counts = field(default_factory=Counts)
