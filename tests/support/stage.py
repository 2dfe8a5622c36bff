"""Connections on an engine whose turns a test ends, without sockets or over loopback."""

import asyncio
import socket
from collections.abc import Callable
from typing import Self

from tests.support.engine import Bench, subscribe_to
from tests.support.mqtt_client_frames import encode_connect

from monstermq_edge.faults import Faults
from monstermq_edge.mqtt.bodies import DecoderLimits
from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.mqtt.context import ConnectionContext, Peer
from monstermq_edge.mqtt.outbox import Outbox
from monstermq_edge.network.hub import Hub
from monstermq_edge.network.stream import StreamProtocol

OUTBOX_SIZE_MAX = 10_000
CONNECT_TIMEOUT_S = 10.0
CONNACK = b"\x20\x02\x00\x00"
DEADLINE_S = 20.0
TURNS_MAX = 200_000

PEER = Peer(remote_address="client", local_address="broker", tls=False)


class ManualClock:
    """Time goes on when a test says so.

    Attributes:
        now: Time that passed, in seconds.
        set_s: By how much the wall clock was set.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.set_s = 0.0

    def monotonic(self) -> float:
        """See ``Clock``."""
        return self.now

    def wall_ms(self) -> int:
        """See ``Clock``."""
        return int((self.now + self.set_s) * 1000)


def context_for(
    bench: Bench, wake: Callable[[Outbox], None], wake_later: Callable[[Outbox], None]
) -> ConnectionContext:
    """Return what connections to a bench's engine share."""
    return ConnectionContext(
        port=bench.engine,
        counters=bench.counters,
        budget=bench.budget,
        decoder_limits=DecoderLimits(),
        outbox_size_max=OUTBOX_SIZE_MAX,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        keep_alive_max_s=0,
        new_client_id=lambda: "made-up",
        admit=lambda client_id, _: client_id != "hasty",
        wake=wake,
        wake_later=wake_later,
        report=lambda _, __: None,
        came=lambda _, __: None,
        went=lambda _, __: None,
    )


class Line:
    """A connection without a transport.

    Attributes:
        wakes: How often the driver was asked to look.
        patient_wakes: How often it was asked to look when there is time.
    """

    def __init__(self, bench: Bench | None = None) -> None:
        self.bench = bench or Bench()
        self.counters = self.bench.counters
        self.wakes = 0
        self.patient_wakes = 0
        context = context_for(self.bench, self._wake, self._wake_later)
        self.connection = Connection(context, PEER, None, 0.0)

    def _wake(self, _: Outbox) -> None:
        self.wakes += 1

    def _wake_later(self, _: Outbox) -> None:
        self.patient_wakes += 1

    def receive(self, data: bytes, now: float = 0.0) -> None:
        """Give the connection bytes of its peer."""
        self.connection.receive_data(data, now, 0)
        while self.connection.unread and not self.connection.is_held:
            self.connection.go_on(now, 0)

    def connect(self, client_id: str = "c", *, keep_alive_s: int = 60) -> None:
        """Connect, see CONNACK committed, and forget it."""
        self.receive(encode_connect(client_id, keep_alive_s=keep_alive_s))
        self.bench.settle()
        assert self.connection.data_to_send() == CONNACK
        self.connection.start_clock(0.0)


class Stage:
    """A hub with real sockets on loopback, inside a running loop.

    Attributes:
        make: Makes the protocol of the next connection.
    """

    def __init__(self) -> None:
        self.bench = Bench()
        self.clock = ManualClock()
        self.counters = self.bench.counters
        self.faults = Faults(self.counters, self.clock)
        self.loop = asyncio.get_running_loop()
        self.hub = Hub(self.loop, self.clock, self.bench, 100, self.faults, self.bench.budget)
        self.context = context_for(self.bench, self.hub.wake, self.hub.wake_later)
        self.make: Callable[[Hub, ConnectionContext], StreamProtocol] = StreamProtocol
        self._sockets: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for protocol in list(self.hub.protocols):
            assert isinstance(protocol, StreamProtocol)
            if protocol._transport is not None:
                protocol._transport.abort()
        await self.until(lambda: not self.hub.protocols)
        await self.turns()
        for end in self._sockets:
            end.close()

    async def open(self) -> tuple[socket.socket, StreamProtocol]:
        """Return the socket, which does not block, of a client that has said nothing yet."""
        ours, theirs = socket.socketpair()
        self._sockets += [theirs, ours]
        for end in (ours, theirs):
            end.setblocking(False)
        _, protocol = await self.loop.create_connection(
            lambda: self.make(self.hub, self.context), sock=ours
        )
        return theirs, protocol

    async def connect(
        self, client_id: str, *, keep_alive_s: int = 60
    ) -> tuple[socket.socket, StreamProtocol, Connection]:
        """Return a connected client's socket, and the broker's side."""
        theirs, protocol = await self.open()
        await self.loop.sock_sendall(theirs, encode_connect(client_id, keep_alive_s=keep_alive_s))
        assert await self.receive(theirs) == CONNACK
        connection = protocol.connection
        assert connection is not None
        return theirs, protocol, connection

    async def receive(self, client: socket.socket) -> bytes:
        """Return what a client is sent next."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.loop.sock_recv(client, 65_536)

    async def congest(self, connection: Connection) -> None:
        """Send the client of a connection, who does not read, more than its outbox takes."""
        publisher = self.bench.connect("congesting", clean=True)
        session = self.bench.engine.sessions[connection.client_id]
        subscribe_to(self.bench.engine, session, 1, [("big", 0)])
        while connection.waiting_size <= OUTBOX_SIZE_MAX:
            self.bench.publish(publisher, "big", bytes(OUTBOX_SIZE_MAX), qos=0)
            await self.turns()
        assert connection.congested

    async def turns(self, count: int = 5) -> None:
        """Let the loop turn."""
        for _ in range(count):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until something is so."""
        for _ in range(TURNS_MAX):
            if condition():
                return
            await asyncio.sleep(0)
        raise TimeoutError("it is still not so")

    async def pass_time(self, seconds: float) -> None:
        """Let time go by, and the hub see it."""
        self.clock.now += seconds
        self.hub.wheel.tick()
        await self.turns()
