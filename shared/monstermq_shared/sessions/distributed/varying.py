"""Subscriptions that hold in some partitions already, and in others not yet (E10).

A SUBSCRIBE or UNSUBSCRIBE of a kept session takes effect in each partition at its own marker. Until
all of them are read, what a topic is granted depends on the partition that it stands in.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from itertools import chain

from monstermq_shared.topics import matches


class Change:
    """One change of subscriptions on its way.

    Attributes:
        add: Filter -> QoS of those that are added or changed.
        remove: Filters that are removed.
    """

    __slots__ = ("_partitions", "_read", "add", "remove")

    def __init__(self, add: Mapping[str, int], remove: Iterable[str], partitions: int) -> None:
        self.add = dict(add)
        self.remove = tuple(remove)
        self._partitions = partitions
        self._read: set[int] = set()

    def filters(self) -> list[str]:
        """Return all filters it names, each once."""
        return list({**self.add, **dict.fromkeys(self.remove)})

    def read(self, partition: int) -> bool:
        """Its marker was read in a partition; return whether that was the last."""
        self._read.add(partition)
        return len(self._read) == self._partitions

    def holds(self, partition: int) -> bool:
        """Whether it has taken effect in a partition."""
        return partition in self._read


class Varying:
    """The changes of one session that do not hold everywhere, in the order they were asked for.

    Their markers are read in that order in every partition. A client may ask for a thousand before
    the first is read, so nothing here looks at all of them for one topic.
    """

    __slots__ = ("_changes", "_concerned", "_settled")

    def __init__(self) -> None:
        # Filter -> QoS of what holds everywhere, while there are changes.
        self._settled: dict[str, int] = {}
        self._changes: deque[Change] | None = None
        # Filter -> the changes on their way that name it, in order.
        self._concerned: dict[str, list[Change]] = {}

    def __len__(self) -> int:
        """Return how many changes are on their way."""
        return len(self._changes or ())

    def vary(self, subscriptions: Mapping[str, int]) -> None:
        """Changes begin: until now this held everywhere."""
        self._settled = dict(subscriptions)

    def begin(self, change: Change) -> None:
        """A change is on its way."""
        if self._changes is None:
            self._changes = deque()
        self._changes.append(change)
        for topic_filter in change.filters():
            self._concerned.setdefault(topic_filter, []).append(change)

    def settle(self, change: Change) -> list[str]:
        """A change holds everywhere; return the filters that nothing has any more."""
        first = self._changes.popleft() if self._changes else None
        assert first is change, "markers of one session are read in order"
        for topic_filter in change.filters():
            later = self._concerned[topic_filter]
            del later[0]
            if not later:
                del self._concerned[topic_filter]
        self._settled.update(change.add)
        for topic_filter in change.remove:
            self._settled.pop(topic_filter, None)
        if not self._changes:
            self._changes = None
        return [name for name in change.remove if not self._is_added(name)]

    def _is_added(self, topic_filter: str) -> bool:
        """Whether a change that is on its way has a filter come, or come again."""
        return any(topic_filter in later.add for later in self._concerned.get(topic_filter, ()))

    def on_their_way(self) -> Collection[str]:
        """Return the filters that may not hold everywhere; with all others nothing varies."""
        return self._concerned.keys()

    def work(self, topic: str) -> int:
        """Return how many filters ``granted`` compares."""
        return comparisons(topic, self._settled, self._concerned)

    def granted(self, topic: str, partition: int) -> int | None:
        """Return the QoS that a topic of a partition is granted now; None: it is not subscribed."""
        granted = max(
            (self._held(at, partition) for at in matching(topic, self._settled, self._concerned)),
            default=-1,
        )
        return None if granted < 0 else granted

    def _held(self, topic_filter: str, partition: int) -> int:
        """Return the QoS of a filter in a partition, -1 if it is not there."""
        for change in reversed(self._concerned.get(topic_filter, ())):
            if change.holds(partition):
                return change.add.get(topic_filter, -1)
        return self._settled.get(topic_filter, -1)


def matching(topic: str, *filters: Collection[str]) -> list[str]:
    """Return the filters that match a topic, whatever their number; one may be there twice."""
    if sum(map(len, filters)) > _filters_at_most(topic):
        return [at for at in _filters_of(topic) if any(at in some for some in filters)]
    return [at for at in chain(*filters) if matches(at, topic)]


def comparisons(topic: str, *filters: Collection[str]) -> int:
    """Return how many filters ``matching`` looks at: units of work (``budget``)."""
    return min(sum(map(len, filters)), _filters_at_most(topic))


def _filters_at_most(topic: str) -> int:
    """Return how many filters match a topic at most."""
    return 3 << topic.count("/") + 1


def _filters_of(topic: str) -> list[str]:
    """Return all filters that match a topic; each level doubles them."""
    first, *others = topic.split("/")
    heads = [first] if first.startswith("$") else [first, "+"]  # [MQTT-4.7.2-1]
    found = [] if first.startswith("$") else ["#"]
    for level in others:
        found += [f"{head}/#" for head in heads]
        heads = [f"{head}/{each}" for head in heads for each in (level, "+")]
    return found + [f"{head}/#" for head in heads] + heads
