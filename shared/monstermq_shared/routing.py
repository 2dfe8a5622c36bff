"""Who receives a topic, looked up by the topic's bytes.

A route is found once per distinct topic and then cached: validation of the topic name, the match
against every subscription, and whether a view wants its records. A changed subscription ends an
era, whatever the number of cached routes; a route of an earlier era is matched anew when it is next
used. There are many eras at a time, by the first level of topics, so that a client that subscribes
does not slow all the others down.
"""

from collections.abc import Callable, Collection
from itertools import islice
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from monstermq_shared.budget import Budget
from monstermq_shared.topic_index import MATCH_NODES_MAX, TopicIndex
from monstermq_shared.topics import (
    decode_topic_name,
    is_system_topic,
    is_wildcard,
    memory_size,
)

S = TypeVar("S")

Targets: TypeAlias = tuple[tuple[S, int], ...]
"""Sessions, each with the QoS granted to it."""

SIZE_PER_ROUTE: Final = 512
"""Bytes of topics and targets that the cache may hold for each route it may have, on average."""

CACHED_TOPIC_SIZE_MAX: Final = 1_024
"""Bytes of the longest topic whose route is cached. Who uses longer ones pays for each match."""

_SCOPES: Final = 256
"""How many eras there are at a time. A filter that begins with a wildcard ends them all."""

_MATCH_WORK: Final = 4
"""Units of work (``budget``) that a match costs beside what it visits and collects."""

_TARGET_SIZE: Final = 64
"""Bytes a target takes: a pair, and its place in a tuple."""


class Follower(Protocol):
    """A view that is committed behind the turns, as far as publishers are concerned.

    It is the backlog of that view, ``bus.backlog.Backlog``.
    """

    @property
    def is_full(self) -> bool:
        """Whether nobody may publish what it wants for now."""
        ...


class Interest(NamedTuple):
    """Who besides subscribers wants the records of a topic.

    Those of messages with the retain flag are always wanted, by the retained view.

    Attributes:
        wanted: A view wants those of messages without the retain flag, so they have to be made.
        durable: One of these views lives in the session store's database, so that an
            acknowledgement waits for its commit (ARCHITECTURE 11.6).
        durable_retained: ``durable``, for messages with the retain flag.
        followers: The views elsewhere that want messages without the retain flag: while one is
            full, whoever publishes such a message is held.
        followers_retained: The same for messages with the retain flag.
    """

    wanted: bool
    durable: bool
    durable_retained: bool
    followers: tuple[Follower, ...] = ()
    followers_retained: tuple[Follower, ...] = ()


