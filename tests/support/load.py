"""Persistent clients that keep their half of every exchange over reconnects, as the standard asks.

They work without tasks: a packet that comes is answered at once, and a publisher sends the next
message when an acknowledgement makes room for it. What they see they write into a ledger.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from tests.support.broker import LOOPBACK
from tests.support.ledger import Ledger, Message
from tests.support.mqtt_client_frames import encode_publish, encode_subscribe
from tests.support.mqtt_peer import (
    WAIT_S,
    Connack,
    ConnectOptions,
    Packet,
    Peer,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    connect_packet,
    split_packet,
)

WINDOW = 20
"""Messages a publisher has unacknowledged at a time."""

PACKET_ID_MAX = 65_535

TOPICS = 3
RETAINED_TOPICS = 7
"""Topics of one publisher, which nobody else writes to."""


def message_maker(name: str, qos: int) -> Callable[[int], Message]:
    """Make the messages of a publisher, each unlike all others."""

    def make(n: int) -> Message:
        return Message(f"load/{name}/{n % TOPICS}", f"{name} {n}".encode(), qos)

    return make


def retained_maker(name: str, qos: int) -> Callable[[int], Message]:
    """Make retained messages on a few topics."""

    def make(n: int) -> Message:
        topic = f"load/retained/{name}/{n % RETAINED_TOPICS}"
        return Message(topic, f"{name} {n}".encode(), qos, retain=True)

    return make


class _Line(asyncio.Protocol):
    """One network connection of a client."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._client.connected(self)

    def data_received(self, data: bytes) -> None:
        if not self._client.is_on(self):
            return
        self._buffer += data
        try:
            while (packet := split_packet(self._buffer)) is not None:
                self._client.packet_received(packet)
        except Exception as exc:
            # The event loop would only log it.
            self._client.ledger.violation(f"{self._client.client_id}: {exc!r}")
            raise

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ended.set()
        self._client.connection_lost(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Client(ABC):
    """A client that can be connected again and again.

    Attributes:
        client_id: Who it is.
        ledger: What it tells.
    """

    def __init__(self, client_id: str, ledger: Ledger) -> None:
        self.client_id = client_id
        self.ledger = ledger
        self._line: _Line | None = None
        # Those that a newer one has replaced, and that the broker has not closed yet.
        self._left: set[_Line] = set()

    async def connect(self, port: int) -> None:
        """Connect; a broker that is not there, or no longer, is no error."""
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Line(self), LOOPBACK, port)
        except OSError:
            return

    async def gone(self) -> None:
        """Return once the broker's end has been noticed, and all it said before."""
        if self._line is not None:
            async with asyncio.timeout(WAIT_S):
                await self._line.ended.wait()

    async def lasts(self, for_s: float) -> None:
        """Assert that the present connection lasts so long."""
        assert self._line is not None, f"{self.client_id} is not connected"
        try:
            async with asyncio.timeout(for_s):
                await self._line.ended.wait()
        except TimeoutError:
            return
        raise AssertionError(f"the connection of {self.client_id} has ended")

    @property
    def is_connected(self) -> bool:
        """Whether there is a network connection."""
        return self._line is not None

    def is_on(self, line: _Line) -> bool:
        """Whether this is the present connection."""
        return self._line is line

    async def drop(self) -> None:
        """End all connections without a word."""
        lines = [*self._left] if self._line is None else [*self._left, self._line]
        for line in lines:
            line.abort()
            await line.ended.wait()

    # -- what the line tells ---------------------------------------------------------------------

    def connected(self, line: _Line) -> None:
        """TCP is there: say CONNECT. One that was there before is left to the broker to close."""
        if self._line is not None:
            self._left.add(self._line)
            self._gone()
        self._line = line
        self._send(connect_packet(self.client_id, self._options()))

    def packet_received(self, packet: Packet) -> None:
        """Handle a packet; the ledger counts it when it has been handled."""
        if isinstance(packet, Connack):
            self._welcome(packet)
        else:
            self._handle(packet)
        self.ledger.count_packet()

    def connection_lost(self, line: _Line) -> None:
        """The connection is gone; one that another has replaced ended before."""
        self._left.discard(line)
        if self._line is line:
            self._line = None
            self._gone()

    @abstractmethod
    def _gone(self) -> None:
        """There is no connection any more."""

    def _send(self, data: bytes) -> None:
        if self._line is not None:
            self.ledger.count_packet()
            self._line.write(data)

    @abstractmethod
    def _options(self) -> ConnectOptions:
        """Return what the next CONNECT says."""

    @abstractmethod
    def _welcome(self, connack: Connack) -> None:
        """CONNACK came."""

    @abstractmethod
    def _handle(self, packet: Packet) -> None:
        """Answer any other packet."""


