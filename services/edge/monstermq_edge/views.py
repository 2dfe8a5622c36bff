"""The views of this process: which projections there are, and where their changes are committed.

What lives in the session store's database is committed with the sessions, in one transaction and
before the acknowledgement (ARCHITECTURE 11.6). Memory views belong to the process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from monstermq_shared.config import ArchiveGroup, BrokerConfig, StoreType
from monstermq_shared.counters import Counters
from monstermq_shared.projections.archive import ArchiveProjection
from monstermq_shared.projections.last_value import LastValueProjection
from monstermq_shared.projections.ports import Projection
from monstermq_shared.projections.retained import RetainedProjection
from monstermq_shared.projections.selection import GroupSelection
from monstermq_shared.records import Record
from monstermq_shared.routing import Interest
from monstermq_shared.sessions.local import Turn
from monstermq_shared.stores.changes import ArchiveChanges, Commit, CommitResult, MessageChanges
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.ports import ArchiveStore, MessageStore
from monstermq_shared.stores.sqlite import SqliteDatabase

RETAINED = "RetainedMessages"
"""The retained store's logical name; tables are called after it in lower case."""

_Wants: TypeAlias = Callable[[str], bool]


# Plain numbers, since an enumeration's members are slow to read for every new topic.
TAKES_NONE, TAKES_RETAINED, TAKES_EVERY = _TAKES = range(3)
"""Which messages of a topic some views take: none, those with the retain flag, or every one."""

_ANY_TOPIC = "a"
"""Stands for all topics that do not begin with ``$``, where filters make no difference."""

_INTERESTS = [
    [
        Interest(
            wanted=TAKES_EVERY in {durable, volatile},
            durable=durable == TAKES_EVERY,
            durable_retained=durable != TAKES_NONE,
        )
        for volatile in _TAKES
    ]
    for durable in _TAKES
]
"""What the router is told, by what the session store's database and Memory views take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """A projection whose rows are one record per topic."""

    projection: Projection[MessageChanges]
    store: MessageStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveView:
    """A projection whose rows are all records."""

    projection: Projection[ArchiveChanges]
    store: ArchiveStore


class ViewSet:
    """The views in one database.

    Attributes:
        every_topic: All of them want every topic but some that begin with ``$``.
    """

    def __init__(self) -> None:
        self.every_topic = True
        self.messages: list[MessageView] = []
        self.archives: list[ArchiveView] = []
        self._of_every: list[_Wants] = []
        self._of_retained: list[_Wants] = []

    def add_messages(self, view: MessageView) -> None:
        """Add a view of one record per topic."""
        self.messages.append(view)
        self._ask(view.projection)

    def add_archive(self, view: ArchiveView) -> None:
        """Add a view of all records."""
        self.archives.append(view)
        self._ask(view.projection)

    def _ask(self, projection: Projection[object]) -> None:
        asked = self._of_retained if projection.retained_only else self._of_every
        asked.append(projection.wants)
        self.every_topic &= projection.every_topic

    @property
    def names(self) -> list[str]:
        """The names of the projections."""
        messages = [view.projection.name for view in self.messages]
        return messages + [view.projection.name for view in self.archives]

    def takes(self, topic: str) -> int:
        """Return ``TAKES_EVERY`` if one of them does on this topic, and so on."""
        # Not by any(): this is asked for every topic that is met for the first time.
        for wants in self._of_every:
            if wants(topic):
                return TAKES_EVERY
        for wants in self._of_retained:
            if wants(topic):
                return TAKES_RETAINED
        return TAKES_NONE

    def fold(self, turn: Turn) -> Commit:
        """Fold a turn's records into a commit."""
        records: Sequence[Record] = turn.records
        messages = {view.store.name: view.projection.fold(records) for view in self.messages}
        archives = {view.store.name: view.projection.fold(records) for view in self.archives}
        return Commit(
            upto=turn.upto,
            projections=self.names,
            messages={name: changes for name, changes in messages.items() if changes},
            archives={name: changes for name, changes in archives.items() if changes},
        )


