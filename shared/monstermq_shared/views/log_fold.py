"""What views make of one partition of a log that others write: which records count, and when.

A pure fold: entries in, batches of records out, in the order of the log. Nothing here knows of
databases or of Kafka.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from monstermq_shared.bus.fact_reading import BUS_KINDS, facts_of
from monstermq_shared.bus.facts import Fact, Marker
from monstermq_shared.bus.fences import Fences
from monstermq_shared.bus.header import FOREIGN_FLAGS, KIND_SHIFT, QOS, RETAIN, STAMPED, Kind
from monstermq_shared.bus.ports import Entry
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import InvalidRecord
from monstermq_shared.records import Record, StampedRecord, size_of
from monstermq_shared.remembered import Remembered
from monstermq_shared.stores.changes import LogState, Quarantined, StoredLogState
from monstermq_shared.stores.queue_changes import QueueBatch
from monstermq_shared.views.view_set import TAKES_EVERY, ViewSet

RECORDS_MAX = 5_000
"""Records after which a batch ends (P5): each is at most one row of each view."""

SIZE_MAX = 4 * 1024 * 1024
"""Bytes of records (``size_of``) after which it ends as well."""

DECISIONS_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of the topics, about, for which a partition remembers whether a view takes them."""

_DECISION_OVERHEAD = 150


@dataclass(slots=True, kw_only=True)
class FoldCounts:
    """What a fold has met so far; every number only grows.

    Attributes:
        records: Entries read, those included that no view wants.
        doubles: Entries that did not count because they had been there (R1).
        fenced: Publishes and markers of dead connections that did not count (R3).
        quarantined: Entries that are no record of ours.
    """

    records: int = 0
    doubles: int = 0
    fenced: int = 0
    quarantined: int = 0


class Queues(Protocol):
    """The queues of kept sessions in the partition: what else is made of its entries.

    Attributes:
        restarts: Where what they hold in memory begins to be rebuilt (P1).
        begins: Where they begin to count; what is below is read once more.
    """

    restarts: int
    begins: int

    @property
    def rows(self) -> int:
        """How many rows the next commit changes, about."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether that is enough for a commit (P5)."""
        ...

    @property
    def waits(self) -> bool:
        """Whether something becomes rows by time alone."""
        ...

    def tick(self, now_s: float) -> None:
        """It is so late, monotonic (P6)."""
        ...

    def skips(self, offset: int) -> bool:
        """Whether an entry below ``begins`` did not count (P2)."""
        ...

    def void(self, offset: int) -> None:
        """An entry from ``begins`` on does not count."""
        ...

    def message(self, entry: Entry) -> None:
        """Take a message with QoS 1 or 2 that counts."""
        ...

    def stamped(self, record: StampedRecord, offset: int) -> None:
        """Take a valid stamped publish, before it is taken as a message."""
        ...

    def facts(self, facts: Sequence[Fact], entry: Entry) -> None:
        """Take facts of a control record that counts, without those that are fenced."""
        ...

    def skip_to(self, offset: int) -> None:
        """Go on at an offset above, because what is below is not in the log any more (P7)."""
        ...

    def flush(self, next_offset: int) -> QueueBatch:
        """Return what is to be committed now that all below an offset is folded."""
        ...


