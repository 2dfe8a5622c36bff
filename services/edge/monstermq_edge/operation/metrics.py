"""The counters and gauges as Prometheus metrics, read when a scrape asks and at no other time.

Names begin with ``monstermq_``; counters end in ``_total``. What can have several reasons is split
by a label, so that a drop is never just a drop. ``docs/operation.md`` lists every name.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monstermq_edge.engines.ports import Readings
from monstermq_edge.operation.gauges import Gauges
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import PACKET_TYPES, Counters, DropReason, Refusal
from monstermq_shared.operation.metrics import build_info, counted, registry_with

_PUBLISH = PACKET_TYPES.index("publish")

_COUNTERS: tuple[tuple[str, str, Callable[[Counters], float]], ...] = (
    ("bytes_received", "MQTT bytes read from clients.", lambda c: c.bytes_received),
    ("bytes_sent", "MQTT bytes written to clients.", lambda c: c.bytes_sent),
    (
        "publish_bytes_received",
        "Topic and payload bytes of PUBLISH packets read.",
        lambda c: c.publish_bytes_received,
    ),
    (
        "publish_bytes_sent",
        "Topic and payload bytes of PUBLISH packets written.",
        lambda c: c.publish_bytes_sent,
    ),
    (
        "publish_resent",
        "PUBLISH packets written with DUP=1.",
        lambda c: c.publish_resent,
    ),
    (
        "duplicates_ignored",
        "Inbound QoS 2 PUBLISH packets whose id was still open.",
        lambda c: c.duplicates_ignored,
    ),
    (
        "malformed_packets",
        "Connections closed because their bytes were not an MQTT packet.",
        lambda c: c.malformed_packets,
    ),
    ("sockets_opened", "Network connections accepted.", lambda c: c.sockets_opened),
    ("connections", "Connections that got CONNACK with code 0.", lambda c: c.connections_total),
    ("takeovers", "Connections replaced by a newer one.", lambda c: c.takeovers),
    ("sessions_expired", "Persistent sessions that expired.", lambda c: c.sessions_expired),
    (
        "subscriptions_refused",
        "Filters answered with 0x80 in a SUBACK.",
        lambda c: c.subscriptions_refused,
    ),
    ("wills_published", "Wills published at an ungraceful end.", lambda c: c.wills_published),
    ("held_publishers", "Times a publisher was held back.", lambda c: c.held_publishers),
    (
        "parked_sessions",
        "Times a slow persistent subscriber was left to its queue rows.",
        lambda c: c.parked_sessions,
    ),
    (
        "session_overlay_drops",
        "Times session facts were forgotten because their worker is far behind.",
        lambda c: c.session_overlay_drops,
    ),
    ("commits", "Transactions that succeeded.", lambda c: c.commits),
    ("commit_failures", "Transactions that failed and were repeated.", lambda c: c.commit_failures),
    (
        "view_commit_failures",
        "Transactions of views in other databases that failed and were repeated.",
        lambda c: c.view_commit_failures,
    ),
    (
        "records_unreadable",
        "Records that views passed over because they could not be decoded.",
        lambda c: c.records_unreadable,
    ),
    ("commit_seconds", "Seconds all successful commits took.", lambda c: c.commit_s),
    ("rows_written", "Rows inserted, replaced or deleted.", lambda c: c.rows_written),
    (
        "rows_elided",
        "Rows never written, because they were acknowledged before their batch left.",
        lambda c: c.rows_elided,
    ),
    (
        "operation_connections_cut",
        "Connections to the operation port that made room for newer ones.",
        lambda c: c.operation_connections_cut,
    ),
    ("faults", "Bugs of the broker that came up, each logged.", lambda c: c.faults),
    ("clock_steps", "Times the wall clock was set.", lambda c: c.clock_steps),
    ("rows_purged", "Rows deleted by retention or for want of disk.", lambda c: c.rows_purged),
)

_GAUGES: tuple[tuple[str, str, Callable[[Gauges], Callable[[], float]]], ...] = (
    ("clients_connected", "Clients connected now.", lambda g: g.host.clients_connected),
    ("connections_open", "Network connections open now.", lambda g: g.connections_open),
    ("sessions", "Sessions, connected or not.", lambda g: g.host.sessions),
    ("subscriptions", "Subscriptions of all sessions.", lambda g: g.host.subscriptions),
    ("retained_messages", "Topics with a retained message.", lambda g: g.host.retained_messages),
    (
        "kept_sessions_waiting",
        "Kept sessions that wait for rows of a projector, in the partition where most do.",
        lambda g: g.host.kept_sessions_waiting,
    ),
    ("queued_messages", "Messages queued for sessions.", lambda g: g.queued_messages),
    ("queued_bytes", "Payload bytes queued for sessions.", lambda g: g.queued_bytes),
    (
        "in_flight_messages",
        "QoS 1 and 2 messages sent and not yet acknowledged.",
        lambda g: g.in_flight_messages,
    ),
    ("open_ids", "Inbound QoS 2 packet ids without PUBREL.", lambda g: g.open_ids),
    ("open_ids_bytes", "About the memory they take.", lambda g: g.open_ids_bytes),
    ("held_connections", "Connections not being read from now.", lambda g: g.held_connections),
    ("outbox_bytes", "Bytes waiting in all outboxes.", lambda g: g.outbox_bytes),
    ("commit_backlog_bytes", "Bytes waiting for a commit.", lambda g: g.host.commit_backlog_bytes),
    (
        "commit_backlog_bound_bytes",
        "The backlog from which publishers are held.",
        lambda g: g.host.commit_backlog_bound_bytes,
    ),
    ("tap_readers", "Readers of the bus beside the views.", lambda g: g.host.tap_readers),
    ("tap_bytes", "Bytes of records kept for readers of the bus.", lambda g: g.host.tap_bytes),
    (
        "routing_cache_entries",
        "Topics in the routing cache.",
        lambda g: g.host.routing_cache_entries,
    ),
    (
        "view_backlog_bound_bytes",
        "What a database's views may be behind before publishers are held.",
        lambda g: g.host.view_backlog_bound_bytes,
    ),
    ("database_bytes", "Size of the session store's database.", lambda g: g.host.database_bytes),
    (
        "topics_noted",
        "Changes of topics that the index for searches does not show yet.",
        lambda g: g.host.topics_noted,
    ),
)

_LAGS: tuple[tuple[str, str, str, Callable[[Gauges], Readings]], ...] = (
    (
        "projection_lag_records",
        "Records a projection has not committed yet.",
        "projection",
        lambda g: g.host.projection_lag_records,
    ),
    (
        "projection_lag_seconds",
        "Age of the oldest record a projection has not committed yet.",
        "projection",
        lambda g: g.host.projection_lag_s,
    ),
    (
        "partitions_unfollowed",
        "Partitions whose rows stand still although kept sessions wait for them.",
        "projection",
        lambda g: g.host.partitions_unfollowed,
    ),
    (
        "view_backlog_bytes",
        "Bytes that the views in a database beside the session store's have not committed.",
        "database",
        lambda g: g.host.view_backlog_bytes,
    ),
)


def build_registry(counters: Counters, gauges: Gauges, *, version: str) -> CollectorRegistry:
    """Make a registry of its own with our metrics, the process's and the garbage collector's."""
    return registry_with(EdgeCollector(counters, gauges, version))


class EdgeCollector(Collector):
    """Reads counters and gauges when it is asked to; nothing is copied in between."""

    def __init__(self, counters: Counters, gauges: Gauges, version: str) -> None:
        self._counters = counters
        self._gauges = gauges
        self._version = version

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not already read the gauges."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family with its present value."""
        yield build_info(self._version)
        yield from counted(_COUNTERS, self._counters)
        yield CounterMetricFamily(
            "monstermq_tap_dropped",
            "Records dropped before every reader of the bus had them.",
            value=self._gauges.host.tap_dropped(),
        )
        yield from self._split_counters()
        yield from self._present()

    def _split_counters(self) -> Iterator[Metric]:
        """Yield the counters that have a label."""
        counters = self._counters
        received = _by_qos(counters.publish_received)
        yield _split("publish_received", "PUBLISH packets read.", "qos", received)
        sent = _by_qos(counters.publish_sent)
        yield _split("publish_sent", "PUBLISH packets written.", "qos", sent)
        received = _by_type(counters.packets_received, counters.publish_received)
        yield _split("packets_received", "Packets read, by type.", "type", received)
        sent = _by_type(counters.packets_sent, counters.publish_sent)
        yield _split("packets_sent", "Packets written, by type.", "type", sent)
        refused = _by_reason(Refusal, counters.connections_refused)
        yield _split("connections_refused", "Connections refused.", "reason", refused)
        ended = _by_reason(CloseReason, counters.disconnects)
        yield _split("disconnects", "Connections that ended.", "reason", ended)
        dropped = _by_reason(DropReason, counters.dropped)
        yield _split("messages_dropped", "Messages not delivered.", "reason", dropped)

    def _present(self) -> Iterator[Metric]:
        """Yield what is held now."""
        maximum = self._counters.clients_maximum
        yield GaugeMetricFamily("monstermq_clients_maximum", "Most clients at one time.", maximum)
        for name, text, reading in _GAUGES:
            yield GaugeMetricFamily(f"monstermq_{name}", text, reading(self._gauges)())
        for name, text, label, lags in _LAGS:
            family = GaugeMetricFamily(f"monstermq_{name}", text, labels=[label])
            for value, lag in lags(self._gauges)().items():
                family.add_metric([value], lag)
            yield family


def _split(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = CounterMetricFamily(f"monstermq_{name}", text, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _by_qos(counts: Sequence[int]) -> list[tuple[str, float]]:
    return [(str(qos), count) for qos, count in enumerate(counts)]


def _by_type(others: Sequence[int], publish: Sequence[int]) -> list[tuple[str, float]]:
    """Put PUBLISH, which is counted by QoS, in its place among the other packet types."""
    counts = list(others)
    counts[_PUBLISH] = sum(publish)
    return list(zip(PACKET_TYPES, counts, strict=True))


def _by_reason(reasons: type[IntEnum], counts: Sequence[int]) -> list[tuple[str, float]]:
    return [(reason.name.lower(), counts[reason]) for reason in reasons]
