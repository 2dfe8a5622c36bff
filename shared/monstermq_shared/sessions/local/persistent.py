"""A persistent session: what a client is owed is a row first, and then perhaps a packet.

While the client keeps up it is served live and its rows are written only if they are still
unacknowledged when their turn is handed to the database. Everything else is paged from the rows:
what came while it was away, and what it was too slow for.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.sessions.local.reads import QueueRead
from monstermq_shared.sessions.local.session import Segment, Session
from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.stores.ports import (
    InFlightState,
    QueuedMessage,
    Trim,
    Trimmed,
    is_last_page,
)

PAGE_MESSAGES = 500
"""Rows read at once; two pages at most wait in memory for the window."""


class Phase(Enum):
    """How a persistent session is served."""

    OFFLINE = auto()
    """No connection. Matches become rows."""
    ATTACHING = auto()
    """CONNACK waits for its commit. Matches become rows."""
    PAGING = auto()
    """Rows below the cut are being read; matches from the cut on become rows and wait behind."""
    LAGGING = auto()
    """It was too slow: matches become rows only, until what was sent has been acknowledged."""
    LIVE = auto()
    """It has everything below; matches become rows and are sent, or wait for the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """What may be queued for one session.

    Attributes:
        enabled: ``QueuedMessagesEnabled``. Off: no rows, only connected clients are served.
        messages_max: More rows than this are not kept for one session.
        size_max: More payload bytes than this are not kept for one session.
        drop_oldest: At a limit the oldest rows go, else the newest message is not taken.
        tail_max: Messages that wait in memory behind the pages that are being read.
    """

    enabled: bool
    messages_max: int
    size_max: int
    drop_oldest: bool
    tail_max: int