class Views:
    """All views, and the two databases they live in.

    Attributes:
        database: The session store's database; its views commit with the sessions.
        retained: Where retained messages are read.
        last_values: Group name -> its last values.
        archives: Group name -> its history.
        retained_count: Topics with a retained message, as of the last ``measure``.
        database_size: Bytes the database takes, as of the last ``measure``.
        commit_delay_s: How long changes that nobody waits for may wait for their commit.
    """

    def __init__(self, config: BrokerConfig, database: SqliteDatabase, counters: Counters) -> None:
        self.database = database
        self._counters = counters
        self._memory_database = MemoryDatabase()
        self._primary = ViewSet()
        self._memory = ViewSet()
        self.last_values: dict[str, MessageStore] = {}
        self.archives: dict[str, ArchiveStore] = {}
        self.retained_count = 0
        self.database_size = 0
        self.commit_delay_s = config.sqlite.commit_delay_ms / 1000
        self.retained = self._add_messages(
            RETAINED, config.retained_store_type, RetainedProjection("retained")
        )
        for group in config.archive_groups:
            if group.enabled:
                self._add_group(group)
        every_topic = self._primary.every_topic and self._memory.every_topic
        # What is asked for every new topic is answered once, if filters make no difference.
        self._usual_interest = self._ask_views(_ANY_TOPIC) if every_topic else None

    def _add_messages(
        self,
        name: str,
        store_type: StoreType,
        projection: Projection[MessageChanges],
    ) -> MessageStore:
        in_memory = store_type is StoreType.MEMORY
        database = self._memory_database if in_memory else self.database
        store = database.message_store(name)
        views = self._memory if in_memory else self._primary
        views.add_messages(MessageView(projection=projection, store=store))
        return store

    def _add_group(self, group: ArchiveGroup) -> None:
        selection = GroupSelection(group.topic_filter, retained_only=group.retained_only)
        if group.last_val_type is not StoreType.NONE:
            self.last_values[group.name] = self._add_messages(
                last_value_name(group),
                group.last_val_type,
                LastValueProjection(last_value_name(group), selection),
            )
        if group.archive_type is not StoreType.NONE:
            store = self.database.archive_store(archive_name(group))
            projection = ArchiveProjection(archive_name(group), selection)
            self._primary.add_archive(ArchiveView(projection=projection, store=store))
            self.archives[group.name] = store

    @property
    def projection_names(self) -> list[str]:
        """The names of all projections."""
        return [*self._primary.names, *self._memory.names]

    def interest(self, topic: str) -> Interest:
        """Say who wants a topic's records; see ``Interest``."""
        if self._usual_interest is not None and topic[0] != "$":
            return self._usual_interest
        return self._ask_views(topic)

    def _ask_views(self, topic: str) -> Interest:
        return _INTERESTS[self._primary.takes(topic)][self._memory.takes(topic)]

    def has_work(self, turn: Turn) -> bool:
        """Whether a turn has anything to write."""
        return bool(turn.clients or turn.records)

    async def commit(self, turn: Turn) -> CommitResult:
        """Commit a turn's facts and records: the primary database in one transaction.

        Raises:
            StoreUnavailable: Nothing of it was committed to the primary database; the same call
                may be repeated, since Memory views take a turn twice without harm.
            StoreConflict, StoreDamaged: See ``Database.commit``.
        """
        if turn.records:
            await self._memory_database.commit(self._memory.fold(turn))
        commit = self._primary.fold(turn)
        commit.sessions = turn.clients
        if not (commit.sessions or commit.messages or commit.archives):
            return CommitResult({})
        result = await self.database.commit(commit)
        self._counters.rows_written += _rows_in(commit)
        return result

    async def measure(self) -> None:
        """Bring ``retained_count`` and ``database_size`` up to date."""
        self.retained_count = await self.retained.count()
        self.database_size = await self.database.size()

    async def close(self) -> None:
        """Close the database."""
        await self.database.close()


def last_value_name(group: ArchiveGroup) -> str:
    """Return the logical name of a group's last values, as the original calls it."""
    return f"{group.name}Lastval"


def archive_name(group: ArchiveGroup) -> str:
    """Return the logical name of a group's archive, as the original calls it."""
    return f"{group.name}Archive"


async def open_views(config: BrokerConfig, counters: Counters) -> Views:
    """Open the session store's database with the tables of every view in it.

    Raises:
        StartupError, StoreError: It cannot be opened; see ``SqliteDatabase.open``.
    """
    groups = [group for group in config.archive_groups if group.enabled]
    database = await SqliteDatabase.open(
        config.sqlite.path,
        session_store=True,
        message_stores=_message_store_names(config, StoreType.SQLITE),
        archive_stores=[archive_name(g) for g in groups if g.archive_type is StoreType.SQLITE],
    )
    return Views(config, database, counters)


def _rows_in(commit: Commit) -> int:
    """Count the rows a commit inserts, replaces or deletes; those of ended sessions as one."""
    rows = sum(map(len, commit.messages.values())) + sum(map(len, commit.archives.values()))
    for changes in commit.sessions.values():
        rows += len(changes.queued) + len(changes.dequeued) + len(changes.subscriptions)
        rows += len(changes.open_ids) + len(changes.in_flight)
        rows += changes.ended + (changes.session is not None)
    return rows


def _message_store_names(config: BrokerConfig, store_type: StoreType) -> list[str]:
    names = [
        last_value_name(group)
        for group in config.archive_groups
        if group.enabled and group.last_val_type is store_type
    ]
    return [RETAINED, *names] if config.retained_store_type is store_type else names
