"""Every record of an archive group."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import GroupProjection
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ArchiveChanges


class ArchiveProjection(GroupProjection):
    """Keeps the records of a group as they are."""

    def fold(self, records: Sequence[Record]) -> ArchiveChanges:
        """Return the records that belong to the group, in order."""
        return self._selection.select(records)
