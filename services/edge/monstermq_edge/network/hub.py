"""What the network connections of one process share: the loop turn, and whose turn it is.

Whatever happens in a turn of the event loop is finished at its end, once: facts are handed to the
database, and each connection that has something to say writes it in one piece: first what is
delivered, then what only acknowledges, for which a publisher with a window waits more patiently.

Nobody takes the others' time. A turn has a budget of work. A connection that causes more than its
share waits, with the rest of what it sent, behind all that wait already; one that has waited for
nothing is served at once as long as the turn's budget lasts. Writes come in portions too.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from monstermq_edge.faults import Faults
from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.mqtt.outbox import Outbox
from monstermq_edge.network.wheel import Wheel
from monstermq_shared.budget import Budget
from monstermq_shared.clock import Clock

LINGER_S = 5.0
"""How long a closed connection may take to accept what it was still sent."""

TURN_WORK: Final = 16_000
"""Units of work (``budget``) that all connections together may cause in one turn."""

WRITES_MAX = 256
"""Connections that are written to at once: about two milliseconds of system calls."""

# Plain numbers, because an enumeration's members are slow to read for every run.
ASLEEP: Final = 0
"""There is nothing to do for a connection."""

AWAKE_LATER: Final = 1
"""It has acknowledgements to send, behind what others are delivered."""

AWAKE: Final = 2
"""It is written to, held, resumed or closed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class NetworkConnection(asyncio.Protocol):
    """What the hub serves and writes to, see ``stream.StreamProtocol``; the wheel looks at it.

    A base class, because a call through a protocol is slow when this is compiled.

    Attributes:
        connection: The protocol side; None after its end.
        awake: One of the numbers above.
    """

    __slots__ = ("awake", "connection")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.awake = ASLEEP

    def serve(self, now: float, wall_ms: int) -> None:
        """Go on with what has come."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write, hold or resume, close."""
        raise NotImplementedError

    def shut_down(self) -> None:
        """The broker stops."""
        raise NotImplementedError

    def check_deadline(self, tick: int, now: float) -> None:
        """See ``wheel.Watched``."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """See ``wheel.Watched``."""
        raise NotImplementedError


class TurnEnd(Protocol):
    """What the hub asks of the engine's host."""

    def end_turn(self) -> bool:
        """Hand facts over, and do a piece of long work; return whether there is more of that."""
        ...


