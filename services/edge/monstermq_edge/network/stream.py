"""TCP and TLS: an asyncio protocol that drives one connection."""

import asyncio
import math
from typing import Final, cast

from mypy_extensions import mypyc_attr

from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.mqtt.context import ConnectionContext, Peer
from monstermq_edge.mqtt.phases import Phase
from monstermq_edge.network.hub import LINGER_S, Hub, NetworkConnection
from monstermq_edge.network.wheel import TICK_S
from monstermq_shared.counters import Refusal

NEVER = 1 << 62

_CLOSED: Final = Phase.CLOSED

FAIR_READ_SIZE: Final = 65_536
"""After a chunk of this size the other connections have their turn.

The event loop reads a socket that fills its buffer up to 32 times in a row, 8 MB in all: long
enough for one client to hold up everybody for seconds, with small packets at least.
"""

STASH_SIZE: Final = 4_096
"""What comes to a connection that waits in line is kept, and from a chunk of this size on nothing
more is read. Most of those who wait have said a word or two: pausing each would cost more."""

STASH_CHUNKS: Final = 8
"""The same for smaller chunks, by their number."""

_WHERE = "a connection"  # where a bug came up, see ``Faults.note``


@mypyc_attr(allow_interpreted_subclasses=True)  # tests put bugs in
class StreamProtocol(NetworkConnection):
    """Feeds what the transport reads, and writes what the connection wants to say once per turn.

    What there is no budget for waits in line at the hub, with the end of the connection behind it.
    """

    __slots__ = (
        "_context",
        "_ended",
        "_hub",
        "_in_line",
        "_lingering",
        "_paused",
        "_stash",
        "_transport",
        "_watched",
    )

    def __init__(self, hub: Hub, context: ConnectionContext) -> None:
        super().__init__()
        self._hub = hub
        self._context = context
        self._transport: asyncio.Transport | None = None
        # What came while something waited: a few chunks, until reading pauses.
        self._stash: list[bytes] | None = None
        self._in_line = False
        self._ended = False
        self._paused = False
        self._lingering = False
        self._watched = NEVER

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
        self._watched = self._hub.wheel.watch(self, self.connection.deadline)

    def data_received(self, data: bytes) -> None:
        """Feed a read chunk. Whatever comes up ends this connection and no other."""
        connection = self.connection
        if connection is None:
            return
        hub = self._hub
        if not hub.reading:
            hub.begin_reading()
        if self._in_line or connection.unread is not None or hub.budget.left <= 0:
            self._stash = [*(self._stash or ()), data]
            self._wait_in_line()
            if len(data) >= STASH_SIZE or len(self._stash) >= STASH_CHUNKS:
                self._pause_reading()
            return
        try:
            has_more = self._receive(connection, data, hub.read_at, hub.read_wall_ms)
        except Exception as exc:  # noqa: BLE001 - a bug can be any exception, and is noted
            self.fail(exc)
            return
        if has_more:
            self._wait_in_line()
            self._pause_reading()
        elif len(data) >= FAIR_READ_SIZE:
            self._pause_reading()

    def _receive(self, connection: Connection, data: bytes, now: float, wall_ms: int) -> bool:
        """Feed a chunk, as far as the connection's share goes; return whether there is more."""
        return connection.receive_data(data, now, wall_ms)

    def _has_more(self, connection: Connection) -> bool:
        """Whether something has come that is not handled yet."""
        return connection.unread is not None or self._stash is not None

    def _wait_in_line(self) -> None:
        """Go on when others have had their turn."""
        if not self._in_line:
            self._in_line = True
            self._hub.wait_in_line(self)

    def _pause_reading(self) -> None:
        """Pause until the turn's end, when ``flush`` finds out what holds the connection."""
        connection = self.connection
        if self._transport is not None and connection is not None:
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()
            self._context.wake(connection)

    def eof_received(self) -> bool:
        """The peer has finished sending: so have we, once it has been told what waits for it.

        A TLS connection cannot be half closed: only what can be said now is sent.
        """
        self._end_of_input()
        if self.connection is not None and self.connection.peer.tls:
            self.flush()
            return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The network connection is gone, for whatever reason."""
        self._transport = None
        self._end_of_input()

    def _end_of_input(self) -> None:
        """Nothing more comes from the peer; what has come is handled first."""
        connection = self.connection
        if connection is None:
            return
        self._ended = True
        if self._in_line or self._has_more(connection) or self._hub.budget.left <= 0:
            self._wait_in_line()
        else:
            self._part()

    def _part(self) -> None:
        """All that came is handled: end the connection, unless its peer is still to be answered."""
        connection = self.connection
        if connection is None:
            return
        if self._transport is not None and connection.owes_answers:
            self._watched = self._hub.wheel.watch(self, self._hub.clock.monotonic() + LINGER_S)
            return
        with self._hub.faults.contained(_WHERE):
            connection.connection_lost(self._hub.clock.wall_ms())
        if self._transport is None:
            self._leave(connection)
        else:
            self._context.wake(connection)
        self._hub.touch()

    def _leave(self, connection: Connection) -> None:
        self._hub.leave(self)
        # They refer to each other: let both go now, not at the next full collection.
        connection.driver = None
        self.connection = None
        self._stash = None

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

    def serve(self, now: float, wall_ms: int) -> None:
        """Go on with what has come. Whatever comes up ends this connection and no other."""
        self._in_line = False
        connection = self.connection
        if connection is None:
            return
        try:
            if connection.unread is not None:
                connection.go_on(now, wall_ms)
            elif self._stash is not None:
                data = b"".join(self._stash)
                self._stash = None
                self._receive(connection, data, now, wall_ms)
        except Exception as exc:  # noqa: BLE001 - a bug can be any exception, and is noted
            self.fail(exc)
            return
        if connection.phase is not _CLOSED and self._has_more(connection):
            if self._may_go_on(connection):
                self._wait_in_line()
        elif self._ended:
            self._part()
        elif self._paused:
            self._context.wake(connection)

    def flush(self) -> None:
        """End of the turn: write, hold or resume, close."""
        connection = self.connection
        if connection is None:
            return
        transport = self._transport
        closed = connection.phase is _CLOSED
        if transport is None:
            self._go_on_or_part(connection)
            return
        if not connection.congested or closed:
            data = connection.data_to_send()
            if data:
                self.write(transport, data)
        if closed:
            self._stash = None
            self._close(transport)
            return
        if connection.unread is not None or self._stash is not None:
            self._go_on_or_part(connection)
        if self._paused or self._ended or connection.stops_reading or self._hub.quiet:
            self._read_or_not(connection, transport)
        if connection.clock_stopped:
            self._start_clock(connection)
        if connection.room_wanted and connection.sent():
            self._hub.touch()

    def _start_clock(self, connection: Connection) -> None:
        connection.start_clock(self._hub.clock.monotonic())
        if connection.deadline < (self._watched - 1) * TICK_S:
            self._watched = self._hub.wheel.watch(self, connection.deadline)

    def _may_go_on(self, connection: Connection) -> bool:
        """Whether more of what the peer sent may be handled.

        Once nothing can be written any more, it does not matter that the peer does not read.
        """
        return not (connection.is_held if self._transport is None else connection.stops_reading)

    def _go_on_or_part(self, connection: Connection) -> None:
        """Go on with what was not handled, as soon as nothing holds the connection."""
        if connection.phase is not _CLOSED and self._has_more(connection):
            if not self._in_line and self._may_go_on(connection):
                self._wait_in_line()
        elif self._transport is None:
            self._part()

    def _read_or_not(self, connection: Connection, transport: asyncio.Transport) -> None:
        """Pause reading or resume it; after the end of input, see whether all is said."""
        if self._ended:
            if not self._in_line:
                self._part()
            return
        waits = self._in_line and self._paused
        stops_reading = connection.stops_reading or waits or self._hub.quiet
        if stops_reading is not self._paused:
            self._paused = not self._paused
            if self._paused:
                transport.pause_reading()
            else:
                transport.resume_reading()

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
            self._watched = self._hub.wheel.watch(self, self._hub.clock.monotonic() + LINGER_S)

    def check_deadline(self, tick: int, now: float) -> None:
        """The wheel has come to a tick for which this connection was registered."""
        transport = self._transport
        connection = self.connection
        if tick != self._watched or transport is None or connection is None:
            return
        if connection.phase is Phase.CLOSED:
            transport.abort()
        elif connection.deadline <= now:
            if self._hub.budget.left <= 0:
                self._watched = self._hub.wheel.watch(self, now)  # many at once: in the next tick
                return
            ended = connection.expire(now, self._hub.clock.wall_ms())
            self._watched = NEVER if ended else self._hub.wheel.watch(self, connection.deadline)
        elif self._ended:
            self._part()
        elif connection.deadline < math.inf:
            self._watched = self._hub.wheel.watch(self, connection.deadline)
        else:
            self._watched = NEVER

    def shut_down(self) -> None:
        """The broker stops."""
        connection = self.connection
        if connection is not None:
            with self._hub.faults.contained(_WHERE):
                connection.shut_down(self._hub.clock.wall_ms())
            self._context.wake(connection)

    def fail(self, error: Exception) -> None:
        """A bug of ours came up while this connection was served: end it, and spare the others."""
        self._hub.faults.note(_WHERE, error)
        connection = self.connection
        if connection is not None:
            with self._hub.faults.contained(_WHERE):
                connection.crash(self._hub.clock.wall_ms())
            self._hub.touch()
        if self._transport is not None:
            self._transport.abort()
        elif connection is not None:
            self._leave(connection)


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