class PersistentClient(Client):
    """A client whose session outlives its connections.

    Attributes:
        has_session: The broker has said CONNACK once, so that the session must be there.
    """

    def __init__(self, client_id: str, ledger: Ledger) -> None:
        super().__init__(client_id, ledger)
        self.has_session = False

    def _options(self) -> ConnectOptions:
        return ConnectOptions(clean=False)

    def _welcome(self, connack: Connack) -> None:
        assert connack.code == 0, f"{self.client_id} was refused: {connack}"
        if self.has_session and not connack.session_present:
            self.ledger.violation(f"{self.client_id}: its session is gone")
        self.has_session = True
        self._resume()

    def _gone(self) -> None:
        """Nothing ends with a connection."""

    @abstractmethod
    def _resume(self) -> None:
        """The session is there: repeat what is unfinished."""


@dataclass(slots=True)
class _Exchange:
    """A message on its way; ``released`` once its PUBREC came."""

    message: Message
    released: bool = False


class Publisher(PersistentClient):
    """Publishes in a closed loop, and repeats what is unfinished with DUP [MQTT-4.4.0-1].

    Attributes:
        window: Messages it has unacknowledged at a time.

    Args:
        client_id: Who it is.
        ledger: Where it says what it sends, and what is acknowledged.
        make_message: Makes message n.
    """

    def __init__(
        self, client_id: str, ledger: Ledger, make_message: Callable[[int], Message]
    ) -> None:
        super().__init__(client_id, ledger)
        self.window = WINDOW
        self._make_message = make_message
        self._made = 0
        self._last_id = 0
        self._stopped = False
        self._exchanges: dict[int, _Exchange] = {}

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopped = True

    @property
    def idle(self) -> bool:
        """Whether all exchanges are complete."""
        return not self._exchanges

    @property
    def unacknowledged(self) -> int:
        """Messages that have been sent and not been acknowledged."""
        return sum(not exchange.released for exchange in self._exchanges.values())

    def _resume(self) -> None:
        for packet_id, exchange in self._exchanges.items():
            if exchange.released:
                self._send(Pubrel(packet_id).encode())
            else:
                self._publish(packet_id, exchange.message, dup=True)
        self._fill()

    def _fill(self) -> None:
        while not self._stopped and len(self._exchanges) < self.window:
            message = self._make_message(self._made)
            self._made += 1
            self._last_id = self._last_id % PACKET_ID_MAX + 1
            self._exchanges[self._last_id] = _Exchange(message)
            self.ledger.send(message)
            self._publish(self._last_id, message)

    def _publish(self, packet_id: int, message: Message, *, dup: bool = False) -> None:
        self._send(
            encode_publish(
                message.topic,
                message.payload,
                qos=message.qos,
                packet_id=packet_id,
                retain=message.retain,
                dup=dup,
            )
        )

    def _handle(self, packet: Packet) -> None:
        match packet:
            case Puback(packet_id):
                self.ledger.acknowledge(self._exchanges.pop(packet_id).message)
                self._fill()
            case Pubrec(packet_id):
                exchange = self._exchanges[packet_id]
                if not exchange.released:
                    exchange.released = True
                    self.ledger.acknowledge(exchange.message)
                self._send(Pubrel(packet_id).encode())
            case Pubcomp(packet_id):
                del self._exchanges[packet_id]
                self._fill()
            case _:
                raise AssertionError(f"{self.client_id} got {packet}")


