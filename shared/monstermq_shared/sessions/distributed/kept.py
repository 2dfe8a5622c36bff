"""A kept session while it has a connection: live delivery, and what is owed from before.

In each partition of the log it is delivered live from its own marker on; what stands below comes
from the rows that the partition's worker writes, once they reflect the marker (E3, E5). What it has
no room for is for rows again (E6). Nothing here knows how rows are read or facts appended: that is
the engine's, through ``KeptPort``.
"""

from collections.abc import Callable, Sequence
from typing import Any

from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.filter_bounds import FilterBounds
from monstermq_shared.sessions.distributed.kept_line import Opening
from monstermq_shared.sessions.distributed.kept_parts import Part, PartPhase
from monstermq_shared.sessions.distributed.kept_window import NO_POSITION, KeptWindow
from monstermq_shared.sessions.distributed.ports import KeptPort
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.sessions.distributed.varying import Varying
from monstermq_shared.stores.changes import QueuedMessage
from monstermq_shared.stores.queues import QueueAsk, QueuePage

PAGE_MIN = 16
"""Rows of a page at least, however many partitions are paged at once."""


class KeptSession(KeptWindow):
    """One connection of a session that outlives it.

    Attributes:
        incarnation: The epoch of the claim that began the session.
        varying: Subscriptions that do not hold in every partition yet.
        adding: Filter -> QoS of a SUBSCRIBE of which only a part has come.
        removing: The same of an UNSUBSCRIBE.
        bounds: Counts its filters.
        appending: Packet ids of publishes that are appended and not read back (E8).
        released: (partition, offset) of the publishes that this connection has released.
        releasing: PUBRELs whose PUBCOMP waits for the log.
    """

    __slots__ = (
        "_buffered",
        "_buffered_size",
        "_counters",
        "_is_behind",
        "_limits",
        "_page_max",
        "_parts",
        "_port",
        "_unmarked",
        "adding",
        "appending",
        "bounds",
        "incarnation",
        "released",
        "releasing",
        "removing",
        "varying",
    )

    persistent = True

    def __init__(  # noqa: PLR0913 - built in one place, by the engine
        self,
        client_id: str,
        window: int,
        partition: int,
        refused: Callable[[Any], None],
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
            limits: Messages, and their bytes, that may wait for the window before what comes is for
                rows; as many may wait for rows.
            page_max: Rows that are read at once.
            counters: What is counted.
        """
        super().__init__(client_id, window, partition, refused, port.partitions)
        self.incarnation = -1
        self.varying = Varying()
        self.adding: dict[str, int] = {}
        self.removing: dict[str, None] = {}
        self.bounds = FilterBounds()
        self.appending: set[int] = set()
        self.released: set[tuple[int, int]] = set()
        self.releasing = 0
        self._port = port
        self._limits = limits
        self._page_max = page_max
        self._counters = counters
        # Those that are not simply live.
        self._parts: dict[int, Part] = {}
        self._unmarked = 0
        self._buffered = 0
        self._buffered_size = 0
        self._is_behind = False

    # -- it begins -------------------------------------------------------------------------------

    def begin(self, state: SessionState) -> None:
        """Take the session as of the claim, whose epoch is set (E2, E3).

        A marker goes to every partition now; ``marked`` tells of each.
        """
        self.incarnation = state.incarnation
        self.subscriptions.update((name, qos) for name, qos, _ in state.subscriptions)
        self.bounds = FilterBounds(self.subscriptions)
        self._resume(state)
        self._parts = {number: Part(PartPhase.MARK) for number in range(self._partitions)}
        self._unmarked = self._partitions

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
        part = self._parts.get(partition)
        if part is None:  # its connection has gone
            return
        is_first = part.mark < 0 and part.lost is None
        part.marked(offset)
        if is_first:
            self._unmarked -= 1
            if self.is_new:  # E5
                del self._parts[partition]
                return
        if self.is_up:
            self._port.wait(self, partition, part.mark)

    def start(self) -> None:
        """CONNACK is sent: finish what needs no row, and ask for what the rows owe (E5)."""
        self.is_up = True
        if not self.is_stalled:
            self.window = self._window
        self._pubrel([id_ for id_, at in self.in_flight.items() if at == NO_POSITION])
        for partition, part in list(self._parts.items()):
            if part.phase is PartPhase.WAIT:
                self._port.wait(self, partition, part.mark)
        self.fill_window()

    @property
    def owes_answers(self) -> bool:
        """See ``ClientSession``: what waits for the log is answered yet."""
        waits = super().owes_answers or not self.is_up or self.releasing or self.varying
        return self.link is not None and bool(waits)

    # -- what is matched -------------------------------------------------------------------------

    def offer(self, run: MessageRun, qos: int) -> None:
        """See ``Window``: deliver, let wait, or leave to the rows, as the partition stands."""
        count = run.count
        if (
            self.pending_count
            or self._parts
            or self._is_behind
            or self.window - len(self.in_flight) < count
        ):
            self._offer_with_care(run, qos)
        else:
            self._send(run, 0, count, qos)

    def _offer_with_care(self, run: MessageRun, qos: int) -> None:
        if not (run.retained_copy or self._admits(run, qos)):
            return
        if self.pending_count or self._room() < run.count:
            self._wait(run, 0, qos)
            self.fill_window()
        else:
            self._send(run, 0, run.count, qos)

    def _admits(self, run: MessageRun, qos: int) -> bool:
        """Whether a live run goes on to the client now."""
        count_max, size_max = self._limits
        part = self._parts.get(run.partition)
        if part is None:
            if (
                not self._is_behind
                and self.pending_count < count_max
                and self.pending_size < size_max
            ):
                return True
            part = self._parts[run.partition] = Part(PartPhase.LIVE)
        elif part.phase is PartPhase.MARK or part.lost is not None:
            return False
        elif self._buffered < count_max and self._buffered_size < size_max:
            _ = run.payloads  # what waits must not pin the read chunk it came in
            part.buffer.append((run, 0, qos))
            self._buffered += run.count
            self._buffered_size += run.size
            return False
        # E6: what is kept already stays, and goes out first.
        part.lost = run.first_offset
        self._counters.parked_sessions += 1
        return False

    def fall_behind(self) -> None:
        """Publishers have waited for it long enough: what comes now is for rows (E6)."""
        self._is_behind = self._is_sending

    # -- what the rows owe -----------------------------------------------------------------------

    def reflected(self, partition: int) -> None:
        """The rows reflect the marker, as far as the watermark says (E5)."""
        part = self._parts.get(partition)
        if self.is_up and part is not None and part.phase is PartPhase.WAIT:
            part.phase = PartPhase.PAGE
            self._ask(partition, part)

    def _ask(self, partition: int, part: Part) -> None:
        """Read a page, unless enough waits already that could be sent."""
        is_full = self.pending_count >= self._page_max or self.pending_size >= self._limits[1]
        wants = not is_full or self._frees_ids(partition)
        if part.ask is None and wants and not self.is_stalled:
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
        if self._resumption is not None:
            gone = self._resumption.row_read(self._position(run, 0))
            if gone:
                self._pubrel(gone)
        self._wait(run, 0, row.qos)

    def _paged(self, partition: int, part: Part) -> None:
        """No row is left below the marker: go on live."""
        if self._resumption is not None:
            self._pubrel(self._resumption.rows_end(partition))
            self._resumption = self._resumption or None
        for run, first, qos in part.buffer:
            self._buffered -= run.count
            self._buffered_size -= run.size
            self._wait(run, first, qos)
        part.buffer = []
        part.phase = PartPhase.LIVE
        if part.lost is None:
            del self._parts[partition]

    # -- sending ---------------------------------------------------------------------------------

    def fill_window(self) -> None:
        """See ``Window``; then see to the partitions that are not live."""
        super().fill_window()
        if self._parts or self._is_behind:
            self._go_on()

    def _go_on(self) -> None:
        """Read on where there is room; mark anew what was lost once all before it is sent."""
        if not self.is_up or self.is_stalled:
            return
        is_sending = self._is_sending
        self._is_behind = self._is_behind and is_sending
        for partition, part in list(self._parts.items()):
            if part.phase is PartPhase.PAGE:
                self._ask(partition, part)
            elif part.phase is PartPhase.LIVE and part.lost is not None and not is_sending:
                part.phase = PartPhase.MARK  # E6
                self._port.mark(self, partition)

    def _open(self, opening: Opening) -> None:
        self._port.open(self, opening)

    def _come_for_acks(self) -> None:
        self._port.acks(self)

    def opened(self, opening: Opening) -> None:
        """See ``KeptWindow``."""
        super().opened(opening)
        if self._parts or self._is_behind:
            self._go_on()

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """See ``KeptWindow``."""
        super().acknowledge(packet_ids)
        if self._parts or self._is_behind:
            self.fill_window()

    def complete(self, packet_ids: Sequence[int]) -> None:
        """See ``KeptWindow``."""
        super().complete(packet_ids)
        if self._parts or self._is_behind:
            self.fill_window()

    # -- the lease, and the end ------------------------------------------------------------------

    def stall(self) -> None:
        """See ``BusSession``: pages that are on their way come too late."""
        super().stall()
        for part in self._parts.values():
            part.ask = None

    def go_on(self) -> None:
        """See ``BusSession``."""
        super().go_on()
        if self.link is not None and self.is_up and not self.is_stalled:
            self._send_opened()
            self.fill_window()

    def end(self) -> None:
        """Its connection has gone: only acks that are not appended stay."""
        super().end()
        self._parts = {}
        self._buffered = self._buffered_size = 0
