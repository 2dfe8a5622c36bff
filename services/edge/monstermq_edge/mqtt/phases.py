"""The life of a connection, as a table: phase, packet -> next phase.

Everything that decides whether a packet may come now lives in this file. A missing cell is a
protocol error: the connection is closed [MQTT-4.8.0-1].
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
    """Where a connection is in its life. An integer, since it is looked up for every run."""

    AWAITING_CONNECT = auto()
    """The transport is open; nothing but CONNECT may come [MQTT-3.1.0-1]."""
    CONNECTED = auto()
    """CONNECT was accepted. CONNACK may still wait for a commit; the client may go on."""
    CLOSED = auto()
    """The end. Nothing that comes is looked at."""


NEXT_PHASE: dict[Phase, dict[type[Packet], Phase]] = {
    Phase.AWAITING_CONNECT: {
        Connect: Phase.CONNECTED,
    },
    Phase.CONNECTED: {
        MessageRun: Phase.CONNECTED,
        Answers: Phase.CONNECTED,
        Subscribe: Phase.CONNECTED,
        Unsubscribe: Phase.CONNECTED,
        Pingreq: Phase.CONNECTED,
        Disconnect: Phase.CLOSED,
    },
    Phase.CLOSED: {},
}
