"""Publishes the ``$SYS`` tree to those who subscribe to it, and to nobody else.

It is in no log and no table (ARCHITECTURE 11.17).
"""

from collections.abc import Iterator

from monstermq_edge.hub import Hub
from monstermq_edge.operation.sys_topics import ClientStatistics, ClientTopics, SysTopics
from monstermq_edge.status import Status
from monstermq_shared.config import Sys
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.local import LocalEngine
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.topics import is_system_topic, matches

CLIENTS_MAX = 1_000
"""Clients whose statistics are looked at in one tick, so that the loop gets its turn."""

_CLIENT_LEVELS = (["clients"], ["+"], ["#"])
"""The second level, if any, of filters that can match a client's statistics."""


class SystemTopicPublisher:
    """Builds and publishes values once per interval, while a ``$SYS`` subscription exists."""

    def __init__(
        self, engine: LocalEngine, hub: Hub, status: Status, config: Sys, version: str
    ) -> None:
        self._engine = engine
        self._config = config
        started_s = hub.clock.monotonic()
        self._now_s = started_s
        self._next_s = started_s + config.interval_s
        self._status = status
        self._topics = SysTopics(
            status.counters,
            status.gauges(),
            version=version,
            started_s=started_s,
            started_us=hub.clock.wall_us(),
        )
        self._clients = ClientTopics()
        self._remaining: list[Session] = []

    def tick(self, now_s: float) -> None:
        """Once a second: publish what has changed, when somebody wants to know."""
        self._now_s = now_s
        due = now_s >= self._next_s
        if due:
            self._next_s = now_s + self._config.interval_s
            self._topics.tick(now_s)
        filters = self._engine.system_filters if self._config.enabled else []
        changes = self._topics.changed(now_s) if due and filters else []
        if any(_reaches_clients(topic_filter) for topic_filter in filters):
            changes += self._clients.changed(self._next_clients())
        else:
            self._clients.clear()
        for topic, payload in changes:
            self._engine.publish_system(MessageRun.single(topic.encode(), payload, 0))

    def values(self, topic_filter: str) -> list[tuple[str, bytes]]:
        """Return what a new subscription to this filter is sent at once.

        The clients' statistics follow with the next ticks, a slice at a time.
        """
        if not self._config.enabled:
            return []
        if _reaches_clients(topic_filter):
            self._clients.clear()
        values = self._topics.values(self._now_s).items()
        return [(topic, payload) for topic, payload in values if matches(topic_filter, topic)]

    def _next_clients(self) -> Iterator[ClientStatistics]:
        """Yield the next slice of clients; the first follow the last."""
        if not self._remaining:
            self._remaining = list(self._engine.sessions.values())
        slice_, self._remaining = self._remaining[:CLIENTS_MAX], self._remaining[CLIENTS_MAX:]
        last_pings = self._status.last_pings()
        for session in slice_:
            yield ClientStatistics(
                client_id=session.client_id,
                connected=session.link is not None,
                last_ping_us=last_pings.get(session.client_id),
                in_flight_received=len(session.open_ids or ()),
                in_flight_sent=len(session.in_flight),
            )


def _reaches_clients(topic_filter: str) -> bool:
    return is_system_topic(topic_filter) and topic_filter.split("/")[1:2] in _CLIENT_LEVELS
