"""The log of messages as it is read: own runs from memory, others decoded where they are wanted.

An edge follows every partition. So what nobody here wants costs a look at its key, and the work is
done in pieces, between which the event loop has its turn.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from monstermq_shared.budget import Budget
from monstermq_shared.bus.header import KIND_SHIFT, QOS, RETAIN, STAMPED
from monstermq_shared.bus.ports import Entry, RecordBatch
from monstermq_shared.counters import Counters
from monstermq_shared.errors import InvalidRecord, InvalidTopic, UnknownFact
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import StampedRecord
from monstermq_shared.routing import Router
from monstermq_shared.sessions.distributed.bus_facts import BusFacts
from monstermq_shared.sessions.distributed.kept_publishing import KeptPublishing
from monstermq_shared.sessions.distributed.overlay import BusOverlay
from monstermq_shared.sessions.distributed.own_runs import OwnRun, OwnRuns
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.fan_out import Deliverer
from monstermq_shared.sessions.retained import RetainedMessages

PIECE = 3_000
"""Units of work (``budget``) that are done at once: two to three milliseconds."""

RUN_MAX: Final = 1_024
"""Messages of one topic that are delivered as one run."""

_DECODING_WORK: Final = 5
_LOOKS_PER_WORK: Final = 8
"""Open ids that are looked at for one unit."""

_BYTES_PER_UNIT: Final = 16
"""Bytes of a control record that cost a unit of work: about what its shortest filters take."""


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
        facts: Takes what is no message.
        kept: Is told of publishes that can be fenced.
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
        facts: BusFacts,
        kept: KeptPublishing,
        counters: Counters,
        budget: Budget,
    ) -> None:
        self.positions: dict[int, int] = {}
        self.waiting = 0
        self.is_paused = False
        self.stopped: dict[int, str] = {}
        self._facts = facts
        self._kept = kept
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
        )

    def begin(self, positions: Mapping[int, int]) -> None:
        """Reading begins here."""
        self.positions.update(positions)

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
        # By a name of its own: mypyc takes an attribute that was None for one that stays None.
        fan_out = deliverer.fan_out
        if fan_out is not None:
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
        own, run, count = match
        entry = entries[index]
        # What is still to be sent to new subscriptions begins behind these.
        self.positions[partition] = entries[index + count - 1].offset + 1
        run.first_offset, run.partition = entry.offset, partition
        if run.epoch is not None and not self._stamped(own, run, entry.sequence + count):
            return count
        if run.retain:
            self._note(partition, entries[index : index + count])
        targets = self._router.route(run.topic).targets
        if targets:
            self._deliverer.deliver(run, targets, own.session.link)
        return count

    def _stamped(self, own: OwnRun, run: MessageRun, stop: int) -> bool:
        """Whether a stamped run of ours counts; whoever published it is told (R3, E8)."""
        assert run.epoch is not None
        client_id = own.session.client_id
        counts = self._facts.admits(run.partition, client_id, run.epoch)
        if counts and self._facts.opens(run.partition, run.first_offset):
            self._kept.open(client_id, run)
        self._kept.read_back(own, run, is_last=stop == own.stop, counts=counts)
        return counts

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
        payloads: list[bytes] = []
        if route.targets:
            payloads, alike = self._payloads(alike)
        self.positions[partition] = alike[-1].offset + 1
        if flags & RETAIN:
            self._note(partition, alike)
        if payloads:
            run = MessageRun.of(entry.topic, payloads, flags & QOS)
            run.first_offset, run.partition = entry.offset, partition
            self._deliverer.deliver(run, route.targets, None)
        return len(alike)

    def _alike(self, entries: Sequence[Entry], index: int) -> Sequence[Entry]:
        """Return an entry and those that follow with its topic and flags, from other edges."""
        first = entries[index]
        topic, flags, own = first.topic, first.flags, self._run
        # Where a record is missing in between, because it was there before, a run would end early.
        shift = first.offset - index
        stop = index + 1
        count = min(len(entries), index + RUN_MAX)
        if flags & STAMPED:
            return entries[index:stop]
        while stop < count:
            entry = entries[stop]
            if entry.topic != topic or entry.flags != flags or entry.writer == own:
                break
            if entry.offset != stop + shift:
                break
            stop += 1
        return entries[index:stop]

    def _payloads(self, entries: Sequence[Entry]) -> tuple[list[bytes], Sequence[Entry]]:
        """Decode entries, as far as they can be; return also those that this has dealt with.

        One that cannot be decoded ends them: the offsets of a run have no gaps.
        """
        payloads: list[bytes] = []
        for count, entry in enumerate(entries, 1):
            self._budget.left -= _DECODING_WORK
            try:
                payloads.append(entry.record().payload)
            except InvalidRecord:
                self._counters.records_unreadable += 1
                return payloads, entries[:count]
        return payloads, entries

    def _note(self, partition: int, entries: Sequence[Entry]) -> None:
        """Something is retained: the table does not show it yet (V2)."""
        self._overlay.note(partition, entries)
        self._budget.left -= len(entries)
        if self._retained.replays:
            self._retained.note(entries[0].key)

    def _admits(self, partition: int, entry: Entry) -> bool:
        """Whether a stamped publish counts (R3); then it opens its packet id (E8)."""
        self._budget.left -= _DECODING_WORK
        try:
            record = entry.record()
        except InvalidRecord:
            self._counters.records_unreadable += 1
            return False
        if not isinstance(record, StampedRecord):
            return True
        if not self._facts.admits(partition, record.client_id, record.epoch):
            return False
        if self._facts.opens(partition, entry.offset):
            run = MessageRun.single(entry.topic, b"", 2)
            run.first_offset, run.partition = entry.offset, partition
            run.epoch, run.packet_ids = record.epoch, (record.packet_id,)
            self._kept.open(record.client_id, run)
        return True

    # -- everything else -------------------------------------------------------------------------

    def _control(self, partition: int, entries: Sequence[Entry], index: int) -> int:
        """Facts of the bus."""
        entry = entries[index]
        self._budget.left -= _DECODING_WORK + entry.size // _BYTES_PER_UNIT
        # What a marker causes begins behind it.
        self.positions[partition] = entry.offset + 1
        try:
            looked_at = self._facts.read(partition, entry)
        except UnknownFact as exc:
            return self._stop(partition, entries, index, str(exc))
        self._budget.left -= looked_at // _LOOKS_PER_WORK
        return 1

    def _skip(self, _partition: int, _entries: Sequence[Entry], _index: int) -> int:
        """Acknowledgements: an edge has no use for them."""
        return 1

    def _other(self, partition: int, entries: Sequence[Entry], index: int) -> int:
        """What is foreign does not count; what a later release wrote stops the partition (R6)."""
        entry = entries[index]
        if entry.foreign:
            self._counters.records_unreadable += 1
            return 1
        why = f"a record of kind {entry.kind}, which this release does not know in this log"
        return self._stop(partition, entries, index, why)

    def _stop(self, partition: int, entries: Sequence[Entry], index: int, why: str) -> int:
        offset = entries[index].offset
        self.stopped[partition] = f"stopped at offset {offset}: {why}"
        self.positions[partition] = offset
        self._own.clear(partition)
        self._facts.stop(partition)
        return len(entries) - index
