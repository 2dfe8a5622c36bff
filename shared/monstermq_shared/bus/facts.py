"""Control facts: what edges and workers tell each other in the log.

Each fact of the protocol is a small frozen dataclass. All of them are here, also those that only
kept sessions need: a reader that meets one it does not know must stop (R6), so readers know first
what writers write later. ``control`` has the text they stand in.
"""

from dataclasses import dataclass

from monstermq_shared.messages import Subscription, Will

EXPIRY_S_MAX = 2**32 - 1
"""The longest expiry that MQTT 5 knows; it stands for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A connection's ownership of a client id; its offset is the connection's epoch.

    Attributes:
        client_id: Whose.
        clean: Begin a new session.
        expiry_s: How long the session outlives the connection; 0 for a clean connection.
        will: To publish if the connection ends without DISCONNECT.
        run: The edge that has the connection.
        protocol: The MQTT level: 3, 4 or 5.
        only_if: Valid only if the newest claim below is this one: it ends a session (S4).
    """

    client_id: str
    clean: bool
    expiry_s: int
    will: Will | None
    run: bytes
    protocol: int
    only_if: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subs:
    """A SUBSCRIBE or UNSUBSCRIBE of a kept session."""

    client_id: str
    epoch: int
    add: tuple[Subscription, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """The packet id of an outgoing QoS 2 delivery, and its position; none for a retained one."""

    client_id: str
    epoch: int
    packet_id: int
    partition: int | None
    offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detach:
    """The end of a connection.

    Attributes:
        client_id: Whose.
        epoch: Of the connection.
        will: Whether its will is due.
        in_flight: Packet ids of QoS 2 deliveries that are not finished; None if not known.
        sent: (partition, offset) of QoS 1 deliveries whose ack the log does not have; None if not
            known.
        reason: For people.
    """

    client_id: str
    epoch: int
    will: bool
    in_flight: tuple[int, ...] | None = None
    sent: tuple[tuple[int, int], ...] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An edge is alive (E13)."""

    run: bytes
    for_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Retention overtook a worker of the bus (P7): below ``to`` nothing can be read any more."""

    partition: int
    to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A cut in one partition of the bus, and the session's subscriptions from it on.

    Attributes:
        client_id: Whose.
        epoch: Of the connection.
        incarnation: The epoch of the claim that began the session.
        whole: All subscriptions, if it begins delivery.
        add: Those added.
        remove: Filters removed.
    """

    client_id: str
    epoch: int
    incarnation: int
    whole: tuple[Subscription, ...] | None = None
    add: tuple[Subscription, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """A client has acknowledged the deliveries of these offsets."""

    client_id: str
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A publisher has released a packet id that the publish at offset ``since`` opened."""

    client_id: str
    packet_id: int
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The oldest rows of a queue over its limit are gone."""

    client_id: str
    below: int
    count: int


Fact = Claim | Subs | Open | Detach | Lease | Gap | Marker | Ack | Release | Drop
