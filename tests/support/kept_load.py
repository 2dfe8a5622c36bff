"""Clients of kept sessions that come and go between edges, and wills that their ends make due."""

import asyncio
from collections.abc import Callable

from tests.support.clean_load import WILLS, Connection
from tests.support.ledger import Ledger, Message
from tests.support.load import TOPICS, PersistentClient, Publisher, Subscriber
from tests.support.mqtt_client_frames import DISCONNECT
from tests.support.mqtt_peer import Connack, ConnectOptions, Packet, Publish, Suback, Will

KEPT = "kept/"
"""What topics of kept publishers begin with: no clean subscriber has them."""

WINDOW = 5
"""Messages a publisher has on their way."""

PACE_S = 0.05
"""Between an acknowledgement and the next messages: tables should not become larger than needed."""


def kept_maker(name: str, qos: int) -> Callable[[int], Message]:
    """Make the messages of a publisher, each unlike all others."""

    def make(n: int) -> Message:
        return Message(f"{KEPT}{name}/{n % TOPICS}", f"{name} {n}".encode(), qos)

    return make


class KeptClient(PersistentClient):
    """What kept clients have in common: an edge may say no, and their connections have wills.

    Attributes:
        connections: All it had, the present one last.
        port: Where it connected last.
        refused: How often CONNACK said no.
    """

    connections: list[Connection]
    port = 0
    refused = 0

    async def connect(self, port: int) -> None:
        """See ``Client.connect``."""
        self.port = port
        await super().connect(port)

    @property
    def is_served(self) -> bool:
        """Whether it is connected, and CONNACK came."""
        return self.is_connected and self.connections[-1].accepted

    async def leave(self) -> None:
        """Say DISCONNECT, and return once the connection has ended."""
        if self._line is not None:
            self.connections[-1].said_goodbye = True
            self._send(DISCONNECT)
            await self.gone()

    def edge_stops(self) -> None:
        """See ``CleanClient.edge_stops``."""
        for connection in reversed(self.connections):
            connection.edge_stopped = True
            if connection.accepted:
                return

    def _options(self) -> ConnectOptions:
        will = f"{self.client_id} will {len(self.connections)}".encode()
        self.connections.append(Connection(will))
        return ConnectOptions(
            clean=False, will=Will(topic=f"{WILLS}{self.client_id}", payload=will, qos=1)
        )

    def _welcome(self, connack: Connack) -> None:
        if connack.code:
            # The database is down, or the workers are behind (E2).
            assert connack.code == 3, connack
            self.refused += 1
            return
        self.connections[-1].accepted = True
        super()._welcome(connack)

    def _gone(self) -> None:
        self.connections[-1].ended = True


class KeptPublisher(KeptClient, Publisher):
    """Publishes at its pace, and repeats what is unfinished at whichever edge it comes to."""

    def __init__(
        self, client_id: str, ledger: Ledger, make_message: Callable[[int], Message]
    ) -> None:
        super().__init__(client_id, ledger, make_message)
        self.connections = []
        self.window = WINDOW

    def _fill(self) -> None:
        asyncio.get_running_loop().call_later(PACE_S, self._fill_now, len(self.connections))

    def _fill_now(self, connection: int) -> None:
        if connection == len(self.connections) and self.is_served:
            super()._fill()


class KeptSubscriber(KeptClient, Subscriber):
    """Takes everything that matches its filter, once at QoS 2.

    Args:
        client_id: Who it is.
        ledger: What it tells.
        topic_filter: What it subscribes to, once.
        qos: At which QoS.
        delay_s: How long it thinks before it answers a message.
    """

    def __init__(
        self, client_id: str, ledger: Ledger, topic_filter: str, qos: int, delay_s: float = 0.0
    ) -> None:
        super().__init__(client_id, ledger, topic_filter, qos)
        self.connections = []
        self._delay_s = delay_s

    @property
    def is_subscribed(self) -> bool:
        """Whether SUBACK has come, in whichever connection."""
        return self.subscribed

    def _handle(self, packet: Packet) -> None:
        if isinstance(packet, Suback) and self.subscribed:
            return  # it asked twice, because it did not hear the first answer
        if not self._delay_s or not isinstance(packet, Publish):
            super()._handle(packet)
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay_s, self._handle_later, packet, len(self.connections))

    def _handle_later(self, packet: Publish, connection: int) -> None:
        # What a connection that has gone did not answer comes again.
        if connection == len(self.connections) and self.is_connected:
            super()._handle(packet)
            self.ledger.count_packet()
