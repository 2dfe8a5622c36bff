"""Subscriptions that hold in some partitions already, and in others not yet (E10).

A SUBSCRIBE or UNSUBSCRIBE of a kept session takes effect in each partition at its own marker. Until
all of them are read, what a topic is granted depends on the partition that it stands in.
"""

from collections.abc import Iterable, Mapping

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

    def read(self, partition: int) -> bool:
        """Its marker was read in a partition; return whether that was the last."""
        self._read.add(partition)
        return len(self._read) == self._partitions

    def holds(self, partition: int) -> bool:
        """Whether it has taken effect in a partition."""
        return partition in self._read


class Varying:
    """The changes of one session that do not hold everywhere, in the order they were asked for.

    Their markers are read in that order in every partition.
    """

    __slots__ = ("_changes", "_settled")

    def __init__(self) -> None:
        # Filter -> QoS of what holds everywhere, while there are changes.
        self._settled: dict[str, int] = {}
        self._changes: list[Change] = []

    def __len__(self) -> int:
        """Return how many changes are on their way."""
        return len(self._changes)

    def vary(self, subscriptions: Mapping[str, int]) -> None:
        """Changes begin: until now this held everywhere."""
        self._settled = dict(subscriptions)

    def begin(self, change: Change) -> None:
        """A change is on its way."""
        self._changes.append(change)

    def settle(self, change: Change) -> list[str]:
        """A change holds everywhere; return the filters that nothing has any more."""
        assert self._changes[0] is change, "markers of one session are read in order"
        del self._changes[0]
        self._settled.update(change.add)
        for topic_filter in change.remove:
            self._settled.pop(topic_filter, None)
        added = {topic_filter for later in self._changes for topic_filter in later.add}
        return [name for name in change.remove if name not in added]

    def held(self, partition: int) -> dict[str, int]:
        """Return filter -> QoS of all that holds in a partition."""
        filters = {*self._settled, *(name for change in self._changes for name in change.add)}
        held = {name: self._held(name, partition) for name in filters}
        return {name: qos for name, qos in held.items() if qos is not None}

    def granted(self, topic: str, partition: int) -> int | None:
        """Return the QoS that a topic of a partition is granted now; None: it is not subscribed."""
        granted = self._best(self._settled.items(), topic, partition)
        for change in self._changes:
            granted = max(granted, self._best(change.add.items(), topic, partition))
        return None if granted < 0 else granted

    def _best(self, filters: Iterable[tuple[str, int]], topic: str, partition: int) -> int:
        """Return the highest QoS of the filters that match and hold, -1 if none does."""
        return max(
            (
                qos
                for topic_filter, qos in filters
                if self._held(topic_filter, partition) == qos and matches(topic_filter, topic)
            ),
            default=-1,
        )

    def _held(self, topic_filter: str, partition: int) -> int | None:
        """Return the QoS of a filter in a partition, None if it is not there."""
        qos = self._settled.get(topic_filter)
        for change in self._changes:
            if change.holds(partition):
                if topic_filter in change.add:
                    qos = change.add[topic_filter]
                elif topic_filter in change.remove:
                    qos = None
        return qos
