"""The life of a connection: its phases, and which packets may come in each.

Everything that decides whether a packet may come now lives in this file. What is not allowed is a
protocol error: the connection is closed [MQTT-4.8.0-1]. The phase itself is changed by what a
packet leads to, because a CONNECT can be refused.
"""

from enum import IntEnum, auto

from monstermq_edge.mqtt.packets import (
    Answers,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Subscribe,
    Unsubscribe,
)
from monstermq_shared.messages import MessageRun


class Phase(IntEnum):
    """Where a connection is in its life. An integer, because it is looked up for every run."""

    AWAITING_CONNECT = auto()
    """The transport is open; nothing but CONNECT may come [MQTT-3.1.0-1]."""
    CONNECTED = auto()
    """CONNECT was accepted. CONNACK may still wait for a commit; the client may go on."""
    CLOSED = auto()
    """The end. Nothing that comes is looked at."""


ALLOWED: dict[Phase, frozenset[type[Packet]]] = {
    Phase.AWAITING_CONNECT: frozenset({Connect}),
    Phase.CONNECTED: frozenset({MessageRun, Answers, Subscribe, Unsubscribe, Pingreq, Disconnect}),
    Phase.CLOSED: frozenset(),
}
"""The packets that may come, by phase; a second CONNECT may not [MQTT-3.1.0-2]."""
