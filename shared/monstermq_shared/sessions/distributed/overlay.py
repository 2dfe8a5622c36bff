"""What is retained in the log and not in the table yet, over all partitions (V2).

Nothing is decoded before somebody asks: mostly the table shows a message before anybody does.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from monstermq_shared.bus.ports import Entry
from monstermq_shared.counters import Counters
from monstermq_shared.errors import InvalidRecord
from monstermq_shared.projections.retained import RetainedProjection
from monstermq_shared.records import Record
from monstermq_shared.topic_tree import TopicTree

FOLD_MAX = 200
"""Records that are decoded at once: about a millisecond."""

FORGET_MAX = 2_000
"""Records that are forgotten at once: about a millisecond."""

ENTRY_OVERHEAD = 600
"""Bytes that a retained message takes beside what stands in the log, about."""


class _Partition:
    """One partition.

    Attributes:
        begin: From this offset on all that is retained is kept, or in the table.
        reflected: Up to where the table was last seen to be.
        unfolded: What was read and not decoded, in order of offset.
        folded: (offset, topic) of what was decoded, in order of offset.
        sizes: (offset, bytes) of both.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.reflected = begin
        self.unfolded: deque[Entry] = deque()
        self.folded: deque[tuple[int, str]] = deque()
        self.sizes: deque[tuple[int, int]] = deque()


class BusOverlay:
    """Retained messages that are in the log, but not yet visible to who reads the store.

    Over its bound it forgets everything and begins anew: retained messages then wait until the
    table has come to where it begins.

    Attributes:
        size: Bytes of what is kept, about.
        overflows: How often it was over its bound.

    Args:
        size_max: The bound.
        counters: Counts what cannot be decoded.
    """

    def __init__(self, size_max: int, counters: Counters) -> None:
        self.size = 0
        self.overflows = 0
        self._size_max = size_max
        self._counters = counters
        self._at: dict[int, _Partition] = {}
        self._projection = RetainedProjection()
        # Topic -> its newest change, and where that is.
        self._changes: TopicTree[tuple[Record | None, int, _Partition]] = TopicTree()

    def begin(self, positions: Mapping[int, int]) -> None:
        """The table is up to here, and reading begins here."""
        self._at = {partition: _Partition(offset) for partition, offset in positions.items()}

    def __len__(self) -> int:
        """Return how many retained messages are kept."""
        return sum(len(at.sizes) for at in self._at.values())

    def note(self, partition: int, entries: Sequence[Entry]) -> None:
        """Keep retained messages that were read."""
        at = self._at[partition]
        for entry in entries:
            if entry.offset >= at.reflected:
                at.unfolded.append(entry)
                size = entry.size + ENTRY_OVERHEAD
                at.sizes.append((entry.offset, size))
                self.size += size
        if self.size > self._size_max:
            self._overflow()

    def _overflow(self) -> None:
        """Forget everything: from now on it is kept again, once the table has come so far."""
        self.overflows += 1
        for at in self._at.values():
            if at.sizes:
                at.begin = max(at.begin, at.sizes[-1][0] + 1)
            at.unfolded.clear()
            at.folded.clear()
            at.sizes.clear()
        self._changes = TopicTree()
        self.size = 0

    def reflected(self, positions: Mapping[int, int]) -> None:
        """The table shows the partitions up to here: what is below can be forgotten."""
        for partition, upto in positions.items():
            at = self._at.get(partition)
            if at is not None:
                at.reflected = upto
                at.begin = max(at.begin, upto)

    def behind(self, positions: Mapping[int, int]) -> int:
        """Return by how many records the table is behind these positions."""
        return sum(max(positions[p] - at.reflected, 0) for p, at in self._at.items())

    def forget(self) -> bool:
        """Forget some of what the table shows; return whether there may be more."""
        left = FORGET_MAX
        for at in self._at.values():
            upto = at.reflected
            while left and at.sizes and at.sizes[0][0] < upto:
                self._forget_first(at)
                left -= 1
        return not left

    def _forget_first(self, at: _Partition) -> None:
        offset, size = at.sizes.popleft()
        self.size -= size
        if at.unfolded and at.unfolded[0].offset == offset:
            at.unfolded.popleft()
        elif at.folded and at.folded[0][0] == offset:
            topic = at.folded.popleft()[1]
            change = self._changes.get(topic)
            if change is not None and change[1] == offset:
                self._changes.pop(topic)

    def is_shown_by(self, positions: Mapping[int, int]) -> bool:
        """Whether rows that reflect the partitions up to here lack nothing that is not kept."""
        return all(positions.get(p, 0) >= at.begin for p, at in self._at.items())

    def is_complete(self) -> bool:
        """The same for where the table was last seen to be."""
        return all(at.reflected >= at.begin for at in self._at.values())

    def fold(self) -> bool:
        """Decode some of what has come; return whether there is more."""
        room = FOLD_MAX
        for at in self._at.values():
            while at.unfolded and room:
                self._take(at, at.unfolded.popleft())
                room -= 1
        return not room

    def _take(self, at: _Partition, entry: Entry) -> None:
        try:
            record = entry.record()
        except InvalidRecord:
            self._counters.records_unreadable += 1
            return
        for topic, change in self._projection.fold([record]).items():
            self._changes.set(topic, (change, entry.offset, at))
            at.folded.append((entry.offset, topic))

    def scan(
        self, topic_filter: str, *, start: str, limit: int
    ) -> tuple[list[tuple[str, Record | None]], str | None]:
        """See ``RetainedLog.scan``."""
        found, go_on = self._changes.scan(topic_filter, start=start, limit=limit)
        shown = [(topic, record) for topic, (record, offset, at) in found if offset >= at.reflected]
        return shown, go_on