class PersistentSession(Session):
    """A session that outlives its connection.

    Attributes:
        incarnation: Offset at which it began.
        phase: How it is served now.
        queued: Rows in its queue, those of the collecting turn included.
        queued_size: Their payload bytes.
        updated_us: When its row was last written, for the session expiry.
        information: As shown in the ``sessions`` table.
    """

    __slots__ = (
        "_asked",
        "_counters",
        "_cut",
        "_exactly_once",
        "_paged",
        "_policy",
        "_read",
        "_readable",
        "_resumed",
        "_sizes",
        "_tail",
        "_tail_count",
        "_tail_lost",
        "_trimming",
        "incarnation",
        "information",
        "phase",
        "queued",
        "queued_size",
        "updated_us",
    )

    persistent = True

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        client_id: str,
        journal: Journal,
        window: int,
        *,
        incarnation: int,
        policy: QueuePolicy,
        counters: Counters,
        read: Callable[[QueueRead], None],
    ) -> None:
        super().__init__(client_id, journal, window)
        self.incarnation = incarnation
        self.phase = Phase.OFFLINE
        self.queued = 0
        self.queued_size = 0
        self.updated_us = 0
        self.information: dict[str, str | int | bool] = {}
        self._policy = policy
        self._counters = counters
        self._read = read
        self._asked: QueueRead | None = None
        self._readable = False
        self._paged = 0
        self._cut = 0
        self._resumed: dict[int, int] = {}
        self._exactly_once: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._tail: deque[Segment] = deque()
        self._tail_count = 0
        self._tail_lost = False
        self._trimming = (0, 0)

    # -- what is matched -------------------------------------------------------------------------

    def enqueue(self, run: MessageRun, qos: int, records: Sequence[Record]) -> bool:
        """Take a run of QoS 1 or 2 messages; return whether that made rows.

        In the records of a queue the retain flag is the one that is delivered.
        """
        phase = self.phase
        if not self._policy.enabled:
            if phase is Phase.LIVE:
                self.offer(run, qos)
            else:
                self._counters.dropped[DropReason.QUEUEING_DISABLED] += run.count
            return False
        admitted = records if phase is Phase.LIVE else self._admit(records)
        queued = self.journal.changes(self.client_id).queued
        sizes = self._sizes
        size = 0
        for record in admitted:
            queued[record.offset] = (record, qos)
            size += len(record.payload)
        self.queued += len(admitted)
        self.queued_size += size
        if phase is Phase.LIVE:
            for record in admitted:
                sizes[record.offset] = len(record.payload)
            self.offer(run, qos)
        elif phase is Phase.PAGING:
            self._follow(run, qos, admitted)
        return bool(admitted)

    def _admit(self, records: Sequence[Record]) -> Sequence[Record]:
        """Apply the queue's limits; both are counted."""
        policy = self._policy
        size = sum(len(record.payload) for record in records)
        trimmed_messages, trimmed_size = self._trimming
        over = self.queued - trimmed_messages + len(records) - policy.messages_max
        over_size = self.queued_size - trimmed_size + size - policy.size_max
        if over <= 0 and over_size <= 0:
            return records
        if policy.drop_oldest:
            self._trim(max(over, 0), max(over_size, 0))
            return records
        room = policy.messages_max - self.queued
        room_size = policy.size_max - self.queued_size
        admitted: list[Record] = []
        for record in records:
            room_size -= len(record.payload)
            if len(admitted) >= room or room_size < 0:
                break
            admitted.append(record)
        self._counters.dropped[DropReason.QUEUE_FULL_NEWEST] += len(records) - len(admitted)
        return admitted

    def _trim(self, messages: int, size: int) -> None:
        changes = self.journal.changes(self.client_id)
        trim = changes.trim
        if trim is None:
            trim = changes.trim = Trim(self._trim_after(), 0, 0)
        trim.messages += messages
        trim.size += size
        self._trimming = (self._trimming[0] + messages, self._trimming[1] + size)

    def _trim_after(self) -> int:
        """Return the offset up to which rows are in memory, or may be read before they are gone.

        What has been sent, or read to be sent, is the client's to acknowledge. A tail goes back to
        its rows, and if nothing is being read, what comes next is read after the trim.
        """
        if self.phase is Phase.PAGING:
            self._lose_tail()
            if self._asked is not None:
                return self._cut - 1
            self._begin_paging()
        return max(self._paged, *self.in_flight.values(), 0)

    def trimmed(self, asked: Trim, result: Trimmed) -> None:
        """A commit has dropped the oldest rows."""
        self._trimming = (self._trimming[0] - asked.messages, self._trimming[1] - asked.size)
        self.queued = max(self.queued - result.messages, 0)
        self.queued_size = max(self.queued_size - result.size, 0)
        self._counters.dropped[DropReason.QUEUE_FULL_OLDEST] += result.messages

    def _follow(self, run: MessageRun, qos: int, admitted: Sequence[Record]) -> None:
        """Let a run wait behind the pages, unless too much waits: then it is paged as well.

        What may be gone again with this turn's trim is not kept in memory either.
        """
        if self._tail_lost:
            return
        fits = self._tail_count + run.count <= self._policy.tail_max
        trimming = self.journal.changes(self.client_id).trim is not None
        if not fits or trimming or len(admitted) < run.count:
            self._lose_tail()
            return
        self._tail.append((run, 0, qos))
        self._tail_count += run.count
        for record in admitted:
            self._sizes[record.offset] = len(record.payload)

    def _lose_tail(self) -> None:
        """What waits behind the pages will be paged too."""
        self._tail.clear()
        self._tail_count = 0
        self._tail_lost = True
        self._sizes = {o: size for o, size in self._sizes.items() if o < self._cut}

    # -- sending ---------------------------------------------------------------------------------

    def _send(self, run: MessageRun, first: int, count: int, qos: int) -> None:
        """Send. A QoS 2 PUBLISH leaves once its packet id is durable (B.6)."""
        link = self.link
        assert link is not None
        packet_ids = self._next_ids(count)
        self._track(run, first, packet_ids)
        if qos == 1:
            # After a kill nobody knows what had been sent: say that it may be a repetition.
            dup = self.journal.log.is_older(run.first_offset)
            link.deliver(run, first, packet_ids, qos, dup)
            return
        in_flight = self.journal.changes(self.client_id).in_flight
        offset = run.first_offset + first
        for packet_id in packet_ids:
            in_flight[packet_id] = (offset, InFlightState.SENT)
            offset += 1
        self._exactly_once.update(packet_ids)
        self.journal.after(self, True, link.deliver, run, first, packet_ids, qos, False)

    # -- what the client answers -----------------------------------------------------------------

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK: the row goes. An id of a QoS 2 exchange is not acknowledged by it."""
        exactly_once = self._exactly_once
        for packet_id in packet_ids:
            if packet_id not in exactly_once:
                offset = self.in_flight.pop(packet_id, None)
                if offset is not None:
                    self._resumed.pop(offset, None)
                    self._dequeue(offset)
        self._advance()

    def receive(self, packet_ids: Sequence[int]) -> None:
        """PUBREC: the row goes, and PUBREL leaves once that is durable."""
        known = [i for i in packet_ids if i in self._exactly_once]
        if known:
            for offset in self._mark_received(known):
                self._resumed.pop(offset, None)
                self._dequeue(offset)
            self.answer(Answer.PUBREL, known, durable=True)
        if len(known) < len(packet_ids):
            unknown = [i for i in packet_ids if i not in self._exactly_once]
            self.answer(Answer.PUBREL, unknown, durable=False)

    def _mark_received(self, packet_ids: Sequence[int]) -> list[int]:
        """Note PUBRECs; return the offsets of what had not been received before."""
        received = self.received
        if received is None:
            received = self.received = set()
        in_flight = self.journal.changes(self.client_id).in_flight
        offsets: list[int] = []
        for packet_id in packet_ids:
            if packet_id not in received:
                offset = self.in_flight[packet_id]
                received.add(packet_id)
                in_flight[packet_id] = (offset, InFlightState.RECEIVED)
                offsets.append(offset)
        return offsets

    def complete(self, packet_ids: Sequence[int]) -> None:
        """PUBCOMP: the id may be used again."""
        received = self.received or ()
        known = [i for i in packet_ids if i in received]
        if known:
            in_flight = self.journal.changes(self.client_id).in_flight
            for packet_id in known:
                in_flight[packet_id] = None
            self._exactly_once.difference_update(known)
        super().complete(known)
        self._advance()

    def _dequeue(self, offset: int) -> None:
        if self._policy.enabled:
            self.journal.dequeue(self.client_id, offset)
            self.queued = max(self.queued - 1, 0)
            self.queued_size = max(self.queued_size - self._sizes.pop(offset, 0), 0)

    # -- QoS 2 inbound ---------------------------------------------------------------------------

    def open_new(self, run: MessageRun, first_offset: int) -> list[int]:
        """Open packet ids; that is durable before PUBREC."""
        new = super().open_new(run, first_offset)
        if new:
            open_ids = self.journal.changes(self.client_id).open_ids
            for position, index in enumerate(new):
                open_ids[run.packet_ids[index]] = first_offset + position
        return new

    def release(self, packet_ids: Sequence[int]) -> None:
        """PUBREL: close the ids. That is durable before PUBCOMP, else the next use is swallowed."""
        open_ids = self.open_ids or {}
        known = [i for i in packet_ids if open_ids.pop(i, None) is not None]
        if known:
            changes = self.journal.changes(self.client_id).open_ids
            for packet_id in known:
                changes[packet_id] = None
        self.answer(Answer.PUBCOMP, packet_ids, durable=bool(known))

    # -- coming and going ------------------------------------------------------------------------

    def restore_in_flight(self, in_flight: dict[int, tuple[int, InFlightState]]) -> None:
        """Take over the outbound QoS 2 exchanges that the database knows."""
        for packet_id, (offset, state) in in_flight.items():
            self.in_flight[packet_id] = offset
            self._exactly_once.add(packet_id)
            if state is InFlightState.RECEIVED:
                self.received = self.received or set()
                self.received.add(packet_id)

    def disconnect(self) -> None:
        """Forget what belonged to the connection. What was not acknowledged stays a row."""
        self._leave_memory()
        self._paged = 0
        self.phase = Phase.OFFLINE

    def _leave_memory(self) -> None:
        """Forget what waits in memory and what is being read: only rows and what was sent stay."""
        self.drop_pending()
        self._tail.clear()
        self._tail_count = 0
        self._asked = None
        sizes = self._sizes
        self._sizes = {o: sizes[o] for o in self.in_flight.values() if o in sizes}

    def resume(self) -> None:
        """CONNACK is out: send what is owed, the oldest first."""
        link = self.link
        if link is None or self.phase is not Phase.ATTACHING:
            return
        received = self.received or set()
        by_offset = sorted((offset, i) for i, offset in self.in_flight.items())
        owed = [packet_id for _, packet_id in by_offset if packet_id in received]
        if owed:
            link.answer(Answer.PUBREL, owed)
        self._resumed = {offset: i for offset, i in by_offset if i not in received}
        self._paged = 0
        if self.queued or self._resumed:
            self._begin_paging()
        else:
            self.phase = Phase.LIVE

    def _begin_paging(self) -> None:
        """Cut: rows below are read, matches from here on wait behind them."""
        self.phase = Phase.PAGING
        self._cut = self.journal.log.next_offset
        self._tail_lost = False
        self._readable = False
        # Rows of the collecting turn are below the cut too: read them once they are there.
        durable = self.journal.is_waiting(self.client_id)
        self.journal.after(self, durable, self._cut_committed, self._cut)

    def _cut_committed(self, cut: int) -> None:
        if cut == self._cut:
            self._readable = True
            self._ask()

    def _ask(self) -> None:
        if self.phase is Phase.PAGING and self._readable and self._asked is None:
            self._asked = QueueRead(self, self._paged, self._cut, PAGE_MESSAGES)
            self._read(self._asked)

    def page(self, read: QueueRead, rows: Sequence[QueuedMessage]) -> None:
        """A page has come: resend what was in flight under its old id, offer the rest."""
        if read is not self._asked:
            return
        self._asked = None
        # After a kill or a fall behind, rows may be read that overtook others and are on their way.
        sent = set(self.in_flight.values()).difference(self._resumed)
        for row in rows:
            self._paged = row.record.offset
            if self._paged not in sent:
                self._page_row(row)
        if is_last_page([row.record for row in rows], limit=read.limit):
            self._caught_up()
        else:
            self._advance()

    def _page_row(self, row: QueuedMessage) -> None:
        record = row.record
        self._sizes[record.offset] = len(record.payload)
        run = MessageRun.single(
            record.topic.encode(), record.payload, row.qos, retained_copy=record.retained
        )
        run.first_offset = record.offset
        packet_id = self._resumed.pop(record.offset, None)
        if packet_id is None:
            self.offer(run, row.qos)
        else:
            assert self.link is not None
            self.link.deliver(run, 0, (packet_id,), row.qos, True)

    def _caught_up(self) -> None:
        """All rows below the cut are sent or wait for the window."""
        self._give_up_orphans()
        if self._tail_lost:
            self._begin_paging()
            return
        self.phase = Phase.LIVE
        for run, first, qos in self._tail:
            self._wait(run, first, qos)
        self._tail.clear()
        self._tail_count = 0
        self.fill_window()

    def _give_up_orphans(self) -> None:
        """Finish exchanges whose row is gone (dropped at a limit, or queueing is off).

        A QoS 2 id goes on with PUBREL, so that both sides may use it again; a QoS 1 id is free.
        """
        orphans = list(self._resumed.values())
        self._resumed = {}
        finishing = [i for i in orphans if i in self._exactly_once]
        for packet_id in orphans:
            if packet_id not in self._exactly_once:
                del self.in_flight[packet_id]
        if finishing:
            self._mark_received(finishing)
            self.answer(Answer.PUBREL, finishing, durable=True)

    def _advance(self) -> None:
        """After an acknowledgement: send what waits, and read on when little is left."""
        if self.link is None:
            return
        self.fill_window()
        if self.phase is Phase.PAGING:
            if self.pending_count < PAGE_MESSAGES or self._resumed:
                self._ask()
        elif self.phase is Phase.LAGGING and len(self.in_flight) <= self.window // 2:
            self._begin_paging()

    def fall_behind(self) -> None:
        """It was too slow for too long: what waits in memory is dropped and paged later."""
        if not self.pending:
            return
        run, first, _ = self.pending[0]
        self._paged = run.first_offset + first - 1
        self._leave_memory()
        self.phase = Phase.LAGGING
        self._counters.parked_sessions += 1
        self._advance()
