"""What a kept session sends and what its client answers: packet ids, positions, acknowledgements.

What QoS 1 costs beyond a clean session is a number for each message that is in flight, and one for
each that was acknowledged in this turn (E9).
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.kept_acks import Acking, Acks, acks_by_partition
from monstermq_shared.sessions.distributed.kept_line import ExactlyOnce, Opening
from monstermq_shared.sessions.distributed.resumption import Resumption
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.window import PACKET_ID_MAX

NO_POSITION = -1
"""What is in flight for a retained message: it stands in no queue."""


class KeptWindow(BusSession):
    """The window of a kept session, whose deliveries the log knows of.

    A position is one number here, offset x partitions + partition.

    Attributes:
        is_up: CONNACK is sent: the client may be sent messages.
    """

    __slots__ = (
        "_acked",
        "_acking",
        "_exactly_once",
        "_has_begun",
        "_partitions",
        "_resumption",
        "is_up",
    )

    def __init__(
        self,
        client_id: str,
        window: int,
        partition: int,
        refused: Callable[[Any], None],
        partitions: int,
    ) -> None:
        """Begin one.

        Args:
            client_id: The client.
            window: How many messages may be unacknowledged.
            partition: See ``BusSession``.
            refused: See ``BusSession``.
            partitions: Of the log of messages.
        """
        super().__init__(client_id, window, partition, refused)
        self.window = 0  # until it is up
        self.is_up = False
        self._partitions = partitions
        self._has_begun = False
        self._resumption: Resumption | None = None
        self._exactly_once: ExactlyOnce | None = None
        # Positions that were acknowledged at QoS 1 and are not appended.
        self._acked: list[int] = []
        # What is on its way to the log; made once it is needed.
        self._acking: set[Acking] | None = None

    def _open(self, opening: Opening) -> None:
        """See to it that the log knows of packet ids; ``opened`` follows."""
        raise NotImplementedError

    def _come_for_acks(self) -> None:
        """See to it that ``take_acks`` is called at the end of the turn."""
        raise NotImplementedError

    def _resume(self, state: SessionState) -> None:
        """Take over what may be in flight as of the claim (E3)."""
        resumption = Resumption(state, self._partitions)
        if state.in_flight:
            self.in_flight.update(dict.fromkeys(state.in_flight, NO_POSITION))
            self.in_flight.update((packet_id, at) for at, packet_id in resumption.waiting.items())
            self._exactly_once = ExactlyOnce()
            self._exactly_once.packet_ids.update(state.in_flight)
        self._resumption = resumption or None
        self._has_begun = True

    # -- sending ---------------------------------------------------------------------------------

    @property
    def _is_sending(self) -> bool:
        """Whether something waits to be sent."""
        if self.pending_count:
            return True
        return self._exactly_once is not None and bool(self._exactly_once.line.waiting)

    def _room(self) -> int:
        """Ids that wait for their row take no room, or nothing would ever come (E3).

        They are taken all the same, and there may be no other: the log knows of every id of a
        connection that did not say which deliveries were unfinished (E9).
        """
        return min(self._window_room(), PACKET_ID_MAX - len(self.in_flight))

    def _window_room(self) -> int:
        room = self.window - len(self.in_flight)
        if self._resumption is not None:
            room += len(self._resumption.waiting)
        return room

    @property
    def _has_no_id(self) -> bool:
        """Whether every packet id is taken."""
        return len(self.in_flight) >= PACKET_ID_MAX

    def _frees_ids(self, partition: int) -> bool:
        """Whether every id is taken, and rows of a partition are to be read that some wait for."""
        resumption = self._resumption
        return resumption is not None and self._has_no_id and resumption.is_due(partition)

    def fill_window(self) -> None:
        """See ``Window``."""
        super().fill_window()
        if self.pending and self._has_no_id:
            self._send_known()

    def _send_known(self) -> None:
        """Send what has an id already, though what waits before it has none, and there is none.

        Nothing of its own partition is overtaken.
        """
        pending, self.pending = self.pending, deque()
        assert pending is not None
        passed: set[int] = set()
        for segment in pending:
            run, first, qos = segment
            is_next = run.partition not in passed and self._window_room() > 0
            if is_next and self._has_id(run):
                self.pending_count -= 1
                self.pending_size -= run.size
                self._send(run, first, 1, qos)
                continue
            self.pending.append(segment)
            if not run.retained_copy:
                passed.add(run.partition)

    def _has_id(self, run: MessageRun) -> bool:
        """Whether a row goes out under the id that it had before (E5)."""
        resumption = self._resumption
        if resumption is None or run.count != 1:
            return False
        return self._position(run, 0) in resumption.waiting

    def _send(self, run: MessageRun, first: int, count: int, qos: int) -> None:
        dup = False
        if self._resumption is not None and run.count == 1:
            packet_id, dup = self._resumption.take(self._position(run, 0))
            self._resumption = self._resumption or None
            if packet_id:
                # E5: the log has this id since it was sent first.
                assert self._exactly_once is not None
                self._put(self._exactly_once, Opening(run, 0, (packet_id,), 2, dup=True))
                return
        packet_ids = self._begin(run, first, count)
        exactly_once = self._exactly_once
        if qos == 1:
            if exactly_once is not None and exactly_once.line.waiting:
                self._put(exactly_once, Opening(run, first, packet_ids, 1, dup=dup))
            else:
                assert self.link is not None
                self.link.deliver(run, first, packet_ids, 1, dup)
            return
        if exactly_once is None:
            exactly_once = self._exactly_once = ExactlyOnce()
        exactly_once.packet_ids.update(packet_ids)
        opening = Opening(run, first, packet_ids, 2, dup=False)
        exactly_once.line.put(opening)
        self._open(opening)

    def _put(self, exactly_once: ExactlyOnce, opening: Opening) -> None:
        """Send what may be sent, behind what waits."""
        assert self.link is not None
        exactly_once.line.put(opening)
        exactly_once.line.send(self.link)

    def opened(self, opening: Opening) -> None:
        """The facts of ``opening`` are read back, and count (R4)."""
        opening.is_open = True
        self._send_opened()

    def _send_opened(self) -> None:
        """Send what is open by now, unless nothing may be delivered (E13)."""
        exactly_once, link = self._exactly_once, self.link
        if exactly_once is not None and link is not None and self.is_up and not self.is_stalled:
            exactly_once.line.send(link)

    def _position(self, run: MessageRun, first: int) -> int:
        if run.retained_copy:
            return NO_POSITION
        return (run.first_offset + first) * self._partitions + run.partition

    def _begin(self, run: MessageRun, first: int, count: int) -> Sequence[int]:
        """See ``Window``."""
        in_flight, step = self.in_flight, self._partitions
        at = (run.first_offset + first) * step + run.partition
        if run.retained_copy:
            at, step = NO_POSITION, 0
        packet_id = self.last_id + 1
        if count == 1 and packet_id <= PACKET_ID_MAX and packet_id not in in_flight:
            self.last_id = packet_id
            in_flight[packet_id] = at
            return (packet_id,)
        packet_ids = self._free_ids(count)
        positions: Iterable[int] = range(at, at + count * step, step) if step else repeat(at, count)
        in_flight.update(zip(packet_ids, positions, strict=True))
        return packet_ids

    # -- what the client answers -----------------------------------------------------------------

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK: an ack fact (E9)."""
        if self._exactly_once is not None:
            packet_ids = self._exactly_once.others(packet_ids)
        pop = self.in_flight.pop
        acked = [at for packet_id in packet_ids if (at := pop(packet_id, NO_POSITION)) >= 0]
        if acked:
            self._announce_acks()
            self._acked += acked

    def receive(self, packet_ids: Sequence[int]) -> None:
        """PUBREC: an ack fact, and PUBREL once the log has it (E9)."""
        exactly_once = self._exactly_once
        if exactly_once is None:
            self._pubrel(packet_ids)
            return
        at_once: list[int] = []
        for packet_id in packet_ids:
            at = self.in_flight[packet_id] if packet_id in exactly_once.packet_ids else None
            if at is None or packet_id in (self.received or ()):
                at_once.append(packet_id)
            elif packet_id in exactly_once.acking or not self._was_sent(exactly_once, packet_id):
                continue
            elif at == NO_POSITION:
                at_once.append(packet_id)
            else:
                self._announce_acks()
                exactly_once.acking.add(packet_id)
                exactly_once.receipts.append((at, packet_id))
        self._pubrel(at_once)

    def _was_sent(self, exactly_once: ExactlyOnce, packet_id: int) -> bool:
        """Whether the client can have it by this connection."""
        if packet_id in exactly_once.line.packet_ids:
            return False
        return self._resumption is None or packet_id not in self._resumption.unsent

    def _announce_acks(self) -> None:
        """The engine has to come for acks, if it does not know that yet."""
        if not self._acked and not (self._exactly_once and self._exactly_once.receipts):
            self._come_for_acks()

    def take_acks(self) -> Acks:
        """Return what the client has acknowledged since; ``acked`` with the packet ids follows."""
        acked, self._acked = self._acked, []
        receipts: list[tuple[int, int]] = []
        if self._exactly_once is not None:
            receipts, self._exactly_once.receipts = self._exactly_once.receipts, []
        return acks_by_partition(acked, receipts, self._partitions)

    def acking(self, acks: Acking) -> None:
        """Acks are on their way to the log."""
        if self._acking is None:
            self._acking = set()
        self._acking.add(acks)

    def appended(self, acks: Acking) -> None:
        """The log has acks that were on their way."""
        if self._acking is not None:
            self._acking.discard(acks)

    def acked(self, packet_ids: Sequence[int]) -> None:
        """The log has the acks of these: PUBREL (E9)."""
        if self._exactly_once is not None:
            acking = self._exactly_once.acking
            known = [packet_id for packet_id in packet_ids if packet_id in acking]
            acking.difference_update(known)
            self._pubrel(known)

    def _pubrel(self, packet_ids: Sequence[int]) -> None:
        """Send PUBRELs, also for ids that are not known: the client answers with PUBCOMP."""
        if not packet_ids or self.link is None:
            return
        if self._exactly_once is not None:
            if self.received is None:
                self.received = set()
            self.received.update(self._exactly_once.packet_ids.intersection(packet_ids))
        self.link.answer(Answer.PUBREL, packet_ids)

    def complete(self, packet_ids: Sequence[int]) -> None:
        """PUBCOMP: the id is free; nothing is written (E9)."""
        super().complete(packet_ids)
        if self._exactly_once is not None:
            in_flight = self.in_flight
            freed = [packet_id for packet_id in packet_ids if packet_id not in in_flight]
            self._exactly_once.packet_ids.difference_update(freed)

    # -- it ends ---------------------------------------------------------------------------------

    def unfinished(self) -> tuple[tuple[int, ...] | None, tuple[tuple[int, int], ...] | None]:
        """Return what its detach says (E9, E11).

        Returns:
            Packet ids of QoS 2 deliveries that are not finished, and positions of QoS 1 deliveries
            that the client may have and whose acks are not in the log: their rows may be sent
            again. None for what is not all known, or is too much to say.
        """
        if not self._has_begun:
            return None, None
        exactly_once: set[int] = self._exactly_once.packet_ids if self._exactly_once else set()
        partitions = self._partitions
        before = self._resumption.left() if self._resumption is not None else set()
        if before is None:
            return tuple(exactly_once), None
        sent = before.union(
            self._acked,
            (
                at
                for packet_id, at in self.in_flight.items()
                if packet_id not in exactly_once and at != NO_POSITION
            ),
            (
                offset * partitions + acks.partition
                for acks in self._acking or ()
                for offset in acks.offsets
            ),
        )
        if len(sent) > PACKET_ID_MAX:  # a partition takes nothing
            return tuple(exactly_once), None
        positions = tuple((at % partitions, at // partitions) for at in sorted(sent))
        return tuple(exactly_once), positions

    def end(self) -> None:
        """Its connection has gone: only acks that are not appended stay."""
        super().end()
        self.is_up = False
        if self._exactly_once is not None:
            self._exactly_once.line.clear()
        self._resumption = None
