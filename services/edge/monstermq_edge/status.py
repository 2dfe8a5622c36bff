"""The present state of the broker as numbers, for metrics and ``$SYS``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.operation.files import resident_bytes
from monstermq_edge.operation.gauges import Gauges
from monstermq_shared.counters import Counters
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.session import OPEN_ID_SIZE

if TYPE_CHECKING:
    from monstermq_edge.broker import Broker


class Status:
    """Reads the broker's parts when somebody asks; sums over all sessions cost a walk each."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker

    @property
    def counters(self) -> Counters:
        """What the broker counts."""
        return self._broker.counters

    def last_pings(self) -> dict[str, int]:
        """Return when each connected client's last PINGREQ came, microseconds since 1970."""
        return {c.client_id: c.last_ping_us for c in self._connections() if c.last_ping_us}

    def gauges(self) -> Gauges:
        """Return the readings, for metrics and ``$SYS``."""
        engine = self._broker.engine
        sessions = engine.sessions
        views = self._broker.views
        return Gauges(
            clients_connected=lambda: engine.connected,
            connections_open=lambda: len(self._broker.hub.protocols),
            sessions=lambda: len(sessions),
            subscriptions=lambda: len(engine.router),
            retained_messages=lambda: views.retained_count,
            queued_messages=lambda: sum(s.queued for s in self._persistent()),
            queued_bytes=lambda: sum(s.queued_size for s in self._persistent()),
            in_flight_messages=lambda: sum(len(s.in_flight) for s in sessions.values()),
            open_ids=lambda: sum(len(s.open_ids or ()) for s in sessions.values()),
            open_ids_bytes=lambda: (
                OPEN_ID_SIZE * sum(len(s.open_ids or ()) for s in sessions.values())
            ),
            held_connections=lambda: sum(c.stops_reading for c in self._connections()),
            outbox_bytes=lambda: sum(c.waiting_size for c in self._connections()),
            commit_backlog_bytes=lambda: engine.journal.backlog_size,
            commit_backlog_bound_bytes=lambda: engine.settings.hold.backlog_size_max,
            tap_readers=lambda: self._broker.bus.messages.readers,
            tap_bytes=lambda: self._broker.bus.messages.kept.size,
            tap_dropped=lambda: self._broker.bus.messages.kept.dropped,
            routing_cache_entries=lambda: engine.router.cached,
            database_bytes=lambda: views.database_size,
            resident_bytes=resident_bytes,
            projection_lag_records=lambda: dict.fromkeys(
                views.projection_names, float(engine.journal.backlog_records)
            ),
            projection_lag_s=lambda: dict.fromkeys(
                views.projection_names, engine.journal.backlog_age_s(self._broker.wall_us())
            ),
        )

    def _connections(self) -> Iterator[Connection]:
        for protocol in self._broker.hub.protocols:
            if protocol.connection is not None:
                yield protocol.connection

    def _persistent(self) -> Iterator[PersistentSession]:
        for session in self._broker.engine.sessions.values():
            if isinstance(session, PersistentSession):
                yield session
