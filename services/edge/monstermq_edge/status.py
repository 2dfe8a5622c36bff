"""The present state of the broker as numbers, for metrics and ``$SYS``."""

from typing import TYPE_CHECKING

from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.operation.files import resident_bytes
from monstermq_edge.operation.gauges import Gauges
from monstermq_edge.operation.sys_topics import ClientStatistics
from monstermq_edge.sums import Totals
from monstermq_shared.clock import Clock
from monstermq_shared.counters import Counters
from monstermq_shared.sessions.local.session import OPEN_ID_SIZE

if TYPE_CHECKING:
    from monstermq_edge.broker import Broker


class Status:
    """Reads the broker's parts when somebody asks.

    Attributes:
        totals: Sums over all sessions and connections.
    """

    def __init__(self, broker: "Broker", clock: Clock) -> None:
        self._broker = broker
        self.totals = Totals(broker.engine.sessions, broker.hub.protocols, clock)

    @property
    def counters(self) -> Counters:
        """What the broker counts."""
        return self._broker.counters

    def client(self, client_id: str) -> ClientStatistics | None:
        """Return what ``$SYS`` tells of a client, None if there is no such session."""
        session = self._broker.engine.sessions.get(client_id)
        if session is None:
            return None
        link = session.link
        return ClientStatistics(
            client_id=client_id,
            connected=link is not None,
            last_ping_ms=(link.last_ping_ms or None) if isinstance(link, Connection) else None,
            in_flight_received=len(session.open_ids or ()),
            in_flight_sent=len(session.in_flight),
        )

    def gauges(self) -> Gauges:
        """Return the readings, for metrics and ``$SYS``."""
        engine = self._broker.engine
        views = self._broker.views
        sums = self.totals.current
        return Gauges(
            clients_connected=lambda: engine.connected,
            connections_open=lambda: len(self._broker.hub.protocols),
            sessions=lambda: len(engine.sessions),
            subscriptions=lambda: len(engine.router),
            retained_messages=lambda: views.retained_count,
            queued_messages=lambda: sums().queued_messages,
            queued_bytes=lambda: sums().queued_bytes,
            in_flight_messages=lambda: sums().in_flight_messages,
            open_ids=lambda: sums().open_ids,
            open_ids_bytes=lambda: sums().open_ids * OPEN_ID_SIZE,
            held_connections=lambda: sums().held_connections,
            outbox_bytes=lambda: sums().outbox_bytes,
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
                views.projection_names, engine.journal.backlog_age_s(self._broker.wall_ms())
            ),
        )
