"""Packet ids, the window of what is in flight, and what waits for it.

Every session engine needs them; they know neither a log nor a database.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Link

PACKET_ID_MAX: Final = 65_535

Segment = tuple[MessageRun, int, int]
"""A run, the index of its first message that has not been sent, and the QoS to send it with."""


class Window:
    """One client's outbound QoS 1 and 2 messages.

    Attributes:
        link: The connection, or None while there is none.
        window: How many messages may be unacknowledged.
        last_id: The packet id that was given out last.
        in_flight: Packet id -> offset of what was sent and not yet acknowledged in full.
        received: Those of ``in_flight`` whose PUBREC has come; None until there is one.
        pending: Segments that wait for the window; None until there is one.
        pending_count: Messages in ``pending``.
        pending_size: Bytes of the runs in ``pending``.
    """

    __slots__ = (
        "in_flight",
        "last_id",
        "link",
        "pending",
        "pending_count",
        "pending_size",
        "received",
        "window",
    )

    def __init__(self, window: int) -> None:
        self.window = window
        self.link: Link | None = None
        self.last_id = 0
        self.in_flight: dict[int, int] = {}
        self.received: set[int] | None = None
        self.pending: deque[Segment] | None = None
        self.pending_count = 0
        self.pending_size = 0

    # -- sending ---------------------------------------------------------------------------------

    def offer(self, run: MessageRun, qos: int) -> None:
        """Send what the window has room for; let the rest wait. ``qos`` is 1 or 2."""
        count = run.count
        room = self.window - len(self.in_flight)
        if self.pending_count:
            self._wait(run, 0, qos)
        elif room >= count:
            self._send(run, 0, count, qos)
        elif room > 0:
            self._send(run, 0, room, qos)
            self._wait(run, room, qos)
        else:
            self._wait(run, 0, qos)

    def _wait(self, run: MessageRun, first: int, qos: int) -> None:
        if self.pending is None:
            self.pending = deque()
        # Cut the payloads out now: what waits must not pin the read chunk it came in.
        _ = run.payloads
        self.pending.append((run, first, qos))
        self.pending_count += run.count - first
        self.pending_size += run.size

    def _send(self, run: MessageRun, first: int, count: int, qos: int) -> None:
        """Give out packet ids and send."""
        link = self.link
        assert link is not None
        link.deliver(run, first, self._begin(run, first, count), qos, False)

    def _begin(self, run: MessageRun, first: int, count: int) -> Sequence[int]:
        """Give out packet ids and note which messages of the run they stand for."""
        in_flight = self.in_flight
        offset = run.first_offset + first
        packet_id = self.last_id + 1
        if count == 1 and packet_id <= PACKET_ID_MAX and packet_id not in in_flight:
            self.last_id = packet_id
            in_flight[packet_id] = offset
            return (packet_id,)
        packet_ids = self._free_ids(count)
        in_flight.update(zip(packet_ids, range(offset, offset + count), strict=True))
        return packet_ids

    def _free_ids(self, count: int) -> list[int]:
        """Return packet ids that are not in flight [MQTT-2.3.1-4]; the window leaves enough."""
        in_flight = self.in_flight
        assert count <= PACKET_ID_MAX - len(in_flight), "or this would never end"
        last = self.last_id
        packet_ids: list[int] = []
        while len(packet_ids) < count:
            last = last % PACKET_ID_MAX + 1
            if last not in in_flight:
                packet_ids.append(last)
        self.last_id = last
        return packet_ids

    def _room(self) -> int:
        """How many messages that wait may be sent."""
        return self.window - len(self.in_flight)

    def fill_window(self) -> None:
        """Send what waits, as far as the window has room."""
        pending = self.pending
        room = self._room()
        while pending and room > 0:
            run, first, qos = pending[0]
            left = run.count - first
            if left > room:
                pending[0] = (run, first + room, qos)
                self.pending_count -= room
                self._send(run, first, room, qos)
                return
            pending.popleft()
            self.pending_count -= left
            self.pending_size -= run.size
            self._send(run, first, left, qos)
            room -= left

    # -- what the client answers -----------------------------------------------------------------

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK: the message is the client's now. Ids unknown, or past PUBREC, are ignored."""
        in_flight = self.in_flight
        received = self.received
        for packet_id in packet_ids:
            if packet_id in in_flight and (received is None or packet_id not in received):
                del in_flight[packet_id]

    def complete(self, packet_ids: Sequence[int]) -> None:
        """PUBCOMP: the id may be used again."""
        received = self.received
        if received is None:
            return
        in_flight = self.in_flight
        for packet_id in packet_ids:
            if packet_id in received:
                received.discard(packet_id)
                in_flight.pop(packet_id, None)

    def drop_pending(self) -> int:
        """Forget what waits for the window; return how many messages that were."""
        dropped = self.pending_count
        self.pending = None
        self.pending_count = 0
        self.pending_size = 0
        return dropped
