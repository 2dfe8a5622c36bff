"""What the network connections of one process share: the loop turn, the clock, the time wheel.

Whatever happens in a turn of the event loop is finished at its end, once: facts are handed to the
database, and each connection that has something to say writes it in one piece.

Who has only acknowledgements to say waits as long as turns bring more to read, and for
``PATIENCE_S`` at most. Writing is most of what a message costs, so in a burst of messages to many
subscribers the last one would else be delivered after nearly all had been acknowledged.
"""

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from monstermq_edge.faults import Faults
from monstermq_edge.mqtt.connection import Connection
from monstermq_shared.clock import Clock

if TYPE_CHECKING:
    from monstermq_edge.transport.stream import StreamProtocol

TICK_S = 0.25
"""How fine the wheel is: a silent client is noticed at most this long after its deadline."""

PATIENCE_S = 0.0005
"""How long acknowledgements wait for a turn in which nothing is read, at most."""

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
"""It is written to, held, resumed or closed at the end of this turn."""


class Hub:
    """The turn's end, and the wheel that finds silent connections.

    Attributes:
        clock: Where the time comes from.
        faults: Where bugs are noted that end one connection.
        protocols: All open network connections.

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
        self._patient_until = 0.0
        self._received = False
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

    def received(self) -> None:
        """Something came from a peer, whatever it is: more may be waiting to be read."""
        self._received = True
        if not self._scheduled:
            self.touch()

    def wake(self, connection: Connection) -> None:
        """A connection has something to send, or is to be held, resumed or closed."""
        protocol: StreamProtocol | None = connection.driver  # type: ignore[assignment]  # set by us
        if protocol is not None and protocol.awake != AWAKE:
            protocol.awake = AWAKE
            self._urgent.append(protocol)
            if not self._scheduled:
                self.touch()

    def wake_later(self, connection: Connection) -> None:
        """A connection has acknowledgements to send."""
        protocol: StreamProtocol | None = connection.driver  # type: ignore[assignment]  # set by us
        if protocol is not None and protocol.awake == ASLEEP:
            protocol.awake = AWAKE_LATER
            if not self._patient:
                self._patient_until = self.clock.monotonic() + PATIENCE_S
            self._patient.append(protocol)
            if not self._scheduled:
                self.touch()

    def _finish_turn(self) -> None:
        self._scheduled = False
        try:
            self._end_of_turn()
        finally:
            protocols, self._urgent = self._urgent, []
            if self._patient:
                if self._received and self.clock.monotonic() < self._patient_until:
                    self.touch()
                else:
                    protocols += self._patient
                    self._patient = []
            # What is read before the next end of a turn sets it again.
            self._received = False
            for protocol in protocols:
                if protocol.awake != ASLEEP:
                    protocol.awake = ASLEEP
                    try:
                        protocol.flush()
                    except Exception as exc:  # noqa: BLE001 - a bug in one must not mute the others
                        protocol.fail(exc)

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
