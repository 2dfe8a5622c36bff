"""What every engine is told of the limits of clients."""

from monstermq_shared.config import KIB, Limits
from monstermq_shared.sessions.backpressure import HoldLimits


def hold_limits(limits: Limits) -> HoldLimits:
    """Return when publishers are held."""
    return HoldLimits(
        pending_max=limits.pending_messages_per_client,
        pending_size_max=limits.pending_kb_per_client * KIB,
        backlog_size_max=limits.commit_backlog_kb * KIB,
        patience_s=limits.slow_consumer_hold_s,
    )
