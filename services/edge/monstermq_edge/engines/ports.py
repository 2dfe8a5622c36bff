"""What the edge asks of a session engine with all that surrounds it: a *host*.

The edge knows this port only. Each host is built by a module of its own: the local one opens
databases and commits turns, another one would speak to a bus.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from monstermq_shared.bus.ports import BusPort
from monstermq_shared.errors import MonsterError
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Link, SessionPort

SystemValues = Callable[[str], "list[tuple[str, bytes]]"]
"""Filter -> the ``$SYS`` topics it matches, with their values."""

Reading = Callable[[], float]
"""Asked at every scrape and ``$SYS`` tick: must be cheap, do no I/O and never raise."""

Readings = Callable[[], Mapping[str, float]]
"""The same for several of a kind, by name."""


class ClientReading(NamedTuple):
    """What an engine holds for one client.

    Attributes:
        link: Its connection, None while there is none.
        in_flight_received: Inbound QoS 2 messages whose exchange is not complete.
        in_flight_sent: Outbound QoS 1 and 2 messages whose exchange is not complete.
        queued_messages: Messages queued for it.
        queued_size: Bytes of them.
    """

    link: Link | None
    in_flight_received: int
    in_flight_sent: int
    queued_messages: int
    queued_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGauges:
    """What a host holds right now.

    Attributes:
        clients_connected: Clients with a CONNACK and no end yet.
        sessions: Sessions, connected or not.
        subscriptions: Subscriptions of all sessions.
        retained_messages: Topics with a retained message.
        open_id_size: Bytes an inbound QoS 2 packet id takes, about.
        commit_backlog_bytes: Bytes of changes that wait for their commit, or are being committed.
        commit_backlog_bound_bytes: From which backlog on publishers are held.
        tap_readers: Who reads the bus beside the views.
        tap_bytes: Bytes of the records kept for them.
        tap_dropped: Records that were not kept until all of them had read them; it only grows.
        routing_cache_entries: Topics whose match is remembered.
        database_bytes: What the session store's database takes on disk, or in memory.
        topics_noted: Changes of topics that the index for searches does not show yet, about.
        projection_lag_records: Projection -> records it has not committed yet.
        projection_lag_s: Projection -> age in seconds of the oldest of them, 0 if there is none.
        view_backlog_bytes: Database -> bytes that the views in it have not committed.
        view_backlog_bound_bytes: From which backlog on their publishers are held.
        kept_sessions_waiting: On a bus: kept sessions that wait for rows of a projector, of the
            partition for which most do.
        partitions_unfollowed: Projection -> partitions whose rows stand still, and are waited for.
    """

    clients_connected: Reading
    sessions: Reading
    subscriptions: Reading
    retained_messages: Reading
    open_id_size: int
    commit_backlog_bytes: Reading
    commit_backlog_bound_bytes: Reading
    tap_readers: Reading
    tap_bytes: Reading
    tap_dropped: Reading
    routing_cache_entries: Reading
    database_bytes: Reading
    topics_noted: Reading
    projection_lag_records: Readings
    projection_lag_s: Readings
    view_backlog_bytes: Readings
    view_backlog_bound_bytes: Reading
    kept_sessions_waiting: Reading
    partitions_unfollowed: Readings


class Watched(Protocol):
    """Who subscribes to ``$SYS``.

    Attributes:
        topics: Subscriptions that can match ``$SYS`` topics.
        clients: Those of them that can match the statistics of clients.
    """

    topics: int
    clients: int


class Host(Protocol):
    """A session engine with all that surrounds it.

    Attributes:
        gauges: What it holds.
    """

    gauges: HostGauges

    @property
    def port(self) -> SessionPort[Any]:
        """What connections ask."""
        ...

    @property
    def bus(self) -> BusPort:
        """Where messages go; there is one from ``open`` on."""
        ...

    async def open(self) -> None:
        """Open what it stands on, and restore the sessions. Nobody may connect before.

        Raises:
            StartupError, ConfigError, StoreError: It cannot; nothing is left open.
        """
        ...

    def start(self, touch: Callable[[], None]) -> None:
        """Begin to work.

        Args:
            touch: Makes sure that the loop turn is finished, after something has happened.
        """
        ...

    async def live(self) -> None:
        """Return when clients may be let in: after ``start``.

        Raises:
            MonsterError: That will never be.
        """
        ...

    def end_turn(self) -> bool:
        """See ``hub.TurnEnd``."""
        ...

    def tick(self, now_s: float, wall_ms: int, *, clock_was_set: bool) -> None:
        """Do what time causes, once a second."""
        ...

    async def drain(self, *, within_s: float) -> bool:
        """Commit all there is, for at most so long; return whether that was enough."""
        ...

    async def stop(self) -> None:
        """Work no more and close what was opened. It may be called however far ``open`` came."""
        ...

    def readiness(self) -> list[str]:
        """Return why clients should not be sent here now."""
        ...

    def concerns(self) -> list[str]:
        """Return what is wrong although clients may be sent here, with what to do."""
        ...

    # -- $SYS ------------------------------------------------------------------------------------

    @property
    def system_watchers(self) -> Watched:
        """Whether somebody wants to know."""
        ...

    def publish_system(self, run: MessageRun) -> int:
        """Publish a ``$SYS`` message to subscribers only; return how many there were."""
        ...

    @property
    def client_ids(self) -> Collection[str]:
        """The ids of all sessions."""
        ...

    def client(self, client_id: str) -> ClientReading | None:
        """Return what it holds for a client, None if there is no such session."""
        ...


Fail = Callable[[MonsterError], None]
"""Told once of an error after which the process must stop."""
