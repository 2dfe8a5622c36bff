"""What one conformance test needs of the broker."""

import itertools

from tests.support.broker import BrokerProcess
from tests.support.mqtt_peer import Connack, ConnectOptions, Packet, Peer, Publish

_names = (f"t{number}" for number in itertools.count(1))


class Scene:
    """What one test needs of the broker: connections, and names nobody else uses.

    Attributes:
        broker: The broker under test.
        name: Begins all topics and client ids of the test.
    """

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.name = next(_names)
        self._peers: list[Peer] = []
        self._numbers = itertools.count()

    def topic(self, rest: str = "topic") -> str:
        """Return a topic, or a filter, that only this test uses."""
        return f"{self.name}/{rest}"

    def client_id(self, who: str) -> str:
        """Return a client id that only this test uses."""
        return f"{self.name}{who}"

    async def open(self) -> Peer:
        """Open a connection that has said nothing yet."""
        peer = await Peer.open(self.broker.tcp_port)
        self._peers.append(peer)
        return peer

    async def attach(self, who: str, options: ConnectOptions | None = None) -> tuple[Peer, Connack]:
        """Connect and return the answer too."""
        peer = await self.open()
        return peer, await peer.connect(self.client_id(who), options)

    async def connect(self, who: str, options: ConnectOptions | None = None) -> Peer:
        """Connect a client that must be accepted."""
        peer, connack = await self.attach(who, options)
        assert connack.code == 0
        return peer

    async def received(self, subscriber: Peer, *, after: Peer) -> list[Packet]:
        """Return what has reached ``subscriber`` of this test's topics, unanswered.

        ``after`` is the client that published. Two last messages are the barrier: a retained one,
        since a broker may read what is retained at its leisure, and one behind all live ones.
        """
        sentinel, last_word = self.topic("sentinel"), f"last word {next(self._numbers)}".encode()
        await after.publish(sentinel, last_word, qos=1, retain=True)
        await subscriber.subscribe((sentinel, 2))
        came = await self._until(subscriber, Publish(sentinel, last_word, qos=1, retain=True))
        await after.publish(sentinel, last_word, qos=2)
        return came + await self._until(subscriber, Publish(sentinel, last_word, qos=2))

    async def _until(self, subscriber: Peer, last: Publish) -> list[Packet]:
        """Read up to ``last`` and return the rest, but for other tests' and other last words."""
        came: list[Packet] = []
        while (packet := await subscriber.read_packet()) != last:
            if not isinstance(packet, Publish):
                came.append(packet)
            elif packet.topic == last.topic:
                await subscriber.answer(packet)
            elif self.name in packet.topic:
                came.append(packet)
        assert isinstance(packet, Publish)
        await subscriber.answer(packet)
        return came

    def close(self) -> None:
        """Drop all connections."""
        for peer in self._peers:
            peer.drop()
