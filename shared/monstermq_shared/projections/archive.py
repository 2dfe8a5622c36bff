"""Every record of an archive group."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import GroupSelection
from monstermq_shared.records import Record
from monstermq_shared.stores.ports import ArchiveChanges


class ArchiveProjection:
    """Keeps the records of a group as they are.

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

    def fold(self, records: Sequence[Record]) -> ArchiveChanges:
        """Return the records that belong to the group, in order."""
        return self._selection.select(records)
