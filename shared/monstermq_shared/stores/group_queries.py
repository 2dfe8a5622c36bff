"""Questions to the archive groups of a configuration, wherever each of them keeps what."""

from monstermq_shared.config import ArchiveGroup, BrokerConfig, StoreType
from monstermq_shared.errors import NotSupported
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.joined import JoinedTopics
from monstermq_shared.queries.ports import (
    ArchiveQueries,
    DatabaseQueries,
    SqlQueries,
    TopicQueries,
)
from monstermq_shared.queries.scoped import ScopedArchive, ScopedTopics
from monstermq_shared.stores.memory_topics import MemoryQueries
from monstermq_shared.stores.needed import RETAINED, archive_name, last_value_name
from monstermq_shared.stores.registry import open_queries


class GroupQueries:
    """What answers for each group. Databases are opened by their first question.

    Args:
        config: The configuration.
        cursors: What seals where pages end.
        timeout_s: Seconds after which a question is given up.
        memory: What answers for stores of type MEMORY, where this process can ask their broker.
    """

    def __init__(
        self,
        config: BrokerConfig,
        cursors: Cursors,
        *,
        timeout_s: float,
        memory: MemoryQueries | None = None,
    ) -> None:
        self._config = config
        self._cursors = cursors
        self._timeout_s = timeout_s
        self._opened: dict[StoreType, DatabaseQueries] = {}
        if memory is not None:
            self._opened[StoreType.MEMORY] = memory

    def archive(self, group: ArchiveGroup) -> ArchiveQueries:
        """Return the questions to the past messages of a group.

        Raises:
            NotSupported: It keeps none, or where nothing can be asked.
        """
        if group.archive_type is StoreType.NONE:
            raise NotSupported(
                f"the archive group {group.name} keeps no history: its ArchiveType is NONE; set it "
                "to SQLITE or POSTGRES"
            )
        archive = self._database(group.archive_type, "history").archive(archive_name(group))
        return ScopedArchive(archive, f"the archive of {group.name}", self._cursors)

    def topics(self, group: ArchiveGroup | None) -> TopicQueries:
        """Return the questions about topics: of what is retained, and of a group's last values.

        Args:
            group: The group; None, or one without last values: only what is retained.

        Raises:
            NotSupported: One of the two is kept where nothing can be asked.
        """
        scope = "what is retained" if group is None else f"the topics of {group.name}"
        return ScopedTopics(self._topics(group), scope, self._cursors)

    def _topics(self, group: ArchiveGroup | None) -> TopicQueries:
        kept = self._config.retained_store_type
        last = StoreType.NONE if group is None else group.last_val_type
        name = None if group is None or last is StoreType.NONE else last_value_name(group)
        retained = self._database(kept, "a question about topics")
        if name is None:
            return retained.topics(retained=RETAINED, last_values=None)
        if last is kept:
            return retained.topics(retained=RETAINED, last_values=name)
        last_values = self._database(last, "a question about topics")
        return JoinedTopics(
            retained=retained.topics(retained=RETAINED, last_values=None),
            last_values=last_values.topics(retained=None, last_values=name),
            cursors=self._cursors,
        )

    def sql(self, group: ArchiveGroup) -> SqlQueries:
        """Return the questions in SQL to the database with the archive of a group.

        Where that has no SQL, it is the one with its last values.

        Raises:
            NotSupported: Neither has SQL, or the group keeps nothing.
        """
        refusals = [
            NotSupported(f"the archive group {group.name} keeps nothing that SQL could read")
        ]
        types = [group.archive_type, group.last_val_type]
        for store_type in filter(lambda one: one is not StoreType.NONE, types):
            try:
                return self._database(store_type, "SQL").sql
            except NotSupported as exc:
                refusals.append(exc)
        raise refusals[-1]

    async def close(self) -> None:
        """Close what was opened."""
        for queries in self._opened.values():
            await queries.close()

    def _database(self, store_type: StoreType, what: str) -> DatabaseQueries:
        found = self._opened.get(store_type)
        if found is None:
            found = open_queries(store_type, self._config, self._cursors, timeout_s=self._timeout_s)
            if found is None:
                raise NotSupported(
                    f"{what} is not supported by {store_type}; it is by SQLITE and POSTGRES"
                )
            self._opened[store_type] = found
        return found
