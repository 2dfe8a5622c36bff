"""What the edge holds right now, as callables that are asked when somebody looks."""

from dataclasses import dataclass

from monstermq_edge.engines.ports import HostGauges, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """How the present state is read. The composition root fills in every one.

    Attributes:
        host: What the engine and its databases hold.
        connections_open: Network connections, those before CONNECT included.
        queued_messages: Queue rows of all persistent sessions.
        queued_bytes: Their payload bytes.
        in_flight_messages: QoS 1 and 2 messages sent and not yet acknowledged to the end.
        open_ids: Inbound QoS 2 packet ids without PUBREL so far.
        open_ids_bytes: About the memory they take.
        held_connections: Connections that are not being read from at present.
        outbox_bytes: Bytes waiting in the outboxes of all connections.
        resident_bytes: Physical memory of the process, see ``files.resident_bytes``.
    """

    host: HostGauges
    connections_open: Reading
    queued_messages: Reading
    queued_bytes: Reading
    in_flight_messages: Reading
    open_ids: Reading
    open_ids_bytes: Reading
    held_connections: Reading
    outbox_bytes: Reading
    resident_bytes: Reading
