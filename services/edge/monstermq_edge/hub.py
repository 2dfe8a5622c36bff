"""What the network connections of one process share: the loop turn, the clock, the time wheel.

Whatever happens in a turn of the event loop is finished at its end, once: facts are handed to the
database, and each connection that has something to say writes it in one piece.

While turns bring more to read, writing waits a little: a burst is read, then delivered, and only
then acknowledged. Doing the same thing again is cheaper than taking turns at several, and writing
is most of what a message costs: else the last one would be delivered after nearly all others had
been acknowledged.
"""

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from monstermq_edge.faults import Faults
from monstermq_edge.mqtt.outbox import Outbox
from monstermq_shared.clock import Clock

if TYPE_CHECKING:
    from monstermq_edge.transport.stream import StreamProtocol

TICK_S = 0.25
"""How fine the wheel is: a silent client is noticed at most this long after its deadline."""

DELIVERY_PATIENCE_S = 0.0002
"""How long deliveries wait for a turn in which nothing is read, at most."""

ANSWER_PATIENCE_S = 0.0005
"""How long acknowledgements wait for one."""

LINGER_S = 5.0
"""How long a closed connection may take to accept what it was still sent."""

WATCH_MAX_S = 60.0
"""The wheel looks no further ahead, and so keeps what has gone no longer."""

_WATCH_TICKS_MAX = int(WATCH_MAX_S / TICK_S)


# Plain numbers, since an enumeration's members are slow to read for every run.
ASLEEP = 0
"""There is nothing to do for a connection."""

AWAKE_LATER = 1
"""It has acknowledgements to send, which may wait."""

AWAKE = 2
"""It is written to, held, resumed or closed once the burst has been read."""


class Hub:
    """The turn's end, and the wheel that finds silent connections.

    Attributes:
        clock: Where the time comes from.
        faults: Where bugs are noted that end one connection.
        protocols: All open network connections.
        reading: Something has come from a peer in this turn.
        read_at: When the first of it came, in monotonic seconds.
        read_wall_us: The same in microseconds UTC.

    Args:
        loop: The event loop of this process.
        clock: See above.
        end_of_turn: Called once per turn before the outboxes are written.
        connections_max: More than these are refused.
        faults: See above.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        end_of_turn: Callable[[], None],
        connections_max: int,
        faults: Faults,
    ) -> None:
        self.clock = clock
        self.faults = faults
        self.protocols: set[StreamProtocol] = set()
        self._loop = loop
        self._end_of_turn = end_of_turn
        self._connections_max = connections_max
        self._urgent: list[StreamProtocol] = []
        self._patient: list[StreamProtocol] = []
        self._urgent_until = 0.0
        self._patient_until = 0.0
        self.reading = False
        self.read_at = 0.0
        self.read_wall_us = 0
        self._scheduled = False
        self._emptied: asyncio.Event | None = None
        self._wheel: dict[int, list[StreamProtocol]] = {}
        self._wheel_at = int(clock.monotonic() / TICK_S)

    def is_full(self) -> bool:
        """Whether no further connection is taken."""
        return len(self.protocols) >= self._connections_max

    def leave(self, protocol: "StreamProtocol") -> None:
        """A network connection is gone."""
        self.protocols.discard(protocol)
        if not self.protocols and self._emptied is not None:
            self._emptied.set()

    async def emptied(self) -> None:
        """Return when no connection is left."""
        self._emptied = asyncio.Event()
        if self.protocols:
            await self._emptied.wait()

    # -- the turn --------------------------------------------------------------------------------

    def touch(self) -> None:
        """Something happened: finish it at the end of this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._finish_turn)

    def begin_reading(self) -> None:
        """Something came from a peer, the first thing in this turn; more may be waiting."""
        self.reading = True
        self.read_at = self.clock.monotonic()
        self.read_wall_us = self.clock.wall_us()
        self.touch()

    def wake(self, connection: Outbox) -> None:
        """A connection has something to send, or is to be held, resumed or closed."""
        protocol: StreamProtocol | None = connection.driver  # type: ignore[assignment]  # set by us
        if protocol is not None and protocol.awake != AWAKE:
            protocol.awake = AWAKE
            if not self._urgent:
                self._urgent_until = self.clock.monotonic() + DELIVERY_PATIENCE_S
            self._urgent.append(protocol)
            self.touch()

    def wake_later(self, connection: Outbox) -> None:
        """A connection has acknowledgements to send."""
        protocol: StreamProtocol | None = connection.driver  # type: ignore[assignment]  # set by us
        if protocol is not None and protocol.awake == ASLEEP:
            protocol.awake = AWAKE_LATER
            if not self._patient:
                self._patient_until = self.clock.monotonic() + ANSWER_PATIENCE_S
            self._patient.append(protocol)
            self.touch()

    def _finish_turn(self) -> None:
        self._scheduled = False
        try:
            self._end_of_turn()
        finally:
            if self._urgent or self._patient:
                self._write()
            # What is read before the next end of a turn sets it again.
            self.reading = False

    def _write(self) -> None:
        """Write all, or while there is more to read only what has waited long enough."""
        now = self.clock.monotonic() if self.reading else math.inf
        if now >= self._urgent_until:
            urgent, self._urgent = self._urgent, []
            _flush(urgent)
        if now >= self._patient_until:
            patient, self._patient = self._patient, []
            _flush(patient)
        if self._urgent or self._patient:
            self.touch()

    # -- the wheel -------------------------------------------------------------------------------

    def watch(self, protocol: "StreamProtocol", deadline: float) -> int:
        """Look at a connection once its deadline has passed, or ``WATCH_MAX_S`` before.

        Returns:
            The wheel's tick for that.
        """
        last = self._wheel_at + _WATCH_TICKS_MAX
        tick = last if deadline >= last * TICK_S else math.ceil(deadline / TICK_S)
        tick = max(tick, self._wheel_at + 1)
        self._wheel.setdefault(tick, []).append(protocol)
        return tick

    def tick(self) -> None:
        """Visit the connections whose tick has come. Call it every ``TICK_S``."""
        now = self.clock.monotonic()
        while self._wheel_at < int(now / TICK_S):
            self._wheel_at += 1
            for protocol in self._wheel.pop(self._wheel_at, ()):
                try:
                    protocol.check_deadline(self._wheel_at, now)
                except Exception as exc:  # noqa: BLE001 - a bug in one must not spare the others
                    protocol.fail(exc)


def _flush(protocols: "list[StreamProtocol]") -> None:
    for protocol in protocols:
        if protocol.awake != ASLEEP:
            protocol.awake = ASLEEP
            try:
                protocol.flush()
            except Exception as exc:  # noqa: BLE001 - a bug in one must not mute the others
                protocol.fail(exc)
