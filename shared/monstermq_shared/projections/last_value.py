"""The last value of every topic of an archive group."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import GroupSelection
from monstermq_shared.records import Record
from monstermq_shared.stores.ports import MessageChanges


class LastValueProjection:
    """Folds the records of a group: the last one of a topic stays, also if it is empty.

    Args:
        name: What its watermark is stored under.
        selection: What belongs to the group.
    """

    def __init__(self, name: str, selection: GroupSelection) -> None:
        self.name = name
        self.retained_only = selection.retained_only
        self._selection = selection

    def wants(self, topic: str) -> bool:
        """Whether a filter of the group matches."""
        return topic in self._selection

    def fold(self, records: Sequence[Record]) -> MessageChanges:
        """Return the last record of each topic."""
        return {record.topic: record for record in self._selection.select(records)}
