"""Every record of an archive group, but what was sent again."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import GroupProjection
from monstermq_shared.records import Record
from monstermq_shared.replays import is_archived
from monstermq_shared.stores.changes import ArchiveChanges


class ArchiveProjection(GroupProjection):
    """Keeps the records of a group as they are; a replay's were kept when they were first sent."""

    def fold(self, records: Sequence[Record]) -> ArchiveChanges:
        """Return the records that belong to the group, in order."""
        selected = self._selection.select(records)
        return [record for record in selected if is_archived(record.client_id)]
