"""The last value of every topic of an archive group."""

from collections.abc import Sequence

from monstermq_shared.projections.selection import GroupProjection
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import MessageChanges


class LastValueProjection(GroupProjection):
    """Folds the records of a group: the last one of a topic stays.

    Who clears a retained message (retain flag and empty payload [MQTT-3.3.1-10]) says that the
    topic has no value any more. An empty payload without the flag is a value like any other.
    """

    def fold(self, records: Sequence[Record]) -> MessageChanges:
        """Return the last record of each topic, None where it clears."""
        return {
            record.topic: record if record.payload or not record.retained else None
            for record in self._selection.select(records)
        }
