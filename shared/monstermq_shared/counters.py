"""What the edge counts: plain integers, raised on the hot path by the one thread that runs it.

Nothing here locks, formats or allocates. ``operation.metrics`` and ``operation.system_tree`` turn
the numbers into what people read. A list is indexed by its enumeration, or by the number its
description names: ``counters.dropped[DropReason.QUEUE_FULL_OLDEST] += 1``.
"""

from enum import IntEnum

from monstermq_shared.close_reasons import CloseReason

PACKET_TYPES = (
    "reserved",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
)
"""The names of MQTT's packet types, by the upper four bits of a packet's first byte."""

QOS_LEVELS = 3


class Refusal(IntEnum):
    """Why a connection never got as far as CONNACK with code 0."""

    UNACCEPTABLE_PROTOCOL = 0
    """CONNECT named a protocol or a level we do not speak (CONNACK 1)."""
    IDENTIFIER_REJECTED = 1
    """An empty client id together with clean session 0 or MQTT 3.1 (CONNACK 2)."""
    SERVER_UNAVAILABLE = 2
    """Too much waits for the database to take on more (CONNACK 3)."""
    NOT_AUTHORIZED = 3
    """Its will may not be published: it is on one of the broker's own topics (CONNACK 5)."""
    CONNECTIONS_MAX = 4
    """As many connections as ``Limits`` allows are open."""
    TAKEOVER_RATE = 5
    """Connections with one client id replace each other faster than ``Limits`` allows (CONNACK
    3)."""
    WEBSOCKET_REFUSED = 6
    """The WebSocket handshake was wrong: path, subprotocol, origin or version."""
    SESSIONS_MAX = 7
    """As many sessions as ``Limits`` allows are kept already (CONNACK 3)."""
    KEPT_SESSION = 8
    """A session that outlives its connection, which this bus does not keep (CONNACK 3)."""


class DropReason(IntEnum):
    """Why a message was not delivered to a session that subscribed to it. Each is a choice."""

    QUEUE_FULL_OLDEST = 0
    """The session's queue was full and ``Queue.Policy`` is drop-oldest: the oldest went."""
    QUEUE_FULL_NEWEST = 1
    """The session's queue was full and ``Queue.Policy`` is drop-newest: the new one went."""
    OUTBOX_FULL_QOS0 = 2
    """A QoS 0 delivery to a subscriber that reads too slowly."""
    QUEUEING_DISABLED = 3
    """``QueuedMessagesEnabled`` is false and the session was not connected."""
    SESSION_EXPIRED = 4
    """It waited in the queue of a session that passed ``Queue.SessionExpiry``."""
    SLOW_CONSUMER = 5
    """It was in flight or waiting for a clean session that was closed as a slow consumer."""
    TOPIC_NOT_WRITABLE = 6
    """A client published to ``$SYS``: acknowledged and ignored."""
    LOG_FULL = 7
    """A QoS 0 message for a partition of the log that takes no more for now."""


