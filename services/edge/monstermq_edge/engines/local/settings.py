"""From the configuration's sections to what the local engine is told."""

from monstermq_edge.engines.limits import hold_limits
from monstermq_shared.config import BrokerConfig, QueuePolicy
from monstermq_shared.sessions.local.queue import QueueLimits
from monstermq_shared.sessions.local.settings import EngineSettings


def engine_settings(config: BrokerConfig) -> EngineSettings:
    """What the session engine is told."""
    limits = config.limits
    expiry = config.queue.session_expiry
    return EngineSettings(
        in_flight_max=limits.in_flight_per_client,
        open_ids_max=limits.open_qos2_ids_per_client,
        sessions_max=limits.sessions,
        subscriptions_max=limits.subscriptions_per_client,
        topic_levels_max=limits.topic_levels,
        route_cache_max=limits.routing_cache_entries,
        queue=QueueLimits(
            enabled=config.queued_messages_enabled,
            messages_max=config.queue.max_messages,
            size_max=config.queue.max_bytes,
            drop_oldest=config.queue.policy is QueuePolicy.DROP_OLDEST,
            tail_max=limits.pending_messages_per_client,
        ),
        hold=hold_limits(limits),
        session_expiry_s=None if expiry is None else expiry.total_seconds(),
    )