@dataclass(slots=True, kw_only=True)
class Batch:
    """What is committed together.

    Attributes:
        upto: The next offset: what the marks become.
        records: Those that count and that a view wants, in order; perhaps others too.
        entries: Where each of them stands.
        quarantined: What is no record.
        markers: Those that count (R3), in order: offset, client, epoch and time in ms.
        state: What is kept with the marks.
        oldest_ms: The time of the first entry in it, -1 if there is none.
        queues: Of kept sessions; None where there are none, or they are not read up to where they
            begin to count: nothing is committed of them then.
    """

    upto: int
    records: Sequence[Record]
    entries: Sequence[Entry]
    quarantined: Sequence[Quarantined]
    markers: Sequence[tuple[int, str, int, int]]
    state: LogState
    oldest_ms: int
    queues: QueueBatch | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it only moves the marks."""
        return not (self.records or self.quarantined)

    def between(self, first: int, last: int, runs: Runs) -> "Batch":
        """Return the part that ends behind one of its records, and begins behind another.

        Args:
            first: How many of its records are committed.
            last: How many of them the part ends with, more than ``first``.
            runs: What R1 knew behind the first ones; afterwards behind the last ones, as far as
                views want to know.
        """
        entries = self.entries[first:last]
        for entry in entries:
            runs.is_new(entry.writer, entry.sequence, entry.time_ms)
        upto = entries[-1].offset + 1
        markers = [marker for marker in self.markers if marker[0] < upto]
        return Batch(
            upto=upto,
            records=self.records[first:last],
            entries=entries,
            quarantined=[record for record in self.quarantined if record.offset < upto],
            markers=markers,
            state=replace(
                self.state, last_id=id_of(entries[-1]), runs=runs.dump(), fences=_fences(markers)
            ),
            oldest_ms=self.oldest_ms,
        )


@dataclass(slots=True)
class _Open:
    """The batch that is being filled."""

    records: list[Record] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    markers: list[tuple[int, str, int, int]] = field(default_factory=list)
    size: int = 0
    oldest_ms: int = -1


Describe: TypeAlias = Callable[[Entry, str], Quarantined]
"""Entry and reason -> what is kept of an entry that is no record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What all partitions of a log have in common.

    Attributes:
        log_id: Which log it is, to be kept with the marks.
        lateness_ms: L: how late an append can land (R7).
        describe: See above.
    """

    log_id: str
    lateness_ms: int
    describe: Describe


class LogFold:
    """Folds one partition for the views of one database.

    Args:
        log: The log.
        views: Tell which topics they want.
        next_offset: Where it begins.
        kept: What was kept there (R1, R3); None where nothing was.
        counts: Where what it meets is counted.
        queues: Are made of the same entries, if they are.

    Attributes:
        next_offset: The offset of the next entry.
    """

    def __init__(
        self,
        log: LogSettings,
        views: ViewSet,
        next_offset: int,
        kept: LogState | StoredLogState | None = None,
        counts: FoldCounts | None = None,
        queues: Queues | None = None,
    ) -> None:
        """Begin where marks stand.

        Raises:
            ValueError: What is kept makes no sense.
        """
        fences = {} if kept is None else kept.fences
        marks = ((client_id, *at) for client_id, at in fences.items())
        self.next_offset = next_offset
        self.counts = counts or FoldCounts()
        self._log_id = log.log_id
        self._describe = log.describe
        self._views = views
        self._runs = Runs.load({} if kept is None else kept.runs, log.lateness_ms)
        self._fences = Fences.load(marks, log.lateness_ms)
        self._keep_ms = 2 * log.lateness_ms
        self._takes = Remembered[bytes, int](DECISIONS_SIZE_MAX)
        self._open = _Open()
        self._queues = queues
        # Below it everything was counted before: only queues may have to be rebuilt (P1).
        self._counts_from = kept.mark.reflected if isinstance(kept, StoredLogState) else next_offset
        last_id = None if kept is None else kept.last_id
        self._last: Entry | str | None = last_id if next_offset == self._counts_from else None
        self._last_known = last_id

    @property
    def last_id(self) -> str | None:
        """``id_of`` the entry below ``next_offset``; None if that is not known."""
        last = self._last
        return last if last is None or isinstance(last, str) else id_of(last)

    @property
    def oldest_ms(self) -> int:
        """The time of the first entry that no batch has yet, -1 if there is none."""
        return self._open.oldest_ms

    @property
    def holds_rows(self) -> bool:
        """Whether ``flush`` would give more than marks."""
        queues = self._counting_queues
        rows = queues is not None and queues.rows
        return bool(self._open.records or self._open.quarantined or rows)

    @property
    def _counting_queues(self) -> Queues | None:
        """The queues, if something of them may be committed: not before they are read up to N."""
        queues = self._queues
        return queues if queues is not None and self.next_offset >= queues.begins else None

    @property
    def _is_full(self) -> bool:
        """P5."""
        at = self._open
        if len(at.records) >= RECORDS_MAX or at.size >= SIZE_MAX:
            return True
        queues = self._counting_queues
        return queues is not None and queues.is_full

    @property
    def waits(self) -> bool:
        """Whether something becomes rows by time alone."""
        return self._queues is not None and self._queues.waits

    @property
    def known(self) -> tuple[int, str] | None:
        """The last entry that was counted before, where reading begins below it (P1)."""
        if self._last_known is None or self.next_offset >= self._counts_from:
            return None
        return self._counts_from - 1, self._last_known

    def tick(self, now_s: float) -> Iterator[Batch]:
        """It is so late, monotonic; yield the batches that become full by what is old enough."""
        if self._queues is not None:
            self._queues.tick(now_s)
            while self._is_full:
                yield self.flush()
                self._queues.tick(now_s)

    def fold(self, entries: Sequence[Entry]) -> Iterator[Batch]:
        """Take entries; yield the batches that become full. What remains is for ``flush``.

        Args:
            entries: The next ones, from ``next_offset`` on, without a hole.

        Raises:
            UnknownFact: At ``next_offset`` stands a control record that this release cannot read
                (R6). What is below may be flushed; the partition must stop there.
        """
        for entry in entries:
            self._take(entry)
            self._last = entry
            self.next_offset = entry.offset + 1
            self.counts.records += 1
            if self._is_full:
                yield self.flush()

    def flush(self) -> Batch:
        """Return the batch of what there is, and begin another."""
        at, self._open = self._open, _Open()
        counting = self._counting_queues
        queues = None if counting is None else counting.flush(self.next_offset)
        return Batch(
            upto=self.next_offset,
            records=at.records,
            entries=at.entries,
            quarantined=at.quarantined,
            markers=at.markers,
            state=LogState(
                log_id=self._log_id,
                last_id=self.last_id,
                runs=self._runs.dump(),
                fences=_fences(at.markers),
                fences_from_ms=max(0, self._runs.newest_ms - self._keep_ms),
                skips=() if queues is None else queues.skips,
            ),
            oldest_ms=at.oldest_ms,
            queues=queues,
        )

    def skip_to(self, offset: int) -> None:
        """Go on at an offset above, because what is below is not in the log any more (P7)."""
        self.next_offset = offset
        self._last = None
        if self._queues is not None:
            self._queues.skip_to(offset)

    # -- one entry -------------------------------------------------------------------------------

    def _take(self, entry: Entry) -> None:
        flags, queues = entry.flags, self._queues
        if queues is not None and entry.offset < queues.begins:
            if entry.offset >= queues.restarts and flags != FOREIGN_FLAGS:
                self._rebuild(queues, entry)
            # Views may be behind the queues; those have had it.
            queues = None
        if entry.offset < self._counts_from:
            return
        if self._open.oldest_ms < 0:
            # Kafka takes records without a time, too, which is -1.
            self._open.oldest_ms = max(0, entry.time_ms)
        if flags == FOREIGN_FLAGS:
            self._decode(entry)
            return
        # Before R1 notes it: what stops the partition has to count when it is read again.
        facts = _facts_of(entry, with_acks=queues is not None) if flags >> KIND_SHIFT else ()
        if not self._runs.is_new(entry.writer, entry.sequence, entry.time_ms):  # R1
            self.counts.doubles += 1
            if queues is not None:
                queues.void(entry.offset)
        elif flags >> KIND_SHIFT:
            self._take_facts(facts, entry, queues)
        else:
            self._take_message(entry, queues)

    @staticmethod
    def _rebuild(queues: Queues, entry: Entry) -> None:
        """P2: below N neither R1 nor R3 is asked, but what was found then."""
        if queues.skips(entry.offset):
            return
        if entry.flags >> KIND_SHIFT:
            queues.facts(_facts_of(entry, with_acks=True), entry)
        elif entry.flags & QOS:
            queues.message(entry)

    def _is_wanted(self, topic: bytes, flags: int) -> bool:
        takes = self._takes.get(topic)
        if takes is None:
            takes = self._decide(topic)
        return takes >= TAKES_EVERY - (flags & RETAIN == RETAIN)

    def _decide(self, topic: bytes) -> int:
        try:
            takes = self._views.takes(topic.decode())
        except (UnicodeDecodeError, IndexError):
            # No topic at all: whoever decodes the record will say so.
            takes = TAKES_EVERY
        self._takes.remember(topic, takes, len(topic) + _DECISION_OVERHEAD)
        return takes

    def _take_message(self, entry: Entry, queues: Queues | None) -> None:
        flags = entry.flags
        is_wanted = self._is_wanted(entry.topic, flags)
        if flags & STAMPED and (is_wanted or queues is not None):
            record = self._decode(entry)
            if record is None or not self._is_admitted(entry, record):
                if queues is not None:
                    queues.void(entry.offset)
                return
            if queues is not None and isinstance(record, StampedRecord):
                queues.stamped(record, entry.offset)
        else:
            record = self._decode(entry) if is_wanted else None
        if queues is not None and flags & QOS:
            queues.message(entry)
        if is_wanted and record is not None:
            at = self._open
            at.records.append(record)
            at.entries.append(entry)
            at.size += size_of(record)

    def _is_admitted(self, entry: Entry, record: Record) -> bool:
        """R3: a stamped publish is fenced by a newer marker of its client."""
        if not isinstance(record, StampedRecord):
            self._quarantine(entry, "its header says it is stamped, and it has no epoch")
            return False
        if self._fences.admits(record.client_id, record.epoch):
            return True
        self.counts.fenced += 1
        return False

    def _take_facts(self, facts: Sequence[Fact], entry: Entry, queues: Queues | None) -> None:
        valid = [fact for fact in facts if not isinstance(fact, Marker) or self._marks(fact, entry)]
        if queues is not None and valid:
            queues.facts(valid, entry)

    def _marks(self, marker: Marker, entry: Entry) -> bool:
        """R3: a marker is fenced by a newer one, and fences what is older; return if it counts."""
        client_id, epoch, time_ms = marker.client_id, marker.epoch, entry.time_ms
        if self._fences.mark(client_id, epoch, time_ms):
            self._open.markers.append((entry.offset, client_id, epoch, time_ms))
            return True
        self.counts.fenced += 1
        return False

    def _decode(self, entry: Entry) -> Record | None:
        try:
            return entry.record()
        except InvalidRecord as exc:
            self._quarantine(entry, str(exc))
            return None

    def _quarantine(self, entry: Entry, reason: str) -> None:
        self.counts.quarantined += 1
        record = self._describe(entry, reason)
        self._open.quarantined.append(record)
        self._open.size += len(record.key) + len(record.value)


def _facts_of(entry: Entry, *, with_acks: bool) -> Sequence[Fact]:
    """Return what a control record says that somebody has to know; views need no acks.

    Raises:
        UnknownFact: That cannot be known (R6).
    """
    if entry.flags >> KIND_SHIFT == Kind.ACKS and not with_acks:
        return ()
    return facts_of(entry, BUS_KINDS)


def _fences(markers: Iterable[tuple[int, str, int, int]]) -> dict[str, tuple[int, int]]:
    return {client_id: (epoch, time_ms) for _, client_id, epoch, time_ms in markers}


def id_of(entry: Entry) -> str:
    """Return what tells an entry from another that might stand at its offset one day (P1)."""
    if entry.foreign:
        return f"{entry.time_ms}::"
    return f"{entry.time_ms}:{entry.writer.hex()}:{entry.sequence}"
