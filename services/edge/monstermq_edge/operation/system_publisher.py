"""Publishes the ``$SYS`` tree to those who subscribe to it, and to nobody else.

It is in no log and no table (ARCHITECTURE 11.17). However many clients there are, and however many
watch: one tick looks at a bounded number of clients and causes a bounded number of deliveries, and
the rest follows with the next ticks.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from monstermq_edge.engines.ports import Watched
from monstermq_edge.operation.system_tree import ClientStatistics, ClientTopics, SystemTree
from monstermq_shared.config import Sys
from monstermq_shared.messages import MessageRun
from monstermq_shared.topics import matches, reaches_client_statistics

CLIENTS_MAX = 100
"""Clients whose statistics are looked at in one tick."""

DELIVERIES_MAX = 1_000
"""Deliveries in one tick of the broker's own topics, and of the clients' as many; the topic that
reaches it is the last one."""

WALK_S = 1.0
"""From the beginning of one walk through the clients to the next."""

VALUES_S = 1.0
"""Values as young as this are good enough for a new subscription."""

Change = tuple[str, bytes]
"""A topic and its payload."""


class Publishing(Protocol):
    """What the engine is asked for."""

    @property
    def system_watchers(self) -> Watched:
        """Whether somebody wants to know."""
        ...

    def publish_system(self, run: MessageRun) -> int:
        """Publish to subscribers only; return how many there were."""
        ...


class SystemPublisher:
    """Builds and publishes values once per interval, while a ``$SYS`` subscription exists.

    Args:
        engine: Publishes.
        tree: What is below ``$SYS/broker``.
        client: Returns the statistics of a client, None if there is no such session.
        client_ids: The ids of all sessions.
        config: The interval.
        now_s: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Publishing,
        tree: SystemTree,
        *,
        client: Callable[[str], ClientStatistics | None],
        client_ids: Collection[str],
        config: Sys,
        now_s: float,
    ) -> None:
        self._engine = engine
        self._tree = tree
        self._client = client
        self._client_ids = client_ids
        self._config = config
        self._now_s = now_s
        self._next_s = now_s + config.interval_s
        self._values: list[Change] = []
        self._values_until_s = now_s
        # What is still to be published of the broker's own topics, the newest value of each.
        self._due: dict[str, bytes] = {}
        self._clients = ClientTopics()
        self._walk: Iterator[Change | None] | None = None
        self._next_walk_s = now_s

    def tick(self, now_s: float) -> None:
        """Several times a second: publish what has changed, when somebody wants to know."""
        self._now_s = now_s
        watchers = self._engine.system_watchers
        due = now_s >= self._next_s
        if due:
            self._next_s = now_s + self._config.interval_s
            self._tree.tick(now_s)
        if not (self._config.enabled and watchers.topics):
            self._due.clear()
        elif due:
            self._due.update(self._tree.changed(now_s))
        self._publish(self._broker_changes())
        if self._config.enabled and watchers.clients:
            self._publish(self._client_changes())
        else:
            self._walk = None
            self._clients.forget(CLIENTS_MAX)

    def _publish(self, changes: Iterator[Change | None]) -> None:
        """Publish until there were enough deliveries for one tick."""
        deliveries = 0
        for change in changes:
            if change is not None:
                topic, payload = change
                run = MessageRun.single(topic.encode(), payload, 0)
                deliveries += self._engine.publish_system(run)
                if deliveries >= DELIVERIES_MAX:
                    return

    def _broker_changes(self) -> Iterator[Change]:
        due = self._due
        while due:
            topic = next(iter(due))
            yield topic, due.pop(topic)

    def _client_changes(self) -> Iterator[Change | None]:
        """Go on with the walk through all clients; the next one begins a second after this."""
        for _ in range(CLIENTS_MAX):
            if self._walk is None:
                if self._now_s < self._next_walk_s:
                    return
                self._next_walk_s = self._now_s + WALK_S
                self._walk = self._walk_clients()
            try:
                change = next(self._walk)
            except StopIteration:
                self._walk = None
            else:
                yield change

    def _walk_clients(self) -> Iterator[Change | None]:
        """Yield for each client what is to be told of it, or None; then who is gone."""
        self._clients.begin()
        for client_id in list(self._client_ids):
            client = self._client(client_id)
            yield None if client is None else self._clients.change(client)
        yield from self._clients.gone()

    def values(self, topic_filter: str) -> list[Change]:
        """Return what a new subscription to this filter is sent at once.

        The clients' statistics follow with the next ticks.
        """
        if not self._config.enabled:
            return []
        if reaches_client_statistics(topic_filter):
            self._clients.tell_again()
        if self._now_s >= self._values_until_s:
            self._values = list(self._tree.values(self._now_s).items())
            self._values_until_s = self._now_s + VALUES_S
        return [(topic, payload) for topic, payload in self._values if matches(topic_filter, topic)]
