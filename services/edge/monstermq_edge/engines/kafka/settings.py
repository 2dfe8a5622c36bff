"""From the configuration's sections to what the distributed engine is told."""

from monstermq_edge.engines.limits import hold_limits
from monstermq_shared.config import KIB, BrokerConfig
from monstermq_shared.sessions.distributed.settings import DistributedSettings


def engine_settings(config: BrokerConfig) -> DistributedSettings:
    """What the session engine is told."""
    limits = config.limits
    bus = config.kafka.bus
    expiry = config.queue.session_expiry
    return DistributedSettings(
        in_flight_max=limits.in_flight_per_client,
        open_ids_max=limits.open_qos2_ids_per_client,
        subscriptions_max=limits.subscriptions_per_client,
        topic_levels_max=limits.topic_levels,
        route_cache_max=limits.routing_cache_entries,
        hold=hold_limits(limits),
        overlay_size_max=limits.view_backlog_kb * KIB,
        connect_timeout_s=float(limits.connect_timeout_s),
        lease_s=float(bus.lease_s),
        lateness_ms=bus.lateness_s * 1000,
        protocol_version=bus.protocol_version,
        # At least a second: 0 would be a session that ends with its connection.
        session_expiry_s=None if expiry is None else max(int(expiry.total_seconds()), 1),
        facts_size_max=limits.view_backlog_kb * KIB,
    )
