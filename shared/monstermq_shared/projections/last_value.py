"""The last value of every topic of an archive group."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import select_by_filters
from monstermq_shared.records import Record
from monstermq_shared.stores.ports import MessageChanges


class LastValueProjection:
    """Folds the records of a group: the last one of a topic stays, also if it is empty.

    Args:
        name: What its watermark is stored under.
        topic_filters: The group's filters; none at all mean ``#``.
        retained_only: Only records with the retain flag count.
    """

    def __init__(
        self, name: str, topic_filters: Sequence[str], *, retained_only: bool = False
    ) -> None:
        self.name = name
        self.retained_only = retained_only
        self._selection = select_by_filters(topic_filters)

    def wants(self, topic: str) -> bool:
        """Whether a filter of the group matches."""
        return topic in self._selection

    def fold(self, records: Sequence[Record]) -> MessageChanges:
        """Return the last record of each topic."""
        selection = self._selection
        every = not self.retained_only
        return {
            record.topic: record
            for record in records
            if (every or record.retained) and record.topic in selection
        }
