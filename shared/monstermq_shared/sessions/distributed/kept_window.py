"""What a kept session sends and what its client answers: packet ids, positions, acknowledgements.

What QoS 1 costs beyond a clean session is a number for each message that is in flight, and one for
each that was acknowledged in this turn (E9).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.kept_acks import Acks, acks_by_partition
from monstermq_shared.sessions.distributed.kept_line import Line, Opening
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
        "_line",
        "_partitions",
        "_receipts",
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
        # Packet ids of QoS 2.
        self._exactly_once: set[int] = set()
        self._line = Line()
        # Positions that were acknowledged, or received with a packet id, and are not appended; and
        # the ids that wait for that.
        self._acked: list[int] = []
        self._receipts: list[tuple[int, int]] = []
        self._acking: set[int] = set()

    def _open(self, opening: Opening) -> None:
        """See to it that the log knows of packet ids; ``opened`` follows."""
        raise NotImplementedError

    def _come_for_acks(self) -> None:
        """See to it that ``take_acks`` is called at the end of the turn."""
        raise NotImplementedError

    def _resume(self, state: SessionState) -> None:
        """Take over what may be in flight as of the claim (E3)."""
        resumption = Resumption(state, self._partitions)
        self.in_flight.update(dict.fromkeys(state.in_flight, NO_POSITION))
        self.in_flight.update((packet_id, at) for at, packet_id in resumption.waiting.items())
        self._exactly_once.update(state.in_flight)
        self._resumption = resumption or None
        self._has_begun = True

    # -- sending ---------------------------------------------------------------------------------

    @property
    def _is_sending(self) -> bool:
        """Whether something waits to be sent."""
        return self.pending_count > 0 or bool(self._line.waiting)

    def _room(self) -> int:
        """Ids that wait for their row take no room, or nothing would ever come (E3)."""
        room = self.window - len(self.in_flight)
        if self._resumption is not None:
            room += len(self._resumption.waiting)
        return room

    def _send(self, run: MessageRun, first: int, count: int, qos: int) -> None:
        dup = False
        if self._resumption is not None and run.count == 1:
            packet_id, dup = self._resumption.take(self._position(run, 0))
            self._resumption = self._resumption or None
            if packet_id:
                # E5: the log has this id since it was sent first.
                self._put(Opening(run, 0, (packet_id,), 2, dup=True))
                return
        packet_ids = self._begin(run, first, count)
        line = self._line
        if qos == 1:
            if line.waiting:
                self._put(Opening(run, first, packet_ids, 1, dup=dup))
            else:
                assert self.link is not None
                self.link.deliver(run, first, packet_ids, 1, dup)
            return
        self._exactly_once.update(packet_ids)
        opening = Opening(run, first, packet_ids, 2, dup=False)
        line.put(opening)
        self._open(opening)

    def _put(self, opening: Opening) -> None:
        """Send what may be sent, behind what waits."""
        assert self.link is not None
        self._line.put(opening)
        self._line.send(self.link)

    def opened(self, opening: Opening) -> None:
        """The facts of ``opening`` are read back, and count (R4)."""
        opening.is_open = True
        if self.link is None or not self.is_up or self.is_stalled:
            return
        self._line.send(self.link)

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
        if self._exactly_once or self._line.packet_ids:
            packet_ids = [
                packet_id
                for packet_id in packet_ids
                if packet_id not in self._exactly_once and packet_id not in self._line.packet_ids
            ]
        pop = self.in_flight.pop
        acked = [at for packet_id in packet_ids if (at := pop(packet_id, NO_POSITION)) >= 0]
        if acked:
            self._announce_acks()
            self._acked += acked

    def receive(self, packet_ids: Sequence[int]) -> None:
        """PUBREC: an ack fact, and PUBREL once the log has it (E9)."""
        at_once: list[int] = []
        for packet_id in packet_ids:
            at = self.in_flight.get(packet_id) if packet_id in self._exactly_once else None
            if at is None or packet_id in (self.received or ()):
                at_once.append(packet_id)
            elif packet_id in self._acking or not self._was_sent(packet_id):
                continue
            elif at == NO_POSITION:
                at_once.append(packet_id)
            else:
                self._announce_acks()
                self._acking.add(packet_id)
                self._receipts.append((at, packet_id))
        self._pubrel(at_once)

    def _was_sent(self, packet_id: int) -> bool:
        """Whether the client can have it by this connection."""
        if packet_id in self._line.packet_ids:
            return False
        return self._resumption is None or packet_id not in self._resumption.unsent

    def _announce_acks(self) -> None:
        """The engine has to come for acks, if it does not know that yet."""
        if not (self._acked or self._receipts):
            self._come_for_acks()

    def take_acks(self) -> Acks:
        """Return what the client has acknowledged since; ``acked`` with the packet ids follows."""
        acks = acks_by_partition(self._acked, self._receipts, self._partitions)
        self._acked, self._receipts = [], []
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
        self.received.update(self._exactly_once.intersection(packet_ids))
        self.link.answer(Answer.PUBREL, packet_ids)

    def complete(self, packet_ids: Sequence[int]) -> None:
        """PUBCOMP: the id is free; nothing is written (E9)."""
        super().complete(packet_ids)
        self._exactly_once.difference_update(
            [packet_id for packet_id in packet_ids if packet_id not in self.in_flight]
        )

    # -- it ends ---------------------------------------------------------------------------------

    def unfinished(self) -> tuple[tuple[int, ...] | None, tuple[tuple[int, int], ...] | None]:
        """Return what its detach says (E9, E11).

        Returns:
            Packet ids of QoS 2 deliveries that are not finished, and positions of QoS 1 deliveries
            that the client may have and has not acknowledged; None for what is not all known.
        """
        if not self._has_begun:
            return None, None
        exactly_once, partitions = self._exactly_once, self._partitions
        before = self._resumption.left() if self._resumption is not None else set()
        if before is None:
            return tuple(exactly_once), None
        sent = before.union(
            at
            for packet_id, at in self.in_flight.items()
            if packet_id not in exactly_once and at != NO_POSITION
        )
        positions = tuple((at % partitions, at // partitions) for at in sorted(sent))
        return tuple(exactly_once), positions

    def end(self) -> None:
        """Its connection has gone: only acks that are not appended stay."""
        super().end()
        self.is_up = False
        self._line.clear()
        self._resumption = None
