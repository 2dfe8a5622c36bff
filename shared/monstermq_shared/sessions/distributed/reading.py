"""The log of messages as it is read: own runs from memory, others decoded where they are wanted.

An edge follows every partition. So what nobody here wants costs a look at its key, and the work is
done in pieces, between which the event loop has its turn.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from monstermq_shared.budget import Budget
from monstermq_shared.bus.control import decode_facts
from monstermq_shared.bus.facts import Marker
from monstermq_shared.bus.header import KIND_SHIFT, QOS, RETAIN, STAMPED
from monstermq_shared.bus.ports import Entry, RecordBatch
from monstermq_shared.counters import Counters
from monstermq_shared.errors import InvalidRecord, InvalidTopic, UnknownFact
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import StampedRecord
from monstermq_shared.routing import Router
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.overlay import BusOverlay
from monstermq_shared.sessions.distributed.own_runs import OwnRuns
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.fan_out import Deliverer
from monstermq_shared.sessions.retained import RetainedMessages

PIECE = 3_000
"""Units of work (``budget``) that are done at once: two to three milliseconds."""

RUN_MAX = 1_024
"""Messages of one topic that are delivered as one run."""

_DECODING_WORK = 5


class MessageReading:
    """What was read and is not handled yet, and how it is.

    Attributes:
        positions: Partition -> the next offset to handle: what stands from there on is delivered
            live.
        waiting: Entries that are not handled yet.
        is_paused: Nothing is delivered (E13).
        stopped: Partition -> why it is read no more (R6).

    Args:
        run: What this process' records carry.
        own: What was published here.
        deliverer: Hands runs to their targets.
        router: Says who they are.
        overlay: Keeps what is retained.
        retained: Notes what is retained while it is replayed.
        counters: What is counted.
        budget: What is charged.
    """

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        *,
        run: bytes,
        own: OwnRuns,
        deliverer: Deliverer[BusSession],
        router: Router[BusSession],
        overlay: BusOverlay,
        retained: RetainedMessages[BusSession],
        counters: Counters,
        budget: Budget,
    ) -> None:
        self.positions: dict[int, int] = {}
        self.waiting = 0
        self.is_paused = False
        self.stopped: dict[int, str] = {}
        self._fences = FenceTable(0, 0)
        self._run = run
        self._own = own
        self._deliverer = deliverer
        self._router = router
        self._overlay = overlay
        self._retained = retained
        self._counters = counters
        self._budget = budget
        self._batches: deque[RecordBatch] = deque()
        self._index = 0  # in the first of them
        self._handlers: tuple[Callable[[int, Sequence[Entry], int], int], ...] = (
            self._message,
            self._control,
            self._skip,
            self._misplaced,
            self._misplaced,
        )

    def begin(self, positions: Mapping[int, int], fences: FenceTable) -> None:
        """Reading begins here.

        Args:
            positions: See above.
            fences: What is fenced below them (R3).
        """
        self.positions.update(positions)
        self._fences = fences

    def add(self, batch: RecordBatch) -> None:
        """Take what was read."""
        self._batches.append(batch)
        self.waiting += len(batch.entries)

    @property
    def batches(self) -> int:
        """Batches that hold what is waiting."""
        return len(self._batches)

    def work(self) -> bool:
        """Do a piece; return whether there is more to do now."""
        if self.is_paused:
            return False
        budget = self._budget
        floor = budget.left - PIECE
        deliverer = self._deliverer
        if deliverer.fan_out is not None:
            deliverer.go_on()
            return True
        while self._batches and budget.left > floor and deliverer.fan_out is None:
            self._some_of(self._batches[0], floor)
        return bool(self._batches) or deliverer.fan_out is not None

    def _some_of(self, batch: RecordBatch, floor: int) -> None:
        """Handle the next entries of the first batch, as far as the budget goes."""
        partition, entries = batch.partition, batch.entries
        index = begun = self._index
        count = len(entries)
        if partition in self.stopped:
            index = count
        budget, deliverer = self._budget, self._deliverer
        own, handlers = self._run, self._handlers
        if not len(self._router):
            index = self._pass_over(partition, entries, index)
        while index < count and budget.left > floor and deliverer.fan_out is None:
            entry = entries[index]
            kind = entry.flags >> KIND_SHIFT
            if kind == 0 and entry.writer == own:
                index += self._own_message(partition, entries, index)
            else:
                handle = handlers[kind] if kind < len(handlers) else self._other
                index += handle(partition, entries, index)
            budget.left -= 1
        self.waiting -= index - begun
        if index < count:
            self._index = index
            self._pass(partition, entries[index].offset)
            return
        self._index = 0
        self._batches.popleft()
        self._pass(partition, batch.upto)

    def _pass_over(self, partition: int, entries: Sequence[Entry], index: int) -> int:
        """Return where the next entry is that counts although nobody here subscribes."""
        own = self._run if self._own.sizes[partition] else None
        begun, count = index, len(entries)
        while index < count:
            entry = entries[index]
            # These flags have messages that are neither retained nor stamped.
            if entry.flags >= RETAIN or entry.writer == own:
                break
            index += 1
        self._budget.left -= (index - begun) // 8
        return index

    def _pass(self, partition: int, offset: int) -> None:
        if partition not in self.stopped:
            self.positions[partition] = offset

    # -- messages --------------------------------------------------------------------------------

    def _own_message(self, partition: int, entries: Sequence[Entry], index: int) -> int:
        """Deliver what was published here from memory (R4); return how many entries that were."""
        match = self._own.match(partition, entries, index)
        if match is None:
            return self._message(partition, entries, index)
        run, session, count = match
        entry = entries[index]
        # What is still to be sent to new subscriptions begins behind these.
        self.positions[partition] = entries[index + count - 1].offset + 1
        run.first_offset = entry.offset
        if run.retain:
            self._note(partition, entries[index : index + count])
        targets = self._router.route(run.topic).targets
        if targets:
            self._deliverer.deliver(run, targets, session.link)
        return count

    def _message(self, partition: int, entries: Sequence[Entry], index: int) -> int:
        """Handle a message of another edge, and those on its topic that follow it."""
        entry = entries[index]
        flags = entry.flags
        if flags & STAMPED and not self._admits(partition, entry):
            return 1
        if not (flags & RETAIN or len(self._router)):
            return 1
        try:
            route = self._router.route(entry.topic)
        except InvalidTopic:
            self._counters.records_unreadable += 1
            return 1
        if route.reserved:
            # Who else may write to the log can write that, too; clients never get it from there.
            self._counters.records_unreadable += 1
            return 1
        if not (route.targets or flags & RETAIN):
            return 1
        alike = self._alike(entries, index)
        self.positions[partition] = alike[-1].offset + 1
        payloads = self._payloads(alike) if route.targets else []
        if flags & RETAIN:
            self._note(partition, alike)
        if payloads:
            run = MessageRun.of(entry.topic, payloads, flags & QOS)
            run.first_offset = entry.offset
            self._deliverer.deliver(run, route.targets, None)
        return len(alike)

    def _alike(self, entries: Sequence[Entry], index: int) -> Sequence[Entry]:
        """Return an entry and those that follow with its topic and flags, from other edges."""
        first = entries[index]
        topic, flags, own = first.topic, first.flags, self._run
        stop = index + 1
        count = min(len(entries), index + RUN_MAX)
        if flags & STAMPED:
            return entries[index:stop]
        while stop < count:
            entry = entries[stop]
            if entry.topic != topic or entry.flags != flags or entry.writer == own:
                break
            stop += 1
        return entries[index:stop]

    def _payloads(self, entries: Sequence[Entry]) -> list[bytes]:
        self._budget.left -= _DECODING_WORK * len(entries)
        payloads: list[bytes] = []
        for entry in entries:
            try:
                payloads.append(entry.record().payload)
            except InvalidRecord:
                self._counters.records_unreadable += 1
        return payloads

    def _note(self, partition: int, entries: Sequence[Entry]) -> None:
        """Something is retained: the table does not show it yet (V2)."""
        self._overlay.note(partition, entries)
        self._budget.left -= len(entries)
        if self._retained.replays:
            self._retained.note(entries[0].key)

    def _admits(self, partition: int, entry: Entry) -> bool:
        """Whether a stamped publish counts (R3)."""
        try:
            record = entry.record()
        except InvalidRecord:
            self._counters.records_unreadable += 1
            return False
        return not isinstance(record, StampedRecord) or self._fences.admits(
            partition, record.client_id, record.epoch
        )

    # -- everything else -------------------------------------------------------------------------

    def _control(self, partition: int, entries: Sequence[Entry], index: int) -> int:
        """Facts of the bus: of them, this release needs the fences of markers (R3)."""
        entry = entries[index]
        self._budget.left -= _DECODING_WORK
        try:
            for fact in decode_facts(entry.record().payload):
                if isinstance(fact, Marker):
                    self._fences.mark(partition, fact.client_id, fact.epoch, entry.time_ms)
        except (InvalidRecord, UnknownFact) as exc:
            return self._stop(partition, entries, index, str(exc))
        return 1

    def _skip(self, _partition: int, _entries: Sequence[Entry], _index: int) -> int:
        """Acknowledgements: an edge has no use for them."""
        return 1

    def _misplaced(self, _partition: int, _entries: Sequence[Entry], _index: int) -> int:
        """Facts of the other log: they mean nothing here."""
        self._counters.records_unreadable += 1
        return 1

    def _other(self, partition: int, entries: Sequence[Entry], index: int) -> int:
        """What is foreign does not count; what a later release wrote stops the partition (R6)."""
        entry = entries[index]
        if entry.foreign:
            self._counters.records_unreadable += 1
            return 1
        why = f"a record of kind {entry.kind}, which this release does not know"
        return self._stop(partition, entries, index, why)

    def _stop(self, partition: int, entries: Sequence[Entry], index: int, why: str) -> int:
        offset = entries[index].offset
        self.stopped[partition] = f"stopped at offset {offset}: {why}"
        self.positions[partition] = offset
        self._own.clear(partition)
        return len(entries) - index
