"""Every bound a client can run into: default, range, and how they hang together."""

from typing import Annotated

from pydantic import Field

from monstermq_shared.config.fields import Section

KIB = 1024
"""Bytes in a unit of the keys that end in ``Kb``."""
MAX_MESSAGE_SIZE_KB = 512
"""The default of ``MaxMessageSizeKb``."""
PACKET_ID_MAX = 65_535
"""There are no more packet identifiers than this [MQTT-2.3.1-1]."""

# What a packet grows by between its arrival and its delivery: a packet id and a longer length.
_FRAME_OVERHEAD_KB = 1


def _count(minimum: int, maximum: int) -> object:
    return Field(strict=True, ge=minimum, le=maximum)


Kilobytes = Annotated[int, _count(1, 64 * 1024 * 1024)]


class Limits(Section):
    """Bounds for clients. Reaching one closes or refuses that client alone, and is counted."""

    topic_levels: Annotated[int, _count(1, 65_535)] = 200
    """Levels of a topic name or filter."""
    topic_length_max: Annotated[int, _count(16, 65_535)] = 65_535
    """Bytes of a topic name or filter, in UTF-8; MQTT's own limit is 65535."""
    filters_per_subscribe: Annotated[int, _count(1, 65_535)] = 1_000
    """Topic filters in one SUBSCRIBE packet; those beyond are answered with 0x80."""
    subscriptions_per_client: Annotated[int, _count(1, 10_000_000)] = 10_000
    """Subscriptions one session may hold; one more is refused with 0x80."""
    in_flight_per_client: Annotated[int, _count(1, PACKET_ID_MAX)] = 100
    """QoS 1 and 2 messages sent to a client and not yet acknowledged."""
    open_qos2_ids_per_client: Annotated[int, _count(1, PACKET_ID_MAX)] = PACKET_ID_MAX
    """QoS 2 messages a client may leave without PUBREL, each 100 bytes; more end its connection."""
    outbox_kb: Kilobytes = 4_096
    """Bytes waiting for one client's socket; above it QoS 0 messages to this client are dropped."""
    pending_messages_per_client: Annotated[int, _count(1, 10_000_000)] = 4_000
    """Messages for an online client beyond its window, before their publishers are held."""
    pending_kb_per_client: Kilobytes = 4_096
    """The same in bytes."""
    connections: Annotated[int, _count(1, 10_000_000)] = 100_000
    """Network connections, all ports together; one more is closed at once."""
    sessions: Annotated[int, _count(1, 10_000_000)] = 1_000_000
    """Sessions, connected or away; beyond them no new persistent one begins (CONNACK code 3)."""
    connect_timeout_s: Annotated[int, _count(1, 3_600)] = 10
    """Seconds from the opening of a connection to its complete CONNECT; on Kafka as many again
    until that can be answered."""
    takeovers_per_minute: Annotated[int, _count(1, 1_000_000)] = 60
    """How often a client id may be taken over by a new connection; faster ones are refused."""
    keep_alive_max_s: Annotated[int, _count(0, 65_535)] = 0
    """Clients with a longer keep-alive, or none, get this one; 0: any is honoured."""
    routing_cache_entries: Annotated[int, _count(1, 100_000_000)] = 65_536
    """Distinct topics whose receivers are remembered, at less than 1 KiB each on average."""
    commit_backlog_kb: Kilobytes = 16_384
    """Bytes waiting for the database, before sockets are no longer read."""
    view_backlog_kb: Kilobytes = 65_536
    """KiB that views outside the session store's database may be behind; then publishers wait."""
    slow_consumer_hold_s: Annotated[float, Field(strict=True, ge=0, le=3_600)] = 5.0
    """Seconds that a slow subscriber holds its publishers back; see docs/guarantees.md."""


def _floors(limits: Limits, max_message_size_kb: int) -> dict[str, tuple[int, str]]:
    """Return, for each limit that depends on another key, its least value and that key."""
    message_kb = max_message_size_kb + _FRAME_OVERHEAD_KB
    return {
        # Whatever the broker accepts, it can deliver, hold and commit.
        "outbox_kb": (message_kb, "MaxMessageSizeKb and 1"),
        "pending_kb_per_client": (message_kb, "MaxMessageSizeKb and 1"),
        "commit_backlog_kb": (message_kb, "MaxMessageSizeKb and 1"),
        "view_backlog_kb": (message_kb, "MaxMessageSizeKb and 1"),
        # A whole window that comes back unacknowledged can wait for its client.
        "pending_messages_per_client": (
            limits.in_flight_per_client,
            "Limits.InFlightPerClient",
        ),
    }


def fitted(limits: Limits, max_message_size_kb: int) -> Limits:
    """Raise the limits nobody has set to what the keys they depend on need."""
    raised = {
        name: floor
        for name, (floor, _) in _floors(limits, max_message_size_kb).items()
        if name not in limits.model_fields_set and getattr(limits, name) < floor
    }
    return limits.model_copy(update=raised)


def broken_relations(limits: Limits, max_message_size_kb: int) -> list[str]:
    """Return, for each limit below what it depends on, a sentence that names both keys."""
    return [
        f"Limits.{Limits.model_fields[name].alias} is {getattr(limits, name)}, less than {key}: "
        f"write {floor} or more, or leave it out"
        for name, (floor, key) in _floors(limits, max_message_size_kb).items()
        if getattr(limits, name) < floor
    ]


assert not broken_relations(Limits(), MAX_MESSAGE_SIZE_KB)