class Era:
    """The time between two changes of the subscriptions that may match some topics."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


class Route(Generic[S]):
    """Where the messages of one topic go. Plain slots: read for every run.

    Attributes:
        topic: The validated topic name.
        targets: Each matching subscriber once, with its highest granted QoS [MQTT-3.3.5-1].
        wanted: See ``Interest``.
        durable: See ``Interest``.
        durable_retained: See ``Interest``.
        followers: See ``Interest``.
        followers_retained: See ``Interest``.
        partition: Which partition of the log has its messages; -1 until somebody has asked.
        reserved: The topic is the broker's own (``$SYS``): what clients publish there is
            acknowledged and ignored.
        era: In which the targets were matched; when it is over they may be others.
    """

    __slots__ = (
        "durable",
        "durable_retained",
        "era",
        "followers",
        "followers_retained",
        "partition",
        "reserved",
        "targets",
        "topic",
        "wanted",
    )

    def __init__(self, topic: str, interest: Interest, era: Era) -> None:
        self.topic = topic
        self.targets: Targets[S] = ()
        self.era = era
        self.wanted = interest.wanted
        self.durable = interest.durable
        self.durable_retained = interest.durable_retained
        self.followers = interest.followers
        self.followers_retained = interest.followers_retained
        self.partition = -1
        self.reserved = topic[0] == "$" and is_system_topic(topic)


class Varied(Protocol[S]):
    """Who has, at this moment, other subscriptions in one partition of the log than in another.

    The router has all that such a subscriber has anywhere. A topic stands in one partition.

    Attributes:
        subscribers: They.
        compared: Filters that were compared with topics so far.
    """

    compared: int

    @property
    def subscribers(self) -> Collection[S]:
        """See above."""
        ...

    def granted(self, subscriber: S, topic: str, anywhere: int) -> int | None:
        """Return the QoS of one of them in the partition of a topic; None: it is no target.

        Args:
            subscriber: It.
            topic: What is matched.
            anywhere: The highest QoS of all its filters that match, in whatever partition.
        """
        ...


class Router(Generic[S]):
    """All subscriptions, and a bounded cache of routes by topic bytes.

    Args:
        interest: Says who besides subscribers wants a topic's records; asked once per cached route.
        levels_max: More levels than this in a topic name are refused.
        cache_max: How many routes are kept, and ``SIZE_PER_ROUTE`` times as many bytes of topics
            and targets. The oldest goes first.
        budget: Is charged for every match.
        match_nodes_max: See ``TopicIndex``.
        varied: Whoever does not have the same subscriptions in all partitions; None: nobody.
    """

    def __init__(
        self,
        interest: Callable[[str], Interest],
        *,
        levels_max: int,
        cache_max: int,
        budget: Budget,
        match_nodes_max: int | None = MATCH_NODES_MAX,
        varied: Varied[S] | None = None,
    ) -> None:
        self._index: TopicIndex[S] = TopicIndex(match_nodes_max)
        self._varied = varied
        self._eras = [Era() for _ in range(_SCOPES)]
        # Scopes in whose era something was matched. The others need no new one, so that whoever
        # changes thousands of filters at once ends each era once.
        self._used: set[int] = set()
        self._interest = interest
        self._levels_max = levels_max
        self._cache = _RouteCache[S](cache_max)
        self._cached_routes = self._cache.routes
        # A route is cached when its topic is met a second time: a flood of topics that are used
        # once (a first retained ingest, say) neither pays for the cache nor empties it. Only hashes
        # are kept: where two topics have the same, one is cached too early, which is harmless.
        self._met: set[int] = set()
        self._met_max = cache_max
        self._budget = budget

    def __len__(self) -> int:
        """Return the number of subscriptions."""
        return len(self._index)

    @property
    def cached(self) -> int:
        """How many routes are cached."""
        return len(self._cached_routes)

    def route(self, topic: bytes) -> Route[S]:
        """Return the route of a topic name as it stood on the wire.

        Raises:
            InvalidTopic: It is not UTF-8, too deep, empty, or holds a wildcard or NUL.
        """
        route = self._cached_routes.get(topic)
        if route is not None:
            return self._renew(topic, route) if route.era.over else route
        return self._find(topic)

    def _find(self, topic: bytes) -> Route[S]:
        name = decode_topic_name(topic, levels_max=self._levels_max)
        route = self._match(name, self._interest(name))
        if len(topic) > CACHED_TOPIC_SIZE_MAX:
            return route
        mark = hash(topic)
        met = self._met
        if mark in met:
            met.discard(mark)
            self._cache.put(topic, route)
            return route
        if len(met) >= self._met_max:
            met.clear()
        met.add(mark)
        return route

    def _match(self, topic: str, interest: Interest) -> Route[S]:
        scope = _scope_of(topic)
        self._used.add(scope)
        route = Route[S](topic, interest, self._eras[scope])
        index = self._index
        before = index.visited
        targets = index.match(topic)
        varied = self._varied
        if varied is not None and varied.subscribers and targets:
            self._grant(varied, topic, targets)
        if targets:
            route.targets = tuple(targets.items())
        self._budget.left -= _MATCH_WORK + index.visited - before + len(targets) // 8
        return route

    def _grant(self, varied: Varied[S], topic: str, targets: dict[S, int]) -> None:
        """Give those who are varied what they have in the partition of the topic."""
        before = varied.compared
        for subscriber in [each for each in targets if each in varied.subscribers]:
            qos = varied.granted(subscriber, topic, targets[subscriber])
            if qos is None:
                del targets[subscriber]
            else:
                targets[subscriber] = qos
        self._budget.left -= varied.compared - before

    def _renew(self, topic: bytes, old: Route[S]) -> Route[S]:
        """Match a cached topic again; mostly that finds what it found before."""
        interest = Interest(
            old.wanted,
            old.durable,
            old.durable_retained,
            old.followers,
            old.followers_retained,
        )
        route = self._match(old.topic, interest)
        if route.targets == old.targets:
            old.era = route.era
            return old
        route.partition = old.partition
        self._cache.drop(topic)
        self._cache.put(topic, route)
        return route

    def add(self, topic_filter: str, subscriber: S, qos: int) -> bool:
        """Subscribe, or change the QoS; return whether the subscription is new.

        Raises:
            FilterTooCostlyError: With this filter a match could visit too many nodes.
        """
        new = self._index.add(topic_filter, subscriber, qos)
        self.outdate(topic_filter)
        return new

    def remove(self, topic_filter: str, subscriber: S) -> bool:
        """Unsubscribe; return whether there was such a subscription."""
        removed = self._index.remove(topic_filter, subscriber)
        if removed:
            self.outdate(topic_filter)
        return removed

    def outdate(self, topic_filter: str) -> None:
        """See to it that no route is used again that this filter may have changed.

        For whoever is varied, a filter that comes or goes in one partition is a change as well.
        """
        if not is_wildcard(topic_filter):
            self._cache.drop(topic_filter.encode())
            return
        everywhere = topic_filter[0] in "+#"
        for scope in [*self._used] if everywhere else (_scope_of(topic_filter),):
            if scope in self._used:
                self._used.discard(scope)
                self._eras[scope].over = True
                self._eras[scope] = Era()


def _scope_of(topic: str) -> int:
    """Return in which scope a topic is, or all that a filter can match."""
    return hash(topic.partition("/")[0]) % _SCOPES


class _RouteCache(Generic[S]):
    """Routes by topic bytes, bounded in number and in bytes; the oldest go first.

    Routes with the same targets share them, so that a subscriber of everything is one target, not
    one per topic.
    """

    def __init__(self, count_max: int) -> None:
        self.routes: dict[bytes, Route[S]] = {}
        self._count_max = count_max
        self._size_max = count_max * SIZE_PER_ROUTE
        self._size = 0
        self._shared: dict[Targets[S], Targets[S]] = {}
        # By identity: to hash targets costs as much as there are, and all routes may go at once.
        self._users: dict[int, int] = {}

    def put(self, topic: bytes, route: Route[S]) -> None:
        """Take a route that is not there, unless it alone is more than all may be."""
        size = _size_of(topic, route.topic)
        if size + _TARGET_SIZE * len(route.targets) > self._size_max:
            return
        route.targets = self._share(route.targets)
        self.routes[topic] = route
        self._size += size
        while len(self.routes) > self._count_max or self._size > self._size_max:
            # Several at a time, because a dictionary is slow to find its first key after removals.
            for oldest in list(islice(self.routes, 1 + len(self.routes) // 64)):
                self.drop(oldest)

    def drop(self, topic: bytes) -> None:
        """Forget the route of a topic, if there is one."""
        route = self.routes.pop(topic, None)
        if route is None:
            return
        self._size -= _size_of(topic, route.topic)
        self._unshare(route.targets)

    def _share(self, targets: Targets[S]) -> Targets[S]:
        """Return the targets in use that equal these, or these."""
        shared = self._shared.setdefault(targets, targets)
        users = self._users.get(id(shared), 0)
        self._users[id(shared)] = users + 1
        if not users:
            self._size += _TARGET_SIZE * len(shared)
        return shared

    def _unshare(self, shared: Targets[S]) -> None:
        users = self._users[id(shared)] - 1
        if users:
            self._users[id(shared)] = users
            return
        del self._users[id(shared)]
        del self._shared[shared]
        self._size -= _TARGET_SIZE * len(shared)


def _size_of(topic: bytes, name: str) -> int:
    """Return about how many bytes a topic takes, as it was on the wire and as text."""
    return len(topic) + memory_size(name)
