"""Who has subscribed to what: a trie of topic filters, asked with topic names.

A filter without a wildcard is a key of one dictionary. The others form a trie, in which a filter
has nodes of its own only as far as it shares them: the first level that belongs to one filter alone
holds a leaf, and the leaf remembers the rest of the filter. So every node but the root has at least
two filters beneath it, whatever was added and removed before.

Nothing here recurses, so the depth of a filter is bounded only by its length. A match visits the
nodes whose path fits the topic, and how many those can be is bounded (``filter_shapes``).
"""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeAlias, TypeVar

from monstermq_shared.filter_shapes import FilterShapes
from monstermq_shared.topics import is_wildcard

S = TypeVar("S", bound=Hashable)

_END = "/"
"""The key, in a node, of the filter that ends there. No level contains a slash."""

MATCH_NODES_MAX = 4_000
"""Nodes that a match visits at most, of all filters together: about two milliseconds."""

_SLOTS = {"+": "single", "#": "multi", _END: "ending"}
"""The keys that a node keeps in attributes, and which: reading those is what a match does most."""


class _Subscribers(Generic[S]):
    """The subscribers of one filter. Most have one, and that one needs no dictionary."""

    __slots__ = ("_first", "_others", "_qos")

    def __init__(self, subscriber: S, qos: int) -> None:
        self._first = subscriber
        self._qos = qos
        self._others: dict[S, int] | None = None

    def add(self, subscriber: S, qos: int) -> bool:
        """Add it, or replace its QoS; tell whether it is new."""
        if subscriber == self._first:
            self._qos = qos
            return False
        if self._others is None:
            self._others = {}
        added = subscriber not in self._others
        self._others[subscriber] = qos
        return added

    def is_only(self, subscriber: S) -> bool:
        """Tell whether it is the last one there is."""
        return self._others is None and subscriber == self._first

    def discard(self, subscriber: S) -> bool:
        """Remove one that is not the last; tell whether it was there."""
        if self._others is None:
            return False
        if subscriber == self._first:
            self._first, self._qos = self._others.popitem()
        elif self._others.pop(subscriber, None) is None:
            return False
        if not self._others:
            self._others = None
        return True

    def collect(self, found: dict[S, int]) -> None:
        """Put all into ``found``, where the higher QoS stays."""
        if self._others is not None:
            if found:
                for subscriber, qos in self._others.items():
                    if found.get(subscriber, -1) < qos:
                        found[subscriber] = qos
            else:
                found.update(self._others)
        if found.get(self._first, -1) < self._qos:
            found[self._first] = self._qos


class _Leaf(_Subscribers[S]):
    """The subscribers of a wildcard filter, at the level from which on it shares no node.

    ``end`` is where that level ends in the filter; what follows is yet to be matched.
    """

    __slots__ = ("end", "topic_filter")

    def __init__(self, topic_filter: str, end: int, subscriber: S, qos: int) -> None:
        super().__init__(subscriber, qos)
        self.topic_filter = topic_filter
        self.end = end

    def collect_if_matching(self, levels: Sequence[str], depth: int, found: dict[S, int]) -> None:
        """Collect, if the rest of the filter matches the topic's levels from ``depth`` on."""
        topic_filter = self.topic_filter
        start = self.end + 1
        size = len(topic_filter)
        # Level by level, so that it costs no more than the levels which are alike.
        for level in levels[depth:]:
            if start > size:
                return
            stop = start + len(level)
            if topic_filter.startswith(level, start) and (
                stop == size or topic_filter[stop : stop + 1] == "/"
            ):
                start = stop + 1
            elif topic_filter.startswith("+", start):
                start += 2
            elif topic_filter.startswith("#", start):
                self.collect(found)
                return
            else:
                return
        # What is left may be nothing, or the # below the level that the topic ends with.
        if start > size or topic_filter.startswith("#", start):
            self.collect(found)

    def descend(self) -> str:
        """Move one level down and return the key of that level."""
        start = self.end + 1
        if start > len(self.topic_filter):
            return _END
        stop = self.topic_filter.find("/", start)
        self.end = len(self.topic_filter) if stop < 0 else stop
        return self.topic_filter[start : self.end]

    def ascend(self, key: str) -> None:
        """Move one level up, from the level with this key."""
        if key != _END:
            self.end -= len(key) + 1