class Counters:
    """Everything the edge counts since it was started. Every number only grows.

    Attributes:
        bytes_received: MQTT bytes read from clients, after TLS and WebSocket framing are taken off.
        bytes_sent: MQTT bytes handed to the transports.
        publish_received: PUBLISH packets read, by QoS (0 to 2).
        publish_sent: PUBLISH packets written, by QoS (0 to 2), repeated ones included.
        publish_bytes_received: Topic and payload bytes of those read (``MessageRun.size``).
        publish_bytes_sent: The same of those written.
        packets_received: Other packets read, by packet type (0 to 15); PUBLISH stays 0 here,
            because ``publish_received`` has it.
        packets_sent: Other packets written, by packet type; PUBLISH stays 0 here too.
        malformed_packets: Connections closed because their bytes were not an MQTT packet, or not a
            WebSocket frame.
        sockets_opened: Network connections accepted, whatever became of them.
        connections_total: Connections that got CONNACK with code 0.
        connections_refused: Those that did not, by ``Refusal``.
        disconnects: Connections that ended after their CONNECT, or because none came, by
            ``CloseReason``.
        takeovers: Of these, the ones replaced by a newer connection with the same client id.
        clients_maximum: The most clients that were connected at the same time.
        sessions_expired: Persistent sessions removed by ``Queue.SessionExpiry``.
        subscriptions_refused: Filters answered with 0x80 in a SUBACK.
        wills_published: Wills published because a connection ended without DISCONNECT.
        dropped: Messages not delivered, by ``DropReason``.
        duplicates_ignored: Inbound QoS 2 PUBLISH packets whose id was still open: not published
            again [MQTT-4.3.3-2].
        publish_resent: PUBLISH packets written with DUP=1.
        held_publishers: Times a publisher was not read from, because its subscribers or the store
            were behind.
        parked_sessions: Times a slow persistent subscriber was left to its queue rows.
        session_overlay_drops: Times an edge forgot session facts for want of room, because their
            worker is far behind (E2).
        commits: Transactions of the session store's database that succeeded.
        commit_failures: Attempts that failed and were repeated.
        view_commit_failures: The same for views in other databases.
        records_unreadable: Records of the bus that views passed over, because they are not records.
        commit_s: Seconds all successful commits took together.
        rows_written: Rows those commits inserted, replaced or deleted.
        rows_elided: Rows never written, because they were acknowledged before their batch left.
        rows_purged: Rows deleted by retention.
        operation_connections_cut: Connections to the operation port that made room for newer ones.
        clock_steps: Times the wall clock was set while the broker ran.
        faults: Bugs of the broker that came up and were contained; each ended one connection, or
            one run of a maintenance job.
    """

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "clients_maximum",
        "clock_steps",
        "commit_failures",
        "commit_s",
        "commits",
        "connections_refused",
        "connections_total",
        "disconnects",
        "dropped",
        "duplicates_ignored",
        "faults",
        "held_publishers",
        "malformed_packets",
        "operation_connections_cut",
        "packets_received",
        "packets_sent",
        "parked_sessions",
        "publish_bytes_received",
        "publish_bytes_sent",
        "publish_received",
        "publish_resent",
        "publish_sent",
        "records_unreadable",
        "rows_elided",
        "rows_purged",
        "rows_written",
        "session_overlay_drops",
        "sessions_expired",
        "sockets_opened",
        "subscriptions_refused",
        "takeovers",
        "view_commit_failures",
        "wills_published",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.publish_received = [0] * QOS_LEVELS
        self.publish_sent = [0] * QOS_LEVELS
        self.publish_bytes_received = 0
        self.publish_bytes_sent = 0
        self.packets_received = [0] * len(PACKET_TYPES)
        self.packets_sent = [0] * len(PACKET_TYPES)
        self.malformed_packets = 0
        self.sockets_opened = 0
        self.connections_total = 0
        self.connections_refused = [0] * len(Refusal)
        # CloseReason begins at 1; the unused first place keeps indexing free of arithmetic.
        self.disconnects = [0] * (max(CloseReason) + 1)
        self.takeovers = 0
        self.clients_maximum = 0
        self.sessions_expired = 0
        self.subscriptions_refused = 0
        self.wills_published = 0
        self.dropped = [0] * len(DropReason)
        self.duplicates_ignored = 0
        self.publish_resent = 0
        self.held_publishers = 0
        self.parked_sessions = 0
        self.session_overlay_drops = 0
        self.commits = 0
        self.commit_failures = 0
        self.view_commit_failures = 0
        self.records_unreadable = 0
        self.commit_s = 0.0
        self.rows_written = 0
        self.rows_elided = 0
        self.rows_purged = 0
        self.operation_connections_cut = 0
        self.clock_steps = 0
        self.faults = 0

    @property
    def messages_received(self) -> int:
        """MQTT packets of every type read from clients."""
        return sum(self.publish_received) + sum(self.packets_received)

    @property
    def messages_sent(self) -> int:
        """MQTT packets of every type written to clients."""
        return sum(self.publish_sent) + sum(self.packets_sent)
