"""Why connections end."""

from enum import IntEnum


class CloseReason(IntEnum):
    """Why the engine, or the edge, ends a connection. Each has a counter."""

    TAKEN_OVER = 1
    """Another connection came with the same client id [MQTT-3.1.4-2]."""
    SLOW_CONSUMER = 2
    """A clean session did not acknowledge for longer than ``SlowConsumerHoldS``."""
    QUOTA_EXCEEDED = 3
    """It left too many inbound QoS 2 ids open."""
    FAULT = 4
    """A bug of the broker came up while it was served; the log has the traceback."""
    SHUTTING_DOWN = 5
    """The broker stops."""
    KEEP_ALIVE_TIMEOUT = 6
    """Nothing arrived for one and a half times the keep-alive [MQTT-3.1.2-24]."""
    CONNECT_TIMEOUT = 7
    """No CONNECT arrived in time."""
    PROTOCOL_ERROR = 8
    """The peer broke a normative statement."""
    TRANSPORT_CLOSED = 9
    """The peer closed the connection, or the network did."""
    CLIENT_DISCONNECTED = 10
    """The client said DISCONNECT: the one graceful end."""
    DETACHED = 11
    """Another process ended it in the log: an operator, or because this edge missed its lease."""
    APPEND_REFUSED = 12
    """The log refused for good what it published: whether that is there is not known."""
    SERVER_UNAVAILABLE = 13
    """What its kept session has cannot be known now; CONNACK with code 3 goes before."""
