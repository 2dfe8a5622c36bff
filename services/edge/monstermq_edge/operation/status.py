"""The present state of the broker as numbers, for metrics and ``$SYS``."""

from monstermq_edge.engines.ports import Host
from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.network.hub import Hub
from monstermq_edge.operation.gauges import Gauges
from monstermq_edge.operation.sums import Totals
from monstermq_edge.operation.system_tree import ClientStatistics
from monstermq_shared.clock import Clock
from monstermq_shared.operation.files import resident_bytes


class Status:
    """Reads the host and the hub when somebody asks.

    Attributes:
        totals: Sums over all sessions and connections.
    """

    def __init__(self, host: Host, hub: Hub, clock: Clock) -> None:
        self._host = host
        self._hub = hub
        self.totals = Totals(host.client_ids, host.client, hub.protocols, clock)

    def client(self, client_id: str) -> ClientStatistics | None:
        """Return what ``$SYS`` tells of a client, None if there is no such session."""
        client = self._host.client(client_id)
        if client is None:
            return None
        link = client.link
        return ClientStatistics(
            client_id=client_id,
            connected=link is not None,
            last_ping_ms=(link.last_ping_ms or None) if isinstance(link, Connection) else None,
            in_flight_received=client.in_flight_received,
            in_flight_sent=client.in_flight_sent,
        )

    def gauges(self) -> Gauges:
        """Return the readings, for metrics and ``$SYS``."""
        host = self._host.gauges
        sums = self.totals.current
        return Gauges(
            host=host,
            connections_open=lambda: len(self._hub.protocols),
            queued_messages=lambda: sums().queued_messages,
            queued_bytes=lambda: sums().queued_bytes,
            in_flight_messages=lambda: sums().in_flight_messages,
            open_ids=lambda: sums().open_ids,
            open_ids_bytes=lambda: sums().open_ids * host.open_id_size,
            held_connections=lambda: sums().held_connections,
            outbox_bytes=lambda: sums().outbox_bytes,
            resident_bytes=resident_bytes,
        )
