"""What the retained view will hold once its commits are through: view + overlay = now."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence

from monstermq_shared.projections.retained import RetainedProjection
from monstermq_shared.records import Record
from monstermq_shared.topic_tree import TopicTree

FOLD_MAX = 500
"""Records that are folded at once: about a millisecond."""


class Overlay:
    """Retained messages that are in the log, but not yet visible to who reads the store.

    Nothing is done for a record when it comes: it is folded when somebody asks, once, and forgotten
    after ``committed`` has said that readers see it, unless a newer one has taken its place. How
    much there may be is bounded by whoever appends records faster than they commit.
    """

    def __init__(self) -> None:
        self._projection = RetainedProjection()
        self._changes: TopicTree[tuple[Record | None, int]] = TopicTree()
        # What was folded at once: the next offset, and the topics. Committed ones are forgotten as
        # others are folded.
        self._folded: deque[tuple[int, list[str]]] = deque()
        self._upto = 0
        self._newest = 0
        self._committed = 0

    def __len__(self) -> int:
        """Return how many topics it remembers a change of."""
        return len(self._changes)

    def fold(self, uncommitted: Iterable[Sequence[Record]]) -> bool:
        """Take the first of what has come since the last call.

        Args:
            uncommitted: All records that are not committed, in order of offset.

        Returns:
            Whether there is more, for another call.
        """
        room = FOLD_MAX
        for records in uncommitted:
            first = bisect_left(records, self._upto, key=_offset)
            new = records[first : first + room]
            if not new:
                continue
            self._forget_committed()
            self._upto = new[-1].offset + 1
            self._take([record for record in new if record.retained])
            room -= len(new)
            if not room:
                return True
        return False

    def _take(self, retained: Sequence[Record]) -> None:
        if retained:
            changes = self._projection.fold(retained)
            # Where the view must have come for all of them to be in it.
            self._newest = retained[-1].offset + 1
            for topic, record in changes.items():
                self._changes.set(topic, (record, self._newest))
            self._folded.append((self._newest, [*changes]))

    def _forget_committed(self) -> None:
        """Forget up to two folds that are committed: each new fold adds one, so fewer remain."""
        for _ in range(2):
            if not self._folded or self._folded[0][0] > self._committed:
                return
            upto, topics = self._folded.popleft()
            for topic in topics:
                change = self._changes.get(topic)
                if change is not None and change[1] == upto:
                    self._changes.pop(topic)

    def committed(self, upto: int) -> None:
        """The store shows the changes up to here."""
        self._committed = upto
        if self._newest <= upto and self._folded:
            self._changes = TopicTree()
            self._folded.clear()

    def scan(
        self, topic_filter: str, *, start: str, limit: int
    ) -> tuple[list[tuple[str, Record | None]], str | None]:
        """Return the first changes on topics that a filter matches, from a topic on.

        Returns:
            Topic and record, None where the topic is cleared, in order of topic, and where to go
            on, None at the end.
        """
        found, go_on = self._changes.scan(topic_filter, start=start, limit=limit)
        committed = self._committed
        return [(topic, record) for topic, (record, upto) in found if upto > committed], go_on


def _offset(record: Record) -> int:
    return record.offset
