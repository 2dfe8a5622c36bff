"""What the distributed engine is told once, as the edge takes it from the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass

from monstermq_shared.sessions.backpressure import HoldLimits
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds

KEPT_VERSION = 2
"""The protocol version from which on kept sessions are served (R6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedSettings:
    """What the engine is told once.

    Attributes:
        in_flight_max: Unacknowledged QoS 1 and 2 messages per client.
        open_ids_max: Open inbound QoS 2 ids per client, see ``open_ids``.
        subscriptions_max: Subscriptions per client; more are refused with 0x80.
        topic_levels_max: Levels of a topic name.
        route_cache_max: Routes kept.
        hold: When publishers are held. Its backlog is what was published here and has not been
            read back.
        overlay_size_max: Bytes of retained messages kept until the table shows them.
        connect_timeout_s: How long a CONNECT may wait for its claim to be read back.
        lease_s: How long this edge is alive to others after each lease (E13).
        lateness_ms: How late an append can land (R7).
        protocol_version: 1: kept sessions are refused, so that older edges and workers read what is
            written; 2: they are served (R6).
        session_expiry_s: How long a kept session outlives its connection; None: for ever.
        page_max: Rows of a queue that are read at once for one session.
        facts_size_max: Bytes of session facts kept until the rows of sessions show them (E2).
    """

    in_flight_max: int
    open_ids_max: int
    subscriptions_max: int
    topic_levels_max: int
    route_cache_max: int
    hold: HoldLimits
    overlay_size_max: int
    connect_timeout_s: float
    lease_s: float
    lateness_ms: int
    protocol_version: int = 1
    session_expiry_s: int | None = None
    page_max: int = 500
    facts_size_max: int = 64 * 1024 * 1024

    @property
    def serves_kept(self) -> bool:
        """Whether kept sessions are served."""
        return self.protocol_version >= KEPT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBegin:
    """Where reading begins, and what stands below.

    Attributes:
        messages: Partition -> up to where the table of retained messages is (E1).
        queues: Partition -> up to where the queues of kept sessions are.
        sessions: Partition of the sessions log -> up to where its rows are.
        fences: What is fenced below ``reading`` (R3).
        inbound: The inbound QoS 2 ids that are open below ``queues`` (E8).
    """

    messages: Mapping[int, int]
    queues: Mapping[int, int]
    sessions: Mapping[int, int]
    fences: FenceTable
    inbound: InboundIds

    @property
    def reading(self) -> dict[int, int]:
        """Partition -> where to begin to read it."""
        return {p: min(upto, self.queues[p]) for p, upto in self.messages.items()}