class Hub:
    """The turn's end, the order in which connections are served, and the wheel.

    Attributes:
        clock: Where the time comes from.
        faults: Where bugs are noted that end one connection.
        budget: What is left for this turn.
        wheel: Finds silent connections.
        protocols: All open network connections.
        quiet: The broker is about to stop: nothing more is read from anybody.
        reading: Something has come from a peer in this turn.
        read_at: When the first of it came, in monotonic seconds.
        read_wall_ms: The same in milliseconds UTC.

    Args:
        loop: The event loop of this process.
        clock: See above.
        turn_end: Called once per turn before the outboxes are written.
        connections_max: More than these are refused.
        faults: See above.
        budget: See above; the hub refills it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        turn_end: TurnEnd,
        connections_max: int,
        faults: Faults,
        budget: Budget,
    ) -> None:
        self.clock = clock
        self.faults = faults
        self.budget = budget
        self.wheel = Wheel(clock)
        self.protocols: set[NetworkConnection] = set()
        self._loop = loop
        self._turn_end = turn_end
        self._connections_max = connections_max
        # Connections that have more to say than their share of a turn, each of them once.
        self._waiting: deque[NetworkConnection] = deque()
        self._worked_off = asyncio.Event()
        self._worked_off.set()
        self._urgent: list[NetworkConnection] = []
        self._patient: list[NetworkConnection] = []
        # Connections that earlier turns had no time to write to. All three have each of them once.
        self._late: deque[NetworkConnection] = deque()
        self.quiet = False
        self.reading = False
        self.read_at = 0.0
        self.read_wall_ms = 0
        self._scheduled = False
        self._emptied: asyncio.Event | None = None
        budget.left = TURN_WORK

    def is_full(self) -> bool:
        """Whether no further connection is taken."""
        return len(self.protocols) >= self._connections_max

    def leave(self, protocol: NetworkConnection) -> None:
        """A network connection is gone."""
        self.protocols.discard(protocol)
        if not self.protocols and self._emptied is not None:
            self._emptied.set()

    async def emptied(self) -> None:
        """Return when no connection is left."""
        self._emptied = asyncio.Event()
        if self.protocols:
            await self._emptied.wait()

    async def quiesce(self) -> None:
        """Read nothing more; return when what was read is handled, except from held connections."""
        self.quiet = True
        for protocol in self.protocols:
            if protocol.connection is not None:
                self.wake(protocol.connection)
        await self._worked_off.wait()

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
        self.read_wall_ms = self.clock.wall_ms()
        self.touch()

    def wait_in_line(self, protocol: NetworkConnection) -> None:
        """Serve a connection when those before it have had their share."""
        self._waiting.append(protocol)
        self._worked_off.clear()
        self.touch()

    def wake(self, connection: Outbox) -> None:
        """A connection has something to send, or is to be held, resumed or closed."""
        protocol: NetworkConnection | None = connection.driver  # type: ignore[assignment]  # set by us
        if protocol is not None and protocol.awake != AWAKE:
            protocol.awake = AWAKE
            self._urgent.append(protocol)
            self.touch()

    def wake_later(self, connection: Outbox) -> None:
        """A connection has acknowledgements to send."""
        protocol: NetworkConnection | None = connection.driver  # type: ignore[assignment]  # set by us
        if protocol is not None and protocol.awake == ASLEEP:
            protocol.awake = AWAKE_LATER
            self._patient.append(protocol)
            self.touch()

    def _finish_turn(self) -> None:
        self._scheduled = False
        try:
            if self._waiting:
                self._serve_waiting()
            if self._turn_end.end_turn():
                self.touch()
        finally:
            # A message that goes out in pieces is written when all of it is out: its answers could
            # not be read before.
            busy = self.budget.busy
            if not busy and (self._urgent or self._patient or self._late):
                self._write()
            # What is read before the next end of a turn sets it again.
            self.reading = False
            if not busy:
                self.budget.left = TURN_WORK

    def _serve_waiting(self) -> None:
        """Serve those that wait, at least for half a turn's work; each once."""
        budget = self.budget
        if not budget.busy:
            budget.left = max(budget.left, TURN_WORK // 2)
            now, wall_ms = self.clock.monotonic(), self.clock.wall_ms()
            for _ in range(len(self._waiting)):
                self._waiting.popleft().serve(now, wall_ms)
                if budget.left <= 0:
                    break
        if self._waiting:
            self.touch()
        else:
            self._worked_off.set()

    def _write(self) -> None:
        """Write what was said in this turn, then what earlier turns had no time for."""
        if self._urgent:
            urgent, self._urgent = self._urgent, []
            self._flush(urgent)
        if self._patient:
            patient, self._patient = self._patient, []
            self._flush(patient)
        if self._late:
            self._flush([self._late.popleft() for _ in range(min(len(self._late), WRITES_MAX))])
        if self._urgent or self._late:
            self.touch()

    def _flush(self, protocols: list[NetworkConnection]) -> None:
        """Write to as many as there is time for; the others are late."""
        if len(protocols) > WRITES_MAX:
            self._late.extend(protocols[WRITES_MAX:])
            del protocols[WRITES_MAX:]
        for protocol in protocols:
            if protocol.awake != ASLEEP:
                protocol.awake = ASLEEP
                try:
                    protocol.flush()
                except Exception as exc:  # noqa: BLE001 - a bug in one must not mute the others
                    protocol.fail(exc)
