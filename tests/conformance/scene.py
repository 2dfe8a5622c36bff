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

        ``after`` is the client that published; a last message of its own, sent behind all others,
        is the barrier.
        """
        sentinel = self.topic("sentinel")
        await subscriber.subscribe((sentinel, 2))
        await after.publish(sentinel, b"that was all", qos=2)
        came: list[Packet] = []
        while True:
            packet = await subscriber.read_packet()
            if isinstance(packet, Publish):
                if packet.topic == sentinel:
                    await subscriber.answer(packet)
                    return came
                if self.name not in packet.topic:
                    continue
            came.append(packet)

    def close(self) -> None:
        """Drop all connections."""
        for peer in self._peers:
            peer.drop()
