"""Who receives a topic, looked up by the topic's bytes.

A route is found once per distinct topic and then cached: validation of the topic name, the match
against every subscription, and whether a view wants its records. A changed subscription drops only
the routes its filter matches, so a client that subscribes does not slow the others down.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from monstermq_shared.topic_index import TopicIndex
from monstermq_shared.topic_tree import TopicTree
from monstermq_shared.topics import decode_topic_name

S = TypeVar("S")

SYSTEM_PREFIX = "$SYS"
"""Topics below it are the broker's own: what clients publish there is acknowledged and ignored."""


class Interest(NamedTuple):
    """Who besides subscribers wants the records of a topic.

    Attributes:
        wanted: A view wants them, so records have to be made.
        durable: One of these views lives in the session store's database, so that an
            acknowledgement waits for its commit (ARCHITECTURE 11.6).
    """

    wanted: bool
    durable: bool


class Route(Generic[S]):
    """Where the messages of one topic go. Plain slots: read for every run.

    Attributes:
        topic: The validated topic name.
        targets: Each matching subscriber once, with its highest granted QoS [MQTT-3.3.5-1].
        wanted: See ``Interest``.
        durable: See ``Interest``.
        reserved: The topic is the broker's own (``$SYS``).
    """

    __slots__ = ("durable", "reserved", "targets", "topic", "wanted")

    def __init__(self, topic: str, targets: list[tuple[S, int]], interest: Interest) -> None:
        self.topic = topic
        self.targets = targets
        self.wanted = interest.wanted
        self.durable = interest.durable
        self.reserved = topic.startswith(SYSTEM_PREFIX)


class Router(Generic[S]):
    """All subscriptions, and a bounded cache of routes by topic bytes.

    Args:
        interest: Says who besides subscribers wants a topic's records; asked once per cached route.
        levels_max: More levels than this in a topic name are refused.
        cache_max: How many routes are kept. The oldest goes first.
    """

    def __init__(
        self, interest: Callable[[str], Interest], *, levels_max: int, cache_max: int
    ) -> None:
        self._index: TopicIndex[S] = TopicIndex()
        self._interest = interest
        self._levels_max = levels_max
        self._cache_max = cache_max
        self._routes: dict[bytes, Route[S]] = {}
        self._cached_topics: TopicTree[bytes] = TopicTree()
        # A route is cached when its topic is met a second time: a flood of topics that are used
        # once (a first retained ingest, say) neither pays for the cache nor empties it.
        self._met: set[bytes] = set()

    def __len__(self) -> int:
        """Return the number of subscriptions."""
        return len(self._index)

    @property
    def cached(self) -> int:
        """How many routes are cached."""
        return len(self._routes)

    def route(self, topic: bytes) -> Route[S]:
        """Return the route of a topic name as it stood on the wire.

        Raises:
            InvalidTopic: It is not UTF-8, too deep, empty, or holds a wildcard or NUL.
        """
        return self._routes.get(topic) or self._find(topic)

    def _find(self, topic: bytes) -> Route[S]:
        name = decode_topic_name(topic, levels_max=self._levels_max)
        targets = self._index.match(name)
        route = Route(name, [*targets.items()] if targets else [], self._interest(name))
        met = self._met
        if topic not in met:
            if len(met) >= self._cache_max:
                met.clear()
            met.add(topic)
            return route
        met.discard(topic)
        if len(self._routes) >= self._cache_max:
            oldest = next(iter(self._routes))
            self._cached_topics.pop(self._routes.pop(oldest).topic)
        self._routes[topic] = route
        self._cached_topics.set(name, topic)
        return route

    def add(self, topic_filter: str, subscriber: S, qos: int) -> bool:
        """Subscribe, or change the QoS; return whether the subscription is new."""
        new = self._index.add(topic_filter, subscriber, qos)
        self._forget(topic_filter)
        return new

    def remove(self, topic_filter: str, subscriber: S) -> bool:
        """Unsubscribe; return whether there was such a subscription."""
        removed = self._index.remove(topic_filter, subscriber)
        if removed:
            self._forget(topic_filter)
        return removed

    def _forget(self, topic_filter: str) -> None:
        for name, topic in list(self._cached_topics.find(topic_filter)):
            self._cached_topics.pop(name)
            del self._routes[topic]
