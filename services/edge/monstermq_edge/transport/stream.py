"""TCP and TLS: an asyncio protocol that drives one connection."""

import asyncio
import math
from typing import cast

from monstermq_edge.hub import ASLEEP, LINGER_S, TICK_S, Hub
from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.mqtt.context import ConnectionContext, Peer
from monstermq_edge.mqtt.phases import Phase
from monstermq_shared.counters import Refusal

NEVER = 1 << 62

_CLOSED: Phase = Phase.CLOSED

FAIR_READ_SIZE = 64 * 1024
"""After a chunk of this size the other connections have their turn.

The event loop reads a socket that fills its buffer up to 32 times in a row, 8 MB in all: long
enough for one client to hold up everybody for seconds, with small packets at least.
"""

_WHERE = "a connection"  # where a bug came up, see ``Faults.note``


class StreamProtocol(asyncio.Protocol):
    """Feeds what the transport reads, and writes what the connection wants to say once per turn.

    Attributes:
        connection: The protocol side.
        awake: See ``hub.ASLEEP`` and what follows it.
    """

    __slots__ = (
        "_context",
        "_hub",
        "_lingering",
        "_paused",
        "_transport",
        "_watched",
        "awake",
        "connection",
    )

    def __init__(self, hub: Hub, context: ConnectionContext) -> None:
        self._hub = hub
        self._context = context
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._lingering = False
        self._watched = NEVER
        self.connection: Connection | None = None
        self.awake = ASLEEP

    # -- what the transport calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; or refuse at once when there are too many connections."""
        self._transport = cast("asyncio.Transport", transport)
        counters = self._context.counters
        counters.sockets_opened += 1
        if self._hub.is_full():
            counters.connections_refused[Refusal.CONNECTIONS_MAX] += 1
            transport.close()
            return
        outbox = self._context.outbox_size_max
        self._transport.set_write_buffer_limits(high=outbox // 2, low=outbox // 8)
        now = self._hub.clock.monotonic()
        self.connection = Connection(self._context, _peer(transport), self, now)
        self._hub.protocols.add(self)
        self._watched = self._hub.watch(self, self.connection.deadline)

    def data_received(self, data: bytes) -> None:
        """Feed a read chunk. Whatever comes up ends this connection and no other."""
        try:
            self._receive(data)
        except Exception as exc:  # noqa: BLE001 - a bug can be any exception, and is noted
            self.fail(exc)

    def _receive(self, data: bytes) -> None:
        connection = self.connection
        if connection is not None:
            hub = self._hub
            if not hub.reading:
                hub.begin_reading()
            connection.receive_data(data, hub.read_at, hub.read_wall_us)
            if len(data) >= FAIR_READ_SIZE:
                self._read_no_more_this_turn(connection)

    def _read_no_more_this_turn(self, connection: Connection) -> None:
        """Pause until the turn's end, when ``flush`` finds that nothing holds the connection."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self._context.wake(connection)

    def eof_received(self) -> bool:
        """The peer has finished sending: so have we, once it has read what waits for it."""
        connection = self.connection
        if connection is not None:
            with self._hub.faults.contained(_WHERE):
                connection.connection_lost(self._hub.clock.wall_us())
                # Now: with nothing to write the transport closes before the turn's end.
                self.flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The network connection is gone, for whatever reason."""
        connection = self.connection
        self._transport = None
        if connection is not None:
            self._hub.leave(self)
            # They refer to each other: let both go now, not at the next full collection.
            connection.driver = None
            self.connection = None
            with self._hub.faults.contained(_WHERE):
                connection.connection_lost(self._hub.clock.wall_us())
            self._hub.touch()

    def pause_writing(self) -> None:
        """The peer does not read fast enough."""
        if self.connection is not None:
            self.connection.congested = True

    def resume_writing(self) -> None:
        """The peer has read what there was."""
        connection = self.connection
        if connection is not None:
            connection.congested = False
            self._context.wake(connection)

    # -- what the hub calls ----------------------------------------------------------------------

    def flush(self) -> None:
        """End of the turn: write, hold or resume, close."""
        connection = self.connection
        transport = self._transport
        if transport is None or connection is None:
            return
        closed = connection.phase is _CLOSED
        if not connection.congested or closed:
            data = connection.data_to_send()
            if data:
                self.write(transport, data)
        if closed:
            self._close(transport)
            return
        if connection.stops_reading is not self._paused:
            self._paused = not self._paused
            if self._paused:
                transport.pause_reading()
            else:
                transport.resume_reading()
        if connection.clock_stopped:
            connection.start_clock(self._hub.clock.monotonic())
            if connection.deadline < (self._watched - 1) * TICK_S:
                self._watched = self._hub.watch(self, connection.deadline)
        if connection.room_wanted and connection.sent():
            self._hub.touch()

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Hand bytes of the MQTT stream to the transport."""
        transport.write(data)

    def _close(self, transport: asyncio.Transport) -> None:
        """Close once the peer has taken what it was sent, or ``LINGER_S`` have passed.

        A transport that is closing already, as after the peer's end of file, waits for ever.
        """
        if not transport.is_closing():
            transport.close()
        if not self._lingering:
            self._lingering = True
            self._watched = self._hub.watch(self, self._hub.clock.monotonic() + LINGER_S)

    def check_deadline(self, tick: int, now: float) -> None:
        """The wheel has come to a tick for which this connection was registered."""
        transport = self._transport
        connection = self.connection
        if tick != self._watched or transport is None or connection is None:
            return
        if connection.phase is Phase.CLOSED:
            transport.abort()
        elif connection.deadline <= now:
            ended = connection.expire(now, self._hub.clock.wall_us())
            self._watched = NEVER if ended else self._hub.watch(self, connection.deadline)
        elif connection.deadline < math.inf:
            self._watched = self._hub.watch(self, connection.deadline)
        else:
            self._watched = NEVER

    def quiesce(self) -> None:
        """The broker is about to stop: read nothing more."""
        if self.connection is not None:
            self.connection.hold()

    def shut_down(self) -> None:
        """The broker stops."""
        connection = self.connection
        if connection is not None:
            with self._hub.faults.contained(_WHERE):
                connection.shut_down(self._hub.clock.wall_us())
            self._context.wake(connection)

    def fail(self, error: Exception) -> None:
        """A bug of ours came up while this connection was served: end it, and spare the others."""
        self._hub.faults.note(_WHERE, error)
        if self._transport is not None:
            self._transport.abort()
        if self.connection is not None:
            with self._hub.faults.contained(_WHERE):
                self.connection.crash(self._hub.clock.wall_us())
            self._hub.touch()


def _peer(transport: asyncio.BaseTransport) -> Peer:
    return Peer(
        remote_address=_address(transport.get_extra_info("peername")),
        local_address=_address(transport.get_extra_info("sockname")),
        tls=transport.get_extra_info("ssl_object") is not None,
    )


def _address(name: object) -> str:
    match name:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return str(name)
