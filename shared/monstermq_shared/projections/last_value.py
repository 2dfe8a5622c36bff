"""The last value of every topic of an archive group."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import GroupProjection
from monstermq_shared.records import Record
from monstermq_shared.stores.ports import MessageChanges


class LastValueProjection(GroupProjection):
    """Folds the records of a group: the last one of a topic stays, also if it is empty."""

    def fold(self, records: Sequence[Record]) -> MessageChanges:
        """Return the last record of each topic."""
        return {record.topic: record for record in self._selection.select(records)}