class Subscriber(PersistentClient):
    """Takes everything that matches its filter; at QoS 2 a message counts when its id is new."""

    def __init__(self, client_id: str, ledger: Ledger, topic_filter: str, qos: int) -> None:
        super().__init__(client_id, ledger)
        self._filter = topic_filter
        self._qos = qos
        self._open_ids: set[int] = set()
        self.subscribed = False

    def _resume(self) -> None:
        if not self.subscribed:
            self._send(encode_subscribe(1, [(self._filter, self._qos)]))

    def _handle(self, packet: Packet) -> None:
        match packet:
            case Suback(_, codes):
                assert codes == (self._qos,)
                self.subscribed = True
                self.ledger.subscribe(self.client_id, self._qos, self._filter.partition("#")[0])
            case Publish():
                self._take(packet)
            case Pubrel(packet_id):
                self._open_ids.discard(packet_id)
                self._send(Pubcomp(packet_id).encode())
            case _:
                raise AssertionError(f"{self.client_id} got {packet}")

    def _take(self, packet: Publish) -> None:
        packet_id = packet.packet_id
        if packet.qos < 2:
            self.ledger.receive(self.client_id, packet.payload)
            self._send(Puback(packet_id).encode())
            return
        if packet_id not in self._open_ids:
            self._open_ids.add(packet_id)
            self.ledger.receive(self.client_id, packet.payload)
        self._send(Pubrec(packet_id).encode())


class Cast:
    """The clients of one test around one ledger.

    Attributes:
        ledger: What they all tell.
        publishers: Those that publish.
        subscribers: Those that take.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        self._peers: list[Peer] = []

    def add_publisher(self, client_id: str, make_message: Callable[[int], Message]) -> Publisher:
        """Add a publisher of the messages that ``make_message`` makes from their numbers."""
        publisher = Publisher(client_id, self.ledger, make_message)
        self.publishers.append(publisher)
        return publisher

    def add_subscriber(self, client_id: str, topic_filter: str, qos: int) -> Subscriber:
        """Add a subscriber; it must take everything the publishers send."""
        subscriber = Subscriber(client_id, self.ledger, topic_filter, qos)
        self.subscribers.append(subscriber)
        return subscriber

    async def peer(self, port: int, host: str = LOOPBACK) -> Peer:
        """Open a connection that is dropped in the end."""
        peer = await Peer.open(port, host)
        self._peers.append(peer)
        return peer

    async def connect(self, port: int, clients: Sequence[PersistentClient]) -> None:
        """Connect clients, all at once."""
        await asyncio.gather(*(client.connect(port) for client in clients))

    async def subscribe(self, port: int) -> None:
        """Connect the subscribers and wait for their SUBACKs, before anything is published."""
        await self.connect(port, self.subscribers)
        await self.ledger.until(lambda: all(s.subscribed for s in self.subscribers), WAIT_S)

    async def gone(self) -> None:
        """Return once everybody has noticed that the broker has ended."""
        for client in (*self.publishers, *self.subscribers):
            await client.gone()

    async def settle(self, port: int, within_s: float) -> None:
        """Publish nothing new, bring everybody back, and wait until nobody is owed anything."""
        for publisher in self.publishers:
            publisher.stop()
        absent = [c for c in (*self.subscribers, *self.publishers) if not c.is_connected]
        await self.connect(port, absent)
        await self.ledger.until(self._is_settled, within_s)
        self.ledger.assert_kept()

    def _is_settled(self) -> bool:
        return all(p.idle for p in self.publishers) and self.ledger.all_delivered()

    async def close(self) -> None:
        """Drop all connections."""
        for client in (*self.publishers, *self.subscribers):
            await client.drop()
        for peer in self._peers:
            peer.drop()
