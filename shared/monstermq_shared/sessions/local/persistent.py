"""A persistent session: what a client is owed is a row first, and then perhaps a packet.

While the client keeps up it is served live and its rows are written only if they are still
unacknowledged when their turn is handed to the database. Everything else is paged from the rows:
what came while it was away, and what it was too slow for.
"""

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto

from monstermq_shared.counters import Counters, DropReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.sessions.local.queue import SessionQueue
from monstermq_shared.sessions.local.reads import QueueRead
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.session import OPEN_ID_SIZE
from monstermq_shared.sessions.window import Segment
from monstermq_shared.stores.changes import InFlightState, QueuedMessage
from monstermq_shared.stores.ports import is_last_page


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
    ENDED = auto()
    """It has ended; what its subscriptions still match is dropped."""


class PersistentSession(Session):
    """A session that outlives its connection.

    Attributes:
        incarnation: Offset at which it began.
        phase: How it is served now.
        queue: Its rows.
        information: As shown in the ``sessions`` table.
    """

    __slots__ = (
        "_asked",
        "_counters",
        "_cut",
        "_exactly_once",
        "_page_max",
        "_paged",
        "_read",
        "_readable",
        "_resumed",
        "_tail",
        "_tail_count",
        "_tail_lost",
        "incarnation",
        "information",
        "phase",
        "queue",
    )

    persistent = True

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        client_id: str,
        journal: Journal,
        window: int,
        *,
        incarnation: int,
        queue: SessionQueue,
        counters: Counters,
        read: Callable[[QueueRead], None],
        page_max: int,
    ) -> None:
        super().__init__(client_id, journal, window)
        self.incarnation = incarnation
        self.phase = Phase.OFFLINE
        self.queue = queue
        self.information: dict[str, str | int | bool] = {}
        self._counters = counters
        self._read = read
        self._page_max = page_max
        self._asked: QueueRead | None = None
        self._readable = False
        self._paged = 0
        self._cut = 0
        # Offset -> packet id of what an earlier connection was sent, until its row is read; the
        # oldest first.
        self._resumed: dict[int, int] = {}
        self._exactly_once: set[int] = set()
        self._tail: deque[Segment] = deque()
        self._tail_count = 0
        self._tail_lost = False

    @property
    def takes_copies(self) -> bool:
        """See ``ClientSession``: not while rows are owed."""
        return self.phase is Phase.LIVE

    @property
    def queued(self) -> int:
        """Rows in its queue."""
        return self.queue.messages

    @property
    def queued_size(self) -> int:
        """Their bytes, see ``records.size_of``."""
        return self.queue.size

    # -- what is matched -------------------------------------------------------------------------

    def enqueue(self, run: MessageRun, qos: int, records: Sequence[Record]) -> bool:
        """Take a run of QoS 1 or 2 messages; return whether that made rows.

        In the records of a queue the retain flag is the one that is delivered.
        """
        queue = self.queue
        phase = self.phase
        if phase is Phase.ENDED:
            return False
        if not queue.limits.enabled:
            self._pass_on(run, qos)
            return False
        if phase is Phase.LIVE:
            queue.add(records, qos)
            queue.know(records)
            self.offer(run, qos)
            return True
        admitted = self._admit(records)
        queue.add(admitted, qos)
        if phase is Phase.PAGING:
            self._follow(run, qos, admitted)
        return bool(admitted)

    def _pass_on(self, run: MessageRun, qos: int) -> None:
        """Serve a connected client without a row; where there are older rows, behind them."""
        if self.phase is Phase.LIVE:
            self.offer(run, qos)
        elif self.phase is Phase.PAGING and self._has_tail_room(run):
            self._append_to_tail(run, qos)
        else:
            self._counters.dropped[DropReason.QUEUEING_DISABLED] += run.count

    def _admit(self, records: Sequence[Record]) -> Sequence[Record]:
        """Apply the queue's limits."""
        queue = self.queue
        excess = queue.excess(records)
        if excess is None:
            return records
        if not queue.limits.drop_oldest:
            return queue.fitting(records)
        queue.trim(self._trim_after(), *excess)
        return records

    def _trim_after(self) -> int:
        """Return the offset up to which rows are in memory, or may be read before they are gone.

        What has been sent, or read to be sent, is the client's to acknowledge. A tail goes back to
        its rows, and if nothing is being read, what comes next is read after the trim.
        """
        if self.phase is Phase.PAGING:
            self._lose_tail()
            if self._asked is not None:
                return self._cut - 1
            self._begin_paging(changing=True)
        return max(self._paged, *self.in_flight.values(), 0)

    def _follow(self, run: MessageRun, qos: int, admitted: Sequence[Record]) -> None:
        """Let a run wait behind the pages, unless too much waits: then it is paged as well.

        What may be gone again with this turn's trim is not kept in memory either.
        """
        if self._tail_lost:
            return
        complete = len(admitted) == run.count
        if not complete or self.queue.is_trimming or not self._has_tail_room(run):
            self._lose_tail()
            return
        self._append_to_tail(run, qos)
        self.queue.know(admitted)

    def _has_tail_room(self, run: MessageRun) -> bool:
        return self._tail_count + run.count <= self.queue.limits.tail_max

    def _append_to_tail(self, run: MessageRun, qos: int) -> None:
        self._tail.append((run, 0, qos))
        self._tail_count += run.count

    def _lose_tail(self) -> None:
        """What waits behind the pages will be paged too."""
        self._tail.clear()
        self._tail_count = 0
        self._tail_lost = True
        self.queue.forget_from(self._cut)

    # -- sending ---------------------------------------------------------------------------------

    def _send(self, run: MessageRun, first: int, count: int, qos: int) -> None:
        """Send. A QoS 2 PUBLISH leaves once its packet id is durable (ARCHITECTURE 5)."""
        link = self.link
        assert link is not None
        packet_ids = self._begin(run, first, count)
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
                    self._dequeue(offset)
        self._advance()

    def receive(self, packet_ids: Sequence[int]) -> None:
        """PUBREC: the row goes, and PUBREL leaves once that is durable."""
        known = [i for i in packet_ids if i in self._exactly_once]
        if known:
            for offset in self._mark_received(known):
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
        self.queue.remove(offset, unread=self._resumed.pop(offset, None) is not None)

    # -- QoS 2 inbound ---------------------------------------------------------------------------

    def open_new(self, run: MessageRun, first_offset: int) -> list[int]:
        """Open packet ids; that is durable before PUBREC."""
        new = super().open_new(run, first_offset)
        if new:
            open_ids = self.journal.changes(self.client_id).open_ids
            for position, index in enumerate(new):
                open_ids[run.packet_ids[index]] = first_offset + position
            self.journal.count(OPEN_ID_SIZE * len(new))
        return new

    def release(self, packet_ids: Sequence[int]) -> None:
        """PUBREL: close the ids. That is durable before PUBCOMP, else the next use is swallowed."""
        open_ids = self.open_ids or {}
        known = [i for i in packet_ids if open_ids.pop(i, None) is not None]
        if known:
            changes = self.journal.changes(self.client_id).open_ids
            for packet_id in known:
                changes[packet_id] = None
            self.journal.count(OPEN_ID_SIZE * len(known))
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

    def end(self) -> None:
        """It ends: forget what it was to be sent, and take nothing more."""
        self._leave_memory()
        self.phase = Phase.ENDED

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
        self.queue.forget_except(self.in_flight.values())

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
        if self.queue.messages or (self._resumed and self.queue.limits.enabled):
            self._begin_paging()
        else:
            self._give_up_orphans(self.journal.log.next_offset)
            self.phase = Phase.LIVE

    def _begin_paging(self, *, changing: bool = False) -> None:
        """Cut: rows below are read, matches from here on wait behind them.

        Args:
            changing: The collecting turn is about to change rows below the cut.
        """
        self.phase = Phase.PAGING
        self._cut = self.journal.log.next_offset
        self._tail_lost = False
        self._readable = False
        # Rows of the collecting turn are below the cut too: read them once they are there.
        durable = changing or self.journal.is_waiting(self.client_id)
        self.journal.after(self, durable, self._cut_committed, self._cut)

    def _cut_committed(self, cut: int) -> None:
        if cut == self._cut:
            self._readable = True
            self._ask()

    def _ask(self) -> None:
        if self.phase is Phase.PAGING and self._readable and self._asked is None:
            self._asked = QueueRead(self, self._paged, self._cut, self._page_max)
            self._read(self._asked)

    def awaits(self, read: QueueRead) -> bool:
        """Whether the page of this read would be taken."""
        return read is self._asked

    def page(self, read: QueueRead, rows: Sequence[QueuedMessage]) -> None:
        """A page has come: resend what was in flight under its old id, offer the rest."""
        if read is not self._asked:
            return
        self._asked = None
        # After a kill or a fall behind, rows may be read that overtook others and are on their way.
        sent = set(self.in_flight.values()).difference(self._resumed)
        for row in rows:
            self._paged = row.record.offset
            self._give_up_orphans(self._paged - 1)
            if self._paged not in sent:
                self._page_row(row)
        if is_last_page([row.record for row in rows], limit=read.limit):
            self._caught_up()
        else:
            self._advance()

    def _page_row(self, row: QueuedMessage) -> None:
        record = row.record
        self.queue.know((record,))
        run = MessageRun.single(
            record.topic.encode(), record.payload, row.qos, retained_copy=record.retained
        )
        run.first_offset = record.offset
        packet_id = self._resumed.pop(record.offset, None)
        if packet_id is None:
            self._wait(run, 0, row.qos)
            self.fill_window()
        else:
            assert self.link is not None
            self.link.deliver(run, 0, (packet_id,), row.qos, True)

    def _room(self) -> int:
        """Ids that wait for their row take no room: the client cannot acknowledge them yet."""
        return self.window - len(self.in_flight) + len(self._resumed)

    def _caught_up(self) -> None:
        """All rows below the cut are sent or wait for the window."""
        self._give_up_orphans(self._cut)
        if self._tail_lost:
            self._begin_paging()
            return
        self.phase = Phase.LIVE
        for run, first, qos in self._tail:
            self._wait(run, first, qos)
        self._tail.clear()
        self._tail_count = 0
        self.fill_window()

    def _give_up_orphans(self, upto: int) -> None:
        """Finish exchanges whose row is gone (dropped at a limit, or queueing is off).

        The rows up to that offset have been read. A QoS 2 id goes on with PUBREL, so that both
        sides may use it again; a QoS 1 id is free.
        """
        if not self._resumed or next(iter(self._resumed)) > upto:
            return
        orphans = [packet_id for offset, packet_id in self._resumed.items() if offset <= upto]
        self._resumed = {offset: i for offset, i in self._resumed.items() if offset > upto}
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
            if self.pending_count < self._page_max:
                self._ask()
        elif self.phase is Phase.LAGGING and 2 * self._room() >= self.window:
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
