"""Every record of an archive group."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import select_by_filters
from monstermq_shared.records import Record
from monstermq_shared.stores.ports import ArchiveChanges


class ArchiveProjection:
    """Keeps the records of a group as they are.

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

    def fold(self, records: Sequence[Record]) -> ArchiveChanges:
        """Return the records that belong to the group, in order."""
        selection = self._selection
        every = not self.retained_only
        return [
            record for record in records if (every or record.retained) and record.topic in selection
        ]
