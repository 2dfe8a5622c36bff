"""Which views a configuration asks for, and in which database each of them lives."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from monstermq_shared.config import ArchiveGroup, BrokerConfig, StoreType
from monstermq_shared.projections.archive import ArchiveProjection
from monstermq_shared.projections.last_value import LastValueProjection
from monstermq_shared.projections.ports import Projection
from monstermq_shared.projections.retained import RetainedProjection
from monstermq_shared.projections.selection import GroupSelection
from monstermq_shared.stores.changes import ArchiveChanges, MessageChanges
from monstermq_shared.stores.needed import RETAINED, StoresNeeded, archive_name, last_value_name
from monstermq_shared.stores.queues import QUEUES_MARK, SESSIONS_MARK

RETAINED_VIEW = "retained"
"""The name of the retained view's mark."""

SESSIONS = SESSIONS_MARK
"""The name of the session store's mark."""

QUEUES = QUEUES_MARK
"""The name of the mark of the queues of kept sessions, in each partition of a bus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """A view of one record per topic: what is retained, or the last values of a group.

    Attributes:
        store: The logical name of its store.
        store_type: Where that is.
        projection: Makes its rows.
        group: Whose last values it has; None for what is retained.
    """

    store: str
    store_type: StoreType
    projection: Projection[MessageChanges]
    group: ArchiveGroup | None

    @property
    def retention(self) -> timedelta | None:
        """How long the value of a topic without news is kept; None: for ever."""
        return None if self.group is None else self.group.last_val_retention


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveView:
    """A view of all records of a group; the attributes are those of ``MessageView``."""

    store: str
    store_type: StoreType
    projection: Projection[ArchiveChanges]
    group: ArchiveGroup

    @property
    def retention(self) -> timedelta | None:
        """How long records are kept; None: for ever."""
        return self.group.archive_retention


class Catalogue:
    """All views of a configuration.

    Attributes:
        session_store_type: Where the sessions are.
        messages: The views of one record per topic, what is retained first.
        archives: The views of all records.
    """

    def __init__(self, config: BrokerConfig) -> None:
        self.session_store_type = config.session_store_type
        self.messages: list[MessageView] = [
            MessageView(
                store=RETAINED,
                store_type=config.retained_store_type,
                projection=RetainedProjection(RETAINED_VIEW),
                group=None,
            )
        ]
        self.archives: list[ArchiveView] = []
        for group in config.archive_groups:
            if group.enabled:
                self._add_group(group)

    def _add_group(self, group: ArchiveGroup) -> None:
        selection = GroupSelection(group.topic_filter, retained_only=group.retained_only)
        if group.last_val_type is not StoreType.NONE:
            name = last_value_name(group)
            self.messages.append(
                MessageView(
                    store=name,
                    store_type=group.last_val_type,
                    projection=LastValueProjection(name, selection),
                    group=group,
                )
            )
        if group.archive_type is not StoreType.NONE:
            name = archive_name(group)
            self.archives.append(
                ArchiveView(
                    store=name,
                    store_type=group.archive_type,
                    projection=ArchiveProjection(name, selection),
                    group=group,
                )
            )

    @property
    def views(self) -> Iterator[MessageView | ArchiveView]:
        """All of them."""
        yield from self.messages
        yield from self.archives

    @property
    def store_types(self) -> list[StoreType]:
        """Where something lives that outlasts the process, the session store's type first."""
        types = dict.fromkeys([self.session_store_type, *(view.store_type for view in self.views)])
        types.pop(StoreType.MEMORY, None)
        return [*types]

    def needed(self, store_type: StoreType) -> StoresNeeded:
        """Return what the database of a type is opened with."""
        return StoresNeeded(
            session_store=self.session_store_type is store_type,
            message_stores=tuple(at.store for at in self.messages if at.store_type is store_type),
            archive_stores=tuple(at.store for at in self.archives if at.store_type is store_type),
        )
