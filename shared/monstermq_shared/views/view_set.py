"""The views in one database: what they want, and what a commit changes in all of them."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TypeAlias

from monstermq_shared.config import StoreType
from monstermq_shared.projections.ports import Projection
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.views.catalogue import ArchiveView, Catalogue, MessageView

_Wants: TypeAlias = Callable[[str], bool]

# Plain numbers, because an enumeration's members are slow to read for every new topic.
TAKES_NONE, TAKES_RETAINED, TAKES_EVERY = range(3)
"""Which messages of a topic some views take: none, those with the retain flag, or every one."""


class ViewSet:
    """The views in one database.

    Attributes:
        every_topic: All of them want every topic but some that begin with ``$``.
    """

    def __init__(self, messages: Sequence[MessageView], archives: Sequence[ArchiveView]) -> None:
        self._messages = messages
        self._archives = archives
        self.every_topic = True
        self._of_every: list[_Wants] = []
        self._of_retained: list[_Wants] = []
        for projection in self._projections():
            self._ask(projection)

    @classmethod
    def of(cls, catalogue: Catalogue, store_type: StoreType) -> "ViewSet":
        """Return the views that live in the database of a type."""
        return cls.of_views([view for view in catalogue.views if view.store_type is store_type])

    @classmethod
    def of_views(cls, views: Sequence[MessageView | ArchiveView]) -> "ViewSet":
        """Return views of both kinds as a set."""
        return cls(
            [view for view in views if isinstance(view, MessageView)],
            [view for view in views if isinstance(view, ArchiveView)],
        )

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._messages or self._archives)

    def _projections(self) -> Iterator[Projection[object]]:
        for messages in self._messages:
            yield messages.projection
        for archive in self._archives:
            yield archive.projection

    def _ask(self, projection: Projection[object]) -> None:
        asked = self._of_retained if projection.retained_only else self._of_every
        asked.append(projection.wants)
        self.every_topic &= projection.every_topic

    @property
    def names(self) -> list[str]:
        """The names of the projections, as their marks are stored under."""
        return [projection.name for projection in self._projections()]

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

    def select(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records that one of them wants, and perhaps more, in order."""
        if self.every_topic and self._of_every:
            return records
        if not self._of_every:
            return [record for record in records if record.retained]
        takes = self.takes
        # Of a topic whose retained messages only are taken, a message has to have the flag.
        return [at for at in records if takes(at.topic) >= TAKES_EVERY - at.retained]

    def each(self) -> list["ViewSet"]:
        """Return every view as a set of its own."""
        singles = [ViewSet([view], []) for view in self._messages]
        return singles + [ViewSet([], [view]) for view in self._archives]

    def fold(
        self, records: Sequence[Record], upto: int, starts: Mapping[str, int] | None = None
    ) -> Commit:
        """Fold records into a commit.

        Args:
            records: In order of offset.
            upto: The next offset: what the marks become.
            starts: Projection -> the first offset it folds; one that is not there folds all.
        """
        at = starts or {}
        messages = {
            view.store: view.projection.fold(_from(records, at.get(view.projection.name, 0)))
            for view in self._messages
        }
        archives = {
            view.store: view.projection.fold(_from(records, at.get(view.projection.name, 0)))
            for view in self._archives
        }
        return Commit(
            upto=upto,
            messages={name: changes for name, changes in messages.items() if changes},
            archives={name: changes for name, changes in archives.items() if changes},
        )


def _from(records: Sequence[Record], start: int) -> Sequence[Record]:
    """Return the records from an offset on."""
    if not records or records[0].offset >= start:
        return records
    return records[bisect_left(records, start, key=attrgetter("offset")) :]