class _Node(Generic[S]):
    """What filters that begin alike have at their next level, by key: a level's text or ``_END``.

    Attributes:
        levels: By literal text.
        single: At ``+``.
        multi: At ``#``, which is always the last level.
        ending: The filter that has no next level.
    """

    __slots__ = ("ending", "levels", "multi", "single")

    def __init__(self) -> None:
        self.levels: dict[str, _Child[S]] = {}
        self.single: _Child[S] | None = None
        self.multi: _Leaf[S] | None = None
        self.ending: _Leaf[S] | None = None

    def is_empty(self) -> bool:
        """Whether nothing is there."""
        return not self.levels and self.single is None and self.multi is None

    def get(self, key: str) -> "_Child[S] | None":
        """Return what is there."""
        slot = _SLOTS.get(key)
        if slot is None:
            return self.levels.get(key)
        child: _Child[S] | None = getattr(self, slot)
        return child

    def put(self, key: str, child: "_Child[S]") -> None:
        """Put it there in place of what is there."""
        slot = _SLOTS.get(key)
        if slot is None:
            self.levels[key] = child
        else:
            setattr(self, slot, child)

    def delete(self, key: str) -> None:
        """Remove what is there."""
        slot = _SLOTS.get(key)
        if slot is None:
            del self.levels[key]
        else:
            setattr(self, slot, None)

    def only_leaf(self) -> tuple[str, _Leaf[S]] | None:
        """Return the key and the leaf if there is nothing else."""
        if len(self.levels) > 1:
            return None
        children = [*self.levels.items(), *((key, self.get(key)) for key in _SLOTS)]
        there = [(key, child) for key, child in children if child is not None]
        if len(there) == 1 and isinstance(there[0][1], _Leaf):
            return there[0][0], there[0][1]
        return None


_Child: TypeAlias = _Node[S] | _Leaf[S]


