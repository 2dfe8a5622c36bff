"""What becomes of one partition of the bus: the rows of its queues (P2 to P4, P6).

A pure fold. Entries come with what R1 and R3 made of them; rows go out once a commit is due. What
is delivered at once and acknowledged within T never becomes a row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from monstermq_shared.bus.facts import Ack, Drop, Fact, Marker, Release
from monstermq_shared.bus.header import QOS
from monstermq_shared.bus.ports import Entry
from monstermq_shared.errors import InvalidRecord, InvalidTopic
from monstermq_shared.records import StampedRecord
from monstermq_shared.sessions.distributed.queues.cuts import NEVER, ClientCuts, CutTable, changed
from monstermq_shared.sessions.distributed.queues.empties import EmptyCuts
from monstermq_shared.sessions.distributed.queues.new_rows import NewRows
from monstermq_shared.sessions.distributed.queues.window import Held, Window
from monstermq_shared.stores.changes import StoredLogState
from monstermq_shared.stores.queue_changes import Cut, OpenId, QueueBatch, QueueChanges
from monstermq_shared.stores.queues import StoredQueue

NEVER_MS = 2**62
"""A lateness that nothing is."""

ROWS_MAX = 5_000
"""Rows that a commit changes, about (P5)."""

SIZE_MAX = 4 * 1024 * 1024
"""Bytes of the messages that it brings, about (P5)."""

AGE_S = 2.0
"""T: the age at which what is not acknowledged becomes a row. It says how late, never whether."""

WINDOW_SIZE_MAX = 32 * 1024 * 1024
"""Bytes of a window."""

COUNT_S = 1.0
"""After so long what a commit has made of the lengths of queues is committed, if it matters."""


@dataclass(slots=True, kw_only=True)
class QueueCounts:
    """What a fold has made so far; every number only grows.

    Attributes:
        matched: Deliveries at QoS 1 or 2 that were matched.
        acknowledged: Those that were acknowledged before they became rows.
        unreadable: Messages that are none, so that nobody can be given them.
    """

    matched: int = 0
    acknowledged: int = 0
    unreadable: int = 0


class QueueFold:
    """Folds one partition.

    Args:
        partition: Its number.
        table: The cuts of all partitions; those of this one are loaded by ``load``.
        state: What is kept with the mark.
        counts: Where what it makes is counted.
        lateness_ms: L, after twice which cuts without subscriptions are deleted.
        has_rows: Client -> whether rows of it wait here: then its cut stays.

    Attributes:
        begins: N of the load: what stands below is read again to rebuild the window (P1).
        restarts: G of the load: where that begins.
        now_s: The time, as whoever folds brings it.
        window: What is neither acknowledged nor a row.
        window_size_max: Bytes of it that are kept; the oldest of more become rows.
        counts_s: When there is something to commit that only counts what waits (S5), if not before.
    """

    def __init__(
        self,
        partition: int,
        table: CutTable,
        state: StoredLogState,
        counts: QueueCounts | None = None,
        *,
        lateness_ms: int = NEVER_MS,
        has_rows: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.begins = state.mark.reflected
        self.restarts = state.mark.restart
        self.now_s = 0.0
        self.counts = counts or QueueCounts()
        self.window = Window()
        self.window_size_max = WINDOW_SIZE_MAX
        self.counts_s = float("inf")
        self._gap: int | None = None
        self._partition = partition
        self._table = table
        self._skips = set(state.skips)
        self._empties = EmptyCuts(lateness_ms)
        self._has_rows = has_rows
        self._open: dict[str, dict[int, OpenId]] = {}
        self._changes = QueueChanges()
        self._queued = NewRows()

    def load(self, queues: Iterable[StoredQueue]) -> None:
        """Take what rows say, before anything is folded."""
        for queue in queues:
            if queue.cut is not None:
                self._put(queue.client_id, queue.cut)
            if queue.open_ids:
                self._open[queue.client_id] = dict(queue.open_ids)

    # -- what is read ------------------------------------------------------------------------------

    def skips(self, offset: int) -> bool:
        """Whether an entry below ``begins`` did not count (P2)."""
        return offset in self._skips

    def void(self, offset: int) -> None:
        """An entry from ``begins`` on does not count: remember that until G has passed it (P2)."""
        self._skips.add(offset)

    def message(self, entry: Entry) -> None:
        """P3: a message that counts, whether it is read for the first time or again."""
        qos = entry.flags & QOS
        if not qos:
            return
        try:
            found = self._table.targets(entry.topic)
        except InvalidTopic:
            return
        if not found:
            return
        offset, partition = entry.offset, self._partition
        targets = {
            client: min(granted, qos)
            for client, granted in found
            if granted and NEVER < client.at(partition) < offset
        }
        if targets:
            self.counts.matched += len(targets)
            self.window.add(Held(entry, targets, self.now_s))
            if self.window.size > self.window_size_max:
                self.shrink(self.window_size_max)

    def stamped(self, record: StampedRecord, offset: int) -> None:
        """P4: a valid stamped publish opens its packet id."""
        opened = OpenId(offset, record.epoch)
        self._open.setdefault(record.client_id, {})[record.packet_id] = opened
        self._changes.open_ids[record.client_id, record.packet_id] = opened

    def facts(self, facts: Sequence[Fact], entry: Entry) -> None:
        """P3, P4: a control record that counts; of its markers those do not that are fenced.

        Below ``begins``, acknowledgements and drops alone do something: the rows know the rest.
        """
        is_new = entry.offset >= self.begins
        self._empties.passed(entry.time_ms)
        for fact in facts:
            if isinstance(fact, Ack):
                self._acknowledge(fact)
            elif isinstance(fact, Drop):
                self._gone(fact.client_id, fact.below)
            elif is_new and isinstance(fact, Release):
                self._release(fact)
            elif is_new and isinstance(fact, Marker):
                self._mark(fact, entry)

    def _acknowledge(self, ack: Ack) -> None:
        """P3."""
        client = self._table.clients.get(ack.client_id)
        for offset in ack.offsets:
            was_here = client is not None and self._take_out(client, offset)
            self.counts.acknowledged += was_here
            # No row can exist only if the entry was here, and was not rebuilt.
            if not was_here or offset < self.begins:
                self._changes.dequeued.add((ack.client_id, offset))

    def _take_out(self, client: ClientCuts, offset: int) -> bool:
        return self.window.pop(client, offset) is not None or self._queued.pop(client, offset)

    def _release(self, release: Release) -> None:
        """P4: only the very opening that was released is over."""
        opened = self._open.get(release.client_id, {})
        at = opened.get(release.packet_id)
        if at is not None and at.since == release.since:
            self._close(release.client_id, release.packet_id)

    def _close(self, client_id: str, packet_id: int) -> None:
        opened = self._open[client_id]
        del opened[packet_id]
        if not opened:
            del self._open[client_id]
        self._changes.open_ids[client_id, packet_id] = None

    def _mark(self, marker: Marker, entry: Entry) -> None:
        """P4: what was matched by the subscriptions until now becomes rows; then they change."""
        client_id, partition, offset = marker.client_id, self._partition, entry.offset
        client = self._table.clients.get(client_id)
        if client is not None:
            if marker.epoch < client.epoch(partition):  # R3
                return
            for held, qos in self.window.pop_all(client):
                self._queued.add(held, {client: qos})
        before = () if client is None else client.subscriptions(partition)
        if client is None or client.incarnation(partition) < marker.incarnation:
            if client is not None and client.at(partition) != NEVER:
                self._gone(client_id, offset)
            for packet_id, at in [*self._open.get(client_id, {}).items()]:
                if at.epoch < marker.incarnation:
                    self._close(client_id, packet_id)
        cut = Cut(
            marker.epoch,
            offset,
            marker.incarnation,
            changed(before, marker.whole, marker.add, marker.remove),
            entry.time_ms,
        )
        self._put(client_id, cut)
        self._changes.cuts[client_id] = cut

    def _put(self, client_id: str, cut: Cut) -> None:
        self._table.put(self._partition, client_id, cut)
        if cut.subscriptions:
            self._empties.discard(client_id)
        else:
            self._empties.put(client_id, cut.marked_ms, self.now_s)

    def _gone(self, client_id: str, below: int) -> None:
        """Entries and rows of a client below an offset are gone."""
        client = self._table.clients.get(client_id)
        if client is not None:
            self.window.drop_below(client, below)
            self._queued.drop_below(client, below)
        before = self._changes.below.get(client_id, 0)
        self._changes.below[client_id] = max(before, below)

    def skip_to(self, offset: int) -> None:
        """P7: what is below cannot be read any more, so nothing of it is under way.

        Rows may be ahead of it: then nothing between is read again.
        """
        self.begins = self.restarts = self._gap = max(offset, self.begins)
        self.window = Window()
        self._skips.clear()
        for client_id, opened in [*self._open.items()]:
            for packet_id in [*opened]:
                self._close(client_id, packet_id)

    # -- what becomes rows -------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether something becomes rows by time alone."""
        return len(self.window) > 0 or self.counts_s < float("inf") or self.rows > 0

    def tick(self, now_s: float) -> None:
        """It is so late, monotonic (P6)."""
        self.now_s = now_s
        self.age(now_s - AGE_S)

    def age(self, before_s: float) -> None:
        """P6: what was read before a time becomes rows, as many as one commit may have."""
        oldest = self.window.oldest()
        while oldest is not None and oldest.read_s <= before_s and not self.is_full:
            self._queued.add(*self.window.pop_oldest(ROWS_MAX - self.rows))
            oldest = self.window.oldest()

    def shrink(self, size_max: int) -> None:
        """P6: the oldest entries of a window over its bound become rows."""
        while self.window.size > size_max:
            self._queued.add(*self.window.pop_oldest(ROWS_MAX))

    @property
    def rows(self) -> int:
        """How many rows the next commit changes, about."""
        at = self._changes
        due = self.counts_s <= self.now_s or self._gap is not None
        changed = len(at.dequeued) + len(at.open_ids) + len(at.cuts) + len(at.below)
        return len(self._queued) + changed + due

    @property
    def is_full(self) -> bool:
        """Whether it is enough for a commit (P5)."""
        return self._queued.size >= SIZE_MAX or self.rows >= ROWS_MAX

    def flush(self, next_offset: int) -> QueueBatch:
        """Return what is to be committed now that all below an offset is folded (P5)."""
        oldest = self.window.oldest()
        restart = next_offset if oldest is None else min(oldest.entry.offset, next_offset)
        self._skips = {offset for offset in self._skips if offset >= restart}
        for client_id in islice(self._empties.over(self.now_s, self._has_rows), ROWS_MAX):
            self._table.put(self._partition, client_id, None)
            self._changes.cuts[client_id] = None
        changes, self._changes = self._changes, QueueChanges()
        queued, self._queued = self._queued, NewRows()
        for offset, entry, targets in queued:
            try:
                record = entry.record()
            except InvalidRecord:
                self.counts.unreadable += 1
                continue
            deliveries = [(client.client_id, qos) for client, qos in targets.items()]
            changes.queued[offset] = record, deliveries
        gap, self._gap = self._gap, None
        # How long the queues are then is known once it is committed: whoever commits says more.
        self.counts_s = float("inf") if changes.is_empty else self.now_s + COUNT_S
        return QueueBatch(changes=changes, restart=restart, skips=sorted(self._skips), gap=gap)
