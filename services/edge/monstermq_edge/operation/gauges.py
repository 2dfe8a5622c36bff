"""What the edge holds right now, as callables that are asked when somebody looks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Reading = Callable[[], float]
"""Asked at every scrape and ``$SYS`` tick: must be cheap, do no I/O and never raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """How the present state is read. The composition root fills in every one.

    Attributes:
        clients_connected: Clients with a CONNACK and no end yet.
        connections_open: Network connections, those before CONNECT included.
        sessions: Sessions, connected or not.
        subscriptions: Subscriptions of all sessions.
        retained_messages: Topics with a retained message.
        queued_messages: Queue rows of all persistent sessions.
        queued_bytes: Their payload bytes.
        in_flight_messages: QoS 1 and 2 messages sent and not yet acknowledged to the end.
        open_ids: Inbound QoS 2 packet ids without PUBREL so far.
        open_ids_bytes: About the memory they take.
        held_connections: Connections that are not being read from at present.
        outbox_bytes: Bytes waiting in the outboxes of all connections.
        commit_backlog_bytes: Bytes of changes that wait for their commit, or are being committed.
        commit_backlog_bound_bytes: From which backlog on publishers are held.
        tap_readers: Who reads the bus beside the views.
        tap_bytes: Bytes of the records kept for them.
        tap_dropped: Records that were not kept until all of them had read them; it only grows.
        routing_cache_entries: Topics whose match is remembered.
        database_bytes: What the session store's database takes on disk, or in memory.
        resident_bytes: Physical memory of the process, see ``files.resident_bytes``.
        projection_lag_records: Projection -> records it has not committed yet.
        projection_lag_s: Projection -> age in seconds of the oldest of them, 0 if there is none.
    """

    clients_connected: Reading
    connections_open: Reading
    sessions: Reading
    subscriptions: Reading
    retained_messages: Reading
    queued_messages: Reading
    queued_bytes: Reading
    in_flight_messages: Reading
    open_ids: Reading
    open_ids_bytes: Reading
    held_connections: Reading
    outbox_bytes: Reading
    commit_backlog_bytes: Reading
    commit_backlog_bound_bytes: Reading
    tap_readers: Reading
    tap_bytes: Reading
    tap_dropped: Reading
    routing_cache_entries: Reading
    database_bytes: Reading
    resident_bytes: Reading
    projection_lag_records: Callable[[], Mapping[str, float]]
    projection_lag_s: Callable[[], Mapping[str, float]]
