"""Clients of kept sessions that come and go between edges, and wills that their ends make due."""

import asyncio
from collections.abc import Callable

from tests.support.clean_load import Mobile
from tests.support.ledger import Ledger, Message
from tests.support.load import TOPICS, PersistentClient, Publisher, Subscriber
from tests.support.mqtt_peer import Connack, ConnectOptions, Packet, Publish, Suback

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


class KeptClient(Mobile, PersistentClient):
    """A kept client: an edge may say no, and whatever it owes goes on at the next one."""

    def _options(self) -> ConnectOptions:
        return ConnectOptions(clean=False, will=self._next_will(1))

    def _welcome(self, connack: Connack) -> None:
        if connack.code:
            # The database is down, or the workers are behind (E2).
            assert connack.code == 3, connack
            self.refused += 1
            return
        self.connections[-1].accepted = True
        super()._welcome(connack)


class KeptPublisher(KeptClient, Publisher):
    """Publishes at its pace, and repeats what is unfinished at whichever edge it comes to."""

    def __init__(
        self, client_id: str, ledger: Ledger, make_message: Callable[[int], Message]
    ) -> None:
        super().__init__(client_id, ledger, make_message)
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
