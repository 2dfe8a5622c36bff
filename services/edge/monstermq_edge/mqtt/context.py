"""What a connection is told when it begins: who its peer is, and what all connections share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monstermq_edge.mqtt.decoder import DecoderLimits
from monstermq_shared.budget import Budget
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.sessions.ports import AttachRequest, SessionPort

if TYPE_CHECKING:
    from monstermq_edge.mqtt.connection import Connection
    from monstermq_edge.mqtt.outbox import Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end, as the ``sessions`` table shows it."""

    remote_address: str
    local_address: str
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionContext:
    """What all connections of one process share.

    Attributes:
        port: The session engine.
        counters: Raised by every connection.
        budget: What is left for this turn of the event loop; whoever drives connections refills it.
        decoder_limits: Bounds on what a client may send.
        outbox_size_max: Bytes that may wait for a client that does not read, or for its CONNACK;
            beyond them QoS 0 messages are dropped, and nothing more is read from the client.
        connect_timeout_s: A CONNECT must have come by then.
        keep_alive_max_s: A longer (or no) keep-alive is treated as this one; 0: any is accepted.
        new_client_id: Makes an id for a client that gave none [MQTT-3.1.3-6].
        admit: Whether this client id may take its own connection over, at this moment.
        wake: Tells the driver to look at the connection before the loop turn ends.
        wake_later: The same, but what others are to be delivered may go first: a publisher with a
            window waits for its PUBACKs more patiently than a subscriber for a message.
        report: Told of every connection that was closed because of what its peer did, and of what
            was refused to it.
        came: Told of every CONNECT that was accepted.
        went: Told of every such connection's end.
    """

    port: SessionPort[Any]
    counters: Counters
    budget: Budget
    decoder_limits: DecoderLimits
    outbox_size_max: int
    connect_timeout_s: float
    keep_alive_max_s: int
    new_client_id: Callable[[], str]
    admit: Callable[[str, float], bool]
    wake: Callable[["Outbox"], None]
    wake_later: Callable[["Outbox"], None]
    report: Callable[["Connection", str], None]
    came: Callable[["Connection", AttachRequest], None]
    went: Callable[["Connection", CloseReason], None]
