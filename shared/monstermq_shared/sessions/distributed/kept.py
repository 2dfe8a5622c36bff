"""A kept session while it has a connection: live delivery, and what is owed from before.

In each partition of the log it is delivered live from its own marker on; what stands below comes
from the rows that the partition's worker writes, once they reflect the marker (E3, E5). What it has
no room for is for rows again (E6). Nothing here knows how rows are read or facts appended: that is
the engine's, through ``KeptPort``.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.kept_line import Line, Opening
from monstermq_shared.sessions.distributed.kept_parts import Part, PartPhase
from monstermq_shared.sessions.distributed.ports import KeptPort
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.sessions.distributed.varying import Varying
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.window import PACKET_ID_MAX
from monstermq_shared.stores.changes import QueuedMessage
from monstermq_shared.stores.queues import QueueAsk, QueuePage

NO_POSITION = -1
"""What is in flight for a retained message: it stands in no queue."""

PAGE_MIN = 16
"""Rows of a page at least, however many partitions are paged at once."""

Acks = dict[int, tuple[list[int], list[int]]]
"""Partition -> offsets that the client has acknowledged, and packet ids that PUBREL is due for once
the log has them (E9)."""


class KeptSession(BusSession):
    """One connection of a session that outlives it.

    A position is one number here, offset x partitions + partition.

    Attributes:
        incarnation: The epoch of the claim that began the session.
        is_up: CONNACK is sent: the client may be sent messages.
        varying: Subscriptions that do not hold in every partition yet.
    """

    __slots__ = (
        "_acking",
        "_acks",
        "_behind",
        "_buffered",
        "_counters",
        "_exactly_once",
        "_limits",
        "_line",
        "_page_max",
        "_parts",
        "_port",
        "_resume",
        "_rows",
        "_sent",
        "_sent_unknown",
        "_unmarked",
        "_unsent",
        "incarnation",
        "is_up",
        "varying",
    )

    persistent = True

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        client_id: str,
        window: int,
        partition: int,
        refused: Callable[[BusSession], None],
        *,
        port: KeptPort,
        limits: tuple[int, int],
        page_max: int,
        counters: Counters,
    ) -> None:
        """Begin one.

        Args:
            client_id: The client.
            window: How many messages may be unacknowledged.
            partition: See ``BusSession``.
            refused: See ``BusSession``.
            port: The engine.
            limits: Messages, and their bytes, that may wait in memory before what comes is for
                rows.
            page_max: Rows that are read at once.
            counters: What is counted.
        """
        super().__init__(client_id, window, partition, refused)
        self.window = 0  # until it is up
        self.incarnation = -1
        self.is_up = False
        self.varying = Varying(self.subscriptions)
        self._port = port
        self._limits = limits
        self._page_max = page_max
        self._counters = counters
        # Those that are not simply live.
        self._parts: dict[int, Part] = {}
        self._unmarked = 0
        self._buffered = 0
        self._behind = False
        # Position -> packet id that the client may know, until its row is sent; these ids; and the
        # positions of them whose row was read.
        self._resume: dict[int, int] = {}
        self._unsent: set[int] = set()
        self._rows: set[int] = set()
        # Positions that the client may have been sent at QoS 1 before; whether there may be others.
        self._sent: set[int] = set()
        self._sent_unknown = False
        self._exactly_once: set[int] = set()
        self._line = Line()
        self._acking: set[int] = set()
        self._acks: Acks = {}

    # -- it begins -------------------------------------------------------------------------------

    def begin(self, state: SessionState) -> None:
        """Take the session as of the claim, whose epoch is set (E2, E3).

        A marker goes to every partition now; ``marked`` tells of each.
        """
        partitions = self._port.partitions
        self.incarnation = state.incarnation
        self.subscriptions.update((name, qos) for name, qos, _ in state.subscriptions)
        for packet_id, (partition, offset) in state.in_flight.items():
            at = NO_POSITION
            if partition is not None and offset is not None:
                at = offset * partitions + partition
                self._resume[at] = packet_id
                self._unsent.add(packet_id)
            self.in_flight[packet_id] = at
            self._exactly_once.add(packet_id)
        self._sent_unknown = state.sent is None
        self._sent.update(offset * partitions + p for p, offset in state.sent or ())
        self._parts = {number: Part(PartPhase.MARK) for number in range(partitions)}
        self._unmarked = partitions

    @property
    def is_new(self) -> bool:
        """Whether the session began with this connection: rows owe it nothing (E5)."""
        return self.incarnation == self.epoch

    @property
    def is_marked(self) -> bool:
        """Whether the first markers of all partitions are read back: CONNACK is due (E3)."""
        return not self._unmarked

    def marked(self, partition: int, offset: int) -> None:
        """An own marker, the first or one that ``KeptPort.mark`` asked for, was read and counts."""
        part = self._parts[partition]
        is_first = part.mark < 0 and part.lost is None
        part.marked(offset)
        if is_first:
            self._unmarked -= 1
            if self.is_new:
                del self._parts[partition]
                return
        if self.is_up:
            self._port.wait(self, partition, part.mark)

    def start(self) -> None:
        """CONNACK is sent: finish what needs no row, and ask for what the rows owe (E5)."""
        self.is_up = True
        if not self.is_stalled:
            self.window = self._window
        unplaced = [id_ for id_, at in self.in_flight.items() if at == NO_POSITION]
        self._pubrel(unplaced)
        for partition, part in list(self._parts.items()):
            if part.phase is PartPhase.WAIT:
                self._port.wait(self, partition, part.mark)
        self.fill_window()

    # -- what is matched -------------------------------------------------------------------------

    def offer(self, run: MessageRun, qos: int) -> None:
        """See ``Window``: deliver, let wait, or leave to the rows, as the partition stands."""
        if not run.retained_copy and not self._admits(run, qos):
            return
        room = self._room()
        if self.pending_count or room < run.count or not self.is_up:
            self._wait(run, 0, qos)
            self.fill_window()
        else:
            self._send(run, 0, run.count, qos)

    def _admits(self, run: MessageRun, qos: int) -> bool:
        """Whether a live run goes on to the client now."""
        part = self._parts.get(run.partition)
        if part is None:
            if self._has_room():
                return True
            part = self._parts[run.partition] = Part(PartPhase.LIVE)  # E6
            self._counters.parked_sessions += 1
        elif part.phase is PartPhase.MARK or part.lost is not None:
            return False
        elif self._has_room():
            _ = run.payloads  # what waits must not pin the read chunk it came in
            part.buffer.append((run, 0, qos))
            self._buffered += run.count
            self.pending_size += run.size
            return False
        part.lose(run)
        return False

    def _has_room(self) -> bool:
        count_max, size_max = self._limits
        if self._behind:
            return False
        return self.pending_count + self._buffered < count_max and self.pending_size < size_max

    def fall_behind(self) -> None:
        """Publishers have waited for it long enough: what comes now is for rows (E6)."""
        self._behind = True

    # -- what the rows owe -----------------------------------------------------------------------

    def reflected(self, partition: int) -> None:
        """The rows reflect the marker, as far as the watermark says (E5)."""
        part = self._parts.get(partition)
        if self.is_up and part is not None and part.phase is PartPhase.WAIT:
            part.phase = PartPhase.PAGE
            self._ask(partition, part)

    def _ask(self, partition: int, part: Part) -> None:
        if part.ask is None and self.pending_count < self._page_max:
            limit = max(self._page_max // len(self._parts), PAGE_MIN)
            part.ask = QueueAsk(self.client_id, partition, part.next_offset, part.mark, limit)
            self._port.ask(self, part.ask)

    def awaits(self, ask: QueueAsk) -> bool:
        """Whether the page is still of use."""
        part = self._parts.get(ask.partition)
        return self.is_up and part is not None and part.ask is ask

    def page(self, ask: QueueAsk, page: QueuePage) -> None:
        """A page has come (E5)."""
        if not self.awaits(ask):
            return
        partition = ask.partition
        part = self._parts[partition]
        part.ask = None
        assert self.epoch is not None
        if page.cut is None or page.cut < (self.epoch, part.mark):
            # The rows are older than the watermark said: a standby has taken over.
            part.phase = PartPhase.WAIT
            self._port.wait(self, partition, part.mark)
            return
        for row in page.rows:
            self._take_row(partition, part, row)
        if page.is_last:
            self._paged(partition, part)
        self.fill_window()

    def _take_row(self, partition: int, part: Part, row: QueuedMessage) -> None:
        record = row.record
        part.next_offset = record.offset + 1
        run = MessageRun.single(record.topic.encode(), record.payload, row.qos)
        run.first_offset, run.partition = record.offset, partition
        at = record.offset * self._port.partitions + partition
        if at in self._resume:
            self._rows.add(at)
        elif self._sent_unknown:
            self._sent.add(at)
        self._wait(run, 0, row.qos)

    def _paged(self, partition: int, part: Part) -> None:
        """No row is left below the marker: go on live."""
        partitions = self._port.partitions
        gone = [
            at
            for at in self._resume
            if at % partitions == partition
            and at // partitions < part.mark
            and at not in self._rows
        ]
        # It was acknowledged, finished, dropped, or has expired.
        ids = [self._resume.pop(at) for at in gone]
        self._unsent.difference_update(ids)
        self._pubrel(ids)
        for run, first, qos in part.buffer:
            self._buffered -= run.count
            self.pending_size -= run.size
            self._wait(run, first, qos)
        part.buffer = []
        part.phase = PartPhase.LIVE
        if part.lost is None:
            del self._parts[partition]

    # -- sending ---------------------------------------------------------------------------------

    def fill_window(self) -> None:
        """See ``Window``; then see to the partitions that are not live."""
        super().fill_window()
        if (self._parts or self._behind) and self.is_up:
            self._go_on()

    def _go_on(self) -> None:
        """Read on where there is room; mark anew what was lost once all before it is sent."""
        is_empty = not self.pending_count and not self._line
        if is_empty:
            self._behind = False
        for partition, part in list(self._parts.items()):
            if part.phase is PartPhase.PAGE:
                self._ask(partition, part)
            elif part.phase is PartPhase.LIVE and part.lost is not None and is_empty:
                part.phase = PartPhase.MARK  # E6
                self._port.mark(self, partition)

    def _room(self) -> int:
        """Ids that wait for their row take no room, or nothing would ever come (E3)."""
        return self.window - len(self.in_flight) + len(self._resume)

    def _send(self, run: MessageRun, first: int, count: int, qos: int) -> None:
        link = self.link
        assert link is not None
        dup = False
        if (self._resume or self._sent) and run.count == 1:
            at = self._position(run, 0)
            packet_id = self._resume.pop(at, 0)
            if packet_id:
                self._rows.discard(at)
                self._unsent.discard(packet_id)
                self._put(Opening(run, 0, (packet_id,), 2, dup=True), is_open=True)
                return
            dup = qos == 1 and at in self._sent
            self._sent.discard(at)
        packet_ids = self._begin(run, first, count)
        if qos == 1 and not self._line:
            link.deliver(run, first, packet_ids, qos, dup)
            return
        opening = Opening(run, first, packet_ids, qos, dup=dup)
        if qos == 1:
            self._put(opening, is_open=True)
            return
        self._exactly_once.update(packet_ids)
        self._line.put(opening)
        self._port.open(self, opening)

    def _put(self, opening: Opening, *, is_open: bool) -> None:
        link = self.link
        assert link is not None
        self._line.put(opening)
        if is_open:
            self._line.opened(opening, link)

    def opened(self, opening: Opening) -> None:
        """The facts of ``opening`` are read back, and count (R4)."""
        if self.link is not None and self.is_up:
            self._line.opened(opening, self.link)
            if self._parts:
                self._go_on()

    def _position(self, run: MessageRun, first: int) -> int:
        if run.retained_copy:
            return NO_POSITION
        return (run.first_offset + first) * self._port.partitions + run.partition

    def _begin(self, run: MessageRun, first: int, count: int) -> Sequence[int]:
        """See ``Window``."""
        in_flight = self.in_flight
        at = self._position(run, first)
        packet_id = self.last_id + 1
        if count == 1 and packet_id <= PACKET_ID_MAX and packet_id not in in_flight:
            self.last_id = packet_id
            in_flight[packet_id] = at
            return (packet_id,)
        packet_ids = self._free_ids(count)
        step = self._port.partitions
        positions: Iterable[int] = (
            repeat(NO_POSITION, count) if at == NO_POSITION else range(at, at + count * step, step)
        )
        in_flight.update(zip(packet_ids, positions, strict=True))
        return packet_ids

    # -- what the client answers -----------------------------------------------------------------

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK: an ack fact (E9)."""
        exactly_once, in_flight = self._exactly_once, self.in_flight
        acked = [
            at
            for packet_id in packet_ids
            if packet_id not in exactly_once
            and (at := in_flight.pop(packet_id, NO_POSITION)) != NO_POSITION
        ]
        for at in acked:
            self._note_ack(at, 0)
        self.fill_window()

    def receive(self, packet_ids: Sequence[int]) -> None:
        """PUBREC: an ack fact, and PUBREL once the log has it (E9)."""
        at_once: list[int] = []
        for packet_id in packet_ids:
            at = self.in_flight.get(packet_id) if packet_id in self._exactly_once else None
            is_known = at is not None and packet_id not in (self.received or ())
            if not is_known or at == NO_POSITION:
                at_once.append(packet_id)
            elif packet_id not in self._acking and self._was_sent(packet_id):
                self._acking.add(packet_id)
                self._note_ack(at or 0, packet_id)
        self._pubrel(at_once)

    def _was_sent(self, packet_id: int) -> bool:
        """Whether the client can have it by this connection."""
        return packet_id not in self._line.opening and packet_id not in self._unsent

    def _note_ack(self, at: int, packet_id: int) -> None:
        offset, partition = divmod(at, self._port.partitions)
        acks = self._acks
        if not acks:
            self._port.acks(self)
        offsets, packet_ids = acks.setdefault(partition, ([], []))
        offsets.append(offset)
        if packet_id:
            packet_ids.append(packet_id)

    def take_acks(self) -> Acks:
        """Return what the client has acknowledged since; ``acked`` with the packet ids follows."""
        acks, self._acks = self._acks, {}
        return acks

    def acked(self, packet_ids: Sequence[int]) -> None:
        """The log has the acks of these: PUBREL (E9)."""
        known = [packet_id for packet_id in packet_ids if packet_id in self._acking]
        self._acking.difference_update(known)
        self._pubrel(known)

    def _pubrel(self, packet_ids: Sequence[int]) -> None:
        """Send PUBRELs, also for ids that are not known: the client answers with PUBCOMP."""
        if not packet_ids or self.link is None:
            return
        if self.received is None:
            self.received = set()
        self.received.update(i for i in packet_ids if i in self.in_flight)
        self.link.answer(Answer.PUBREL, packet_ids)

    def complete(self, packet_ids: Sequence[int]) -> None:
        """PUBCOMP: the id is free; nothing is written (E9)."""
        super().complete(packet_ids)
        self._exactly_once.difference_update(
            [packet_id for packet_id in packet_ids if packet_id not in self.in_flight]
        )
        self.fill_window()

    # -- it ends ---------------------------------------------------------------------------------

    def unfinished(self) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...] | None]:
        """Return what its detach says (E9, E11).

        Returns:
            Packet ids of QoS 2 deliveries that are not finished, and positions of QoS 1 deliveries
            that the client may have and has not acknowledged; None if not all of them are known.
        """
        ids = tuple(packet_id for packet_id in self.in_flight if packet_id in self._exactly_once)
        if self._sent_unknown and self._parts:
            return ids, None
        partitions = self._port.partitions
        sent = {
            at
            for packet_id, at in self.in_flight.items()
            if packet_id not in self._exactly_once and at != NO_POSITION
        }
        return ids, tuple((at % partitions, at // partitions) for at in sorted(sent | self._sent))

    def end(self) -> None:
        """Its connection has gone: only acks that are not appended stay."""
        super().end()
        self.is_up = False
        self._parts = {}
        self._buffered = 0
        self._line.clear()
        self._resume.clear()
        self._unsent.clear()
        self._rows.clear()
