"""What an edge on Kafka holds right now."""

from collections.abc import Callable

from monstermq_edge.engines.ports import HostGauges
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.config import KIB, BrokerConfig
from monstermq_shared.sessions.distributed.engine import DistributedEngine
from monstermq_shared.sessions.session import OPEN_ID_SIZE
from monstermq_shared.views.catalogue import QUEUES, RETAINED_VIEW


def host_gauges(
    engine: DistributedEngine,
    bus: KafkaBus,
    config: BrokerConfig,
    queue_lag: Callable[[], int | None],
    unfollowed: Callable[[], dict[str, float]],
) -> HostGauges:
    """Return them.

    Args:
        engine: Asked for what it has.
        bus: Asked for what waits for Kafka.
        config: Its bounds.
        queue_lag: Records that were read here and that the queues of kept sessions do not reflect;
            None where there are no queues.
        unfollowed: Projection -> partitions that no projector follows.
    """
    sessions = engine.connections.sessions
    in_flight = config.kafka.bus.in_flight_kb_per_partition * KIB

    def lags() -> dict[str, float]:
        found = {RETAINED_VIEW: float(engine.retained_lag)}
        lag = queue_lag()
        return found if lag is None else {**found, QUEUES: float(lag)}

    return HostGauges(
        clients_connected=lambda: len(sessions),
        sessions=lambda: len(sessions),
        subscriptions=lambda: len(engine.router),
        retained_messages=_zero,
        open_id_size=OPEN_ID_SIZE,
        commit_backlog_bytes=lambda: bus.messages.backlog_size + bus.sessions.backlog_size,
        commit_backlog_bound_bytes=lambda: in_flight * bus.messages.partitions,
        tap_readers=_zero,
        tap_bytes=_zero,
        tap_dropped=_zero,
        routing_cache_entries=lambda: engine.router.cached,
        database_bytes=_zero,
        topics_noted=_zero,
        projection_lag_records=lags,
        projection_lag_s=dict,
        view_backlog_bytes=lambda: {"overlay": engine.overlay.size},
        kept_sessions_waiting=lambda: max(engine.queue_waits.values(), default=0),
        partitions_unfollowed=unfollowed,
        view_backlog_bound_bytes=lambda: config.limits.view_backlog_kb * KIB,
    )


def _zero() -> float:
    return 0.0