class TopicIndex(Generic[S]):
    """Subscriptions: pairs of a topic filter and a subscriber, each with a QoS.

    Filters and topics must be valid (``topics.check_topic_filter``, ``check_topic_name``). Pass the
    filter string that the subscriber keeps anyway: the index holds the same object.

    Attributes:
        visited: Nodes that matches have visited so far.

    Args:
        match_nodes_max: A filter with which a match could visit more nodes is refused;
            None: none is.
    """

    def __init__(self, match_nodes_max: int | None = MATCH_NODES_MAX) -> None:
        self.visited = 0
        self._shapes = None if match_nodes_max is None else FilterShapes(match_nodes_max)
        self._exact: dict[str, _Subscribers[S]] = {}
        self._root: _Node[S] = _Node()
        self._count = 0

    def __len__(self) -> int:
        """Return how many pairs of filter and subscriber there are."""
        return self._count

    def add(self, topic_filter: str, subscriber: S, qos: int) -> bool:
        """Add a subscription, or replace the QoS of the one there is.

        Returns:
            Whether it is new.

        Raises:
            FilterTooCostlyError: A match could visit more than ``match_nodes_max`` nodes with it.
        """
        if is_wildcard(topic_filter):
            added = self._add_wildcard(topic_filter, subscriber, qos)
        else:
            subscribers = self._exact.get(topic_filter)
            if subscribers is None:
                self._exact[topic_filter] = _Subscribers(subscriber, qos)
                added = True
            else:
                added = subscribers.add(subscriber, qos)
        self._count += added
        return added

    def remove(self, topic_filter: str, subscriber: S) -> bool:
        """Remove a subscription and give back the memory that it alone needed.

        Returns:
            Whether there was one.
        """
        path: list[tuple[_Node[S], str]] = []
        subscribers: _Subscribers[S] | None
        if is_wildcard(topic_filter):
            path, subscribers = self._walk(topic_filter)
        else:
            subscribers = self._exact.get(topic_filter)
        if subscribers is None:
            return False
        if subscribers.is_only(subscriber):
            if path:
                _prune(path)
                if self._shapes is not None:
                    self._shapes.remove(topic_filter)
            else:
                del self._exact[topic_filter]
        elif not subscribers.discard(subscriber):
            return False
        self._count -= 1
        return True

    def match(self, topic: str) -> dict[S, int]:
        """Return every subscriber with a matching filter, once, with its highest QoS."""
        found: dict[S, int] = {}
        exact = self._exact.get(topic)
        if exact is not None:
            exact.collect(found)
        if self._root.is_empty():
            return found
        nodes = [self._literal_root(topic) if topic.startswith("$") else self._root]
        levels = topic.split("/")
        for depth in range(len(levels)):
            self.visited += len(nodes)
            nodes = _descend(nodes, levels, depth, found)
            if not nodes:
                return found
        for node in nodes:
            if node.ending is not None:
                node.ending.collect(found)
            if node.multi is not None:  # the topic is the parent level
                node.multi.collect(found)
        return found

    def _literal_root(self, topic: str) -> _Node[S]:
        """Return a root without leading wildcards, for topics with ``$`` [MQTT-4.7.2-1]."""
        root: _Node[S] = _Node()
        level = topic.partition("/")[0]
        child = self._root.get(level)
        if child is not None:
            root.put(level, child)
        return root

    def _add_wildcard(self, topic_filter: str, subscriber: S, qos: int) -> bool:
        path, found = self._walk(topic_filter)
        if found is not None:
            return found.add(subscriber, qos)
        if self._shapes is not None:
            self._shapes.add(topic_filter)
        end = min(sum(len(key) + 1 for _, key in path) - 1, len(topic_filter))
        leaf = _Leaf(topic_filter, end, subscriber, qos)
        node, key = path[-1]
        other = node.get(key)
        while isinstance(other, _Leaf):  # as long as the two filters are alike
            shared: _Node[S] = _Node()
            shared.put(other.descend(), other)
            node.put(key, shared)
            node, key = shared, leaf.descend()
            other = node.get(key)
        node.put(key, leaf)
        return True

    def _walk(self, topic_filter: str) -> "tuple[list[tuple[_Node[S], str]], _Leaf[S] | None]":
        """Return the nodes and keys on the way to a filter's leaf, and the leaf if it is there."""
        path: list[tuple[_Node[S], str]] = []
        node = self._root
        for key in [*topic_filter.split("/"), _END]:
            path.append((node, key))
            child = node.get(key)
            if child is None:
                break
            if isinstance(child, _Leaf):
                return path, child if child.topic_filter == topic_filter else None
            node = child
        return path, None


def _descend(
    nodes: list[_Node[S]], levels: Sequence[str], depth: int, found: dict[S, int]
) -> list[_Node[S]]:
    """Return the nodes that the topic's level at ``depth`` leads to; collect what matches."""
    level = levels[depth]
    below: list[_Node[S]] = []
    for node in nodes:
        child = node.levels.get(level)
        if isinstance(child, _Node):
            below.append(child)
        elif child is not None:
            child.collect_if_matching(levels, depth + 1, found)
        child = node.single
        if isinstance(child, _Node):
            below.append(child)
        elif child is not None:
            child.collect_if_matching(levels, depth + 1, found)
        if node.multi is not None:
            node.multi.collect(found)
    return below


def _prune(path: list[tuple[_Node[S], str]]) -> None:
    """Remove the leaf at the end of the path, and the nodes that are then shared no more."""
    node, key = path.pop()
    node.delete(key)
    while path:
        only = node.only_leaf()
        if only is None:
            break
        key, leaf = only
        leaf.ascend(key)
        node, key = path.pop()
        node.put(key, leaf)
