"""What the client may have of what was sent before it connected, until the rows say more (E5, E9).

A position is one number here, offset x partitions + partition.
"""

from collections import deque

from monstermq_shared.sessions.distributed.session_state import SessionState


class Resumption:
    """Deliveries of connections before this one that may be unfinished.

    Attributes:
        waiting: Position -> packet id of each QoS 2 delivery whose row is not sent again yet.
        unsent: These packet ids.

    Args:
        state: The session as of the claim.
        partitions: Of the log of messages.
    """

    __slots__ = ("_order", "_partitions", "_rows", "_sent", "_unsure", "unsent", "waiting")

    def __init__(self, state: SessionState, partitions: int) -> None:
        self.waiting: dict[int, int] = {}
        for packet_id, (partition, offset) in state.in_flight.items():
            # Facts that contradict each other are no reason to fail: one id for a position.
            if partition is not None and offset is not None and partition < partitions:
                self.waiting.setdefault(offset * partitions + partition, packet_id)
        self.unsent = set(self.waiting.values())
        self._partitions = partitions
        # Of each partition, the positions that no page has come to, in order.
        self._order: dict[int, deque[int]] = {}
        for at in sorted(self.waiting):
            self._order.setdefault(at % partitions, deque()).append(at)
        # Positions of QoS 1 that the client may have, and of all of these those whose row was read.
        self._sent = {
            offset * partitions + partition
            for partition, offset in state.sent or ()
            if partition < partitions
        }
        self._rows: set[int] = set()
        # Where every row that is read may have been sent: the end before did not say which.
        self._unsure = set(range(partitions)) if state.sent is None else set()

    def __bool__(self) -> bool:
        """Whether anything of it is still to come."""
        return bool(self.waiting or self._sent or self._unsure)

    def row_read(self, at: int) -> list[int]:
        """A row was read, and will be sent.

        Returns:
            Packet ids whose position would have come before it: see ``rows_end``. So their PUBREL
            goes before what follows them [MQTT-4.6.0-4].
        """
        if at % self._partitions in self._unsure and at not in self.waiting:
            self._sent.add(at)
        if at in self.waiting or at in self._sent:
            self._rows.add(at)
        order = self._order.get(at % self._partitions)
        gone: list[int] = []
        while order and order[0] <= at:
            passed = order.popleft()
            if passed in self.waiting and passed not in self._rows:
                gone.append(self.waiting.pop(passed))
        self.unsent.difference_update(gone)
        return gone

    def is_due(self, partition: int) -> bool:
        """Whether rows of a partition are to be read yet that ids wait for."""
        return bool(self._order.get(partition))

    def rows_end(self, partition: int) -> list[int]:
        """A partition has no more rows.

        Returns:
            Packet ids whose position has none: it was acknowledged, finished, dropped, or has
            expired.
        """
        partitions, rows = self._partitions, self._rows
        self._order.pop(partition, None)
        gone = [at for at in self.waiting if at % partitions == partition and at not in rows]
        packet_ids = [self.waiting.pop(at) for at in gone]
        self.unsent.difference_update(packet_ids)
        self._sent = {at for at in self._sent if at % partitions != partition or at in rows}
        self._unsure.discard(partition)
        return packet_ids

    def take(self, at: int) -> tuple[int, bool]:
        """Something is about to be sent.

        Returns:
            The packet id that the client may know it by, 0 if there is none; and whether it may
            have been sent at QoS 1.
        """
        self._rows.discard(at)
        packet_id = self.waiting.pop(at, 0)
        self.unsent.discard(packet_id)
        was_sent = at in self._sent
        self._sent.discard(at)
        return packet_id, was_sent

    def left(self) -> set[int] | None:
        """Return the positions of QoS 1 that the client may still have; None: not all known."""
        return None if self._unsure else self._sent
