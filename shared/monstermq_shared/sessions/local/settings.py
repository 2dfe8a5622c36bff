"""What the local engine is told once, as the edge takes it from the configuration."""

from dataclasses import dataclass

from monstermq_shared.sessions.backpressure import HoldLimits
from monstermq_shared.sessions.local.queue import QueueLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the engine is told once.

    Attributes:
        in_flight_max: Unacknowledged QoS 1 and 2 messages per client.
        open_ids_max: Open inbound QoS 2 ids per client, see ``open_ids``.
        sessions_max: Sessions; beyond them no persistent one is to begin.
        subscriptions_max: Subscriptions per client; more are refused with 0x80.
        topic_levels_max: Levels of a topic name.
        route_cache_max: Routes kept.
        queue: What may be queued for a session.
        hold: When publishers are held.
        session_expiry_s: A session without connection ends after this; None: never.
    """

    in_flight_max: int
    open_ids_max: int
    sessions_max: int
    subscriptions_max: int
    topic_levels_max: int
    route_cache_max: int
    queue: QueueLimits
    hold: HoldLimits
    session_expiry_s: float | None
