"""What the retained view will hold once its commits are through: view + overlay = now."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from monstermq_shared.projections.retained import RetainedProjection
from monstermq_shared.records import Record
from monstermq_shared.topics import matches


class Overlay:
    """Retained messages that are in the log, but not yet visible to who reads the store.

    Nothing is done for a record when it comes: it is folded when somebody asks, once, and forgotten
    when ``committed`` says that readers see it, unless a newer one has taken its place. How much
    there may be is bounded by whoever appends records faster than they commit.
    """

    def __init__(self) -> None:
        self._projection = RetainedProjection()
        self._changes: dict[str, tuple[Record | None, int]] = {}
        self._upto = 0

    def __len__(self) -> int:
        """Return how many topics have a change that is folded and not committed."""
        return len(self._changes)

    def fold(self, uncommitted: Iterable[Sequence[Record]]) -> None:
        """Take what has come since the last call.

        Args:
            uncommitted: All records that are not committed, in order of offset. A change is
                forgotten with the last one of its sequence.
        """
        for records in uncommitted:
            new = records[bisect_left(records, self._upto, key=_offset) :]
            if new:
                self._upto = upto = new[-1].offset + 1
                for topic, record in self._projection.fold(new).items():
                    self._changes[topic] = (record, upto)

    def committed(self, upto: int) -> None:
        """Forget the changes up to here: the store shows them."""
        if self._upto <= upto:
            self._changes.clear()
        else:
            self._changes = {
                topic: change for topic, change in self._changes.items() if change[1] > upto
            }

    def matching(self, topic_filter: str) -> list[tuple[str, Record | None]]:
        """Return the folded changes whose topic a valid filter matches, in order of topic.

        Returns:
            Topic and record, None where the topic is cleared.
        """
        if topic_filter in self._changes:
            return [(topic_filter, self._changes[topic_filter][0])]
        found = [
            (topic, record)
            for topic, (record, _) in self._changes.items()
            if matches(topic_filter, topic)
        ]
        found.sort(key=lambda change: change[0])
        return found


def _offset(record: Record) -> int:
    return record.offset
