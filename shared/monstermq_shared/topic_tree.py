"""Values by topic name, asked with topic filters and paged in order of topic.

No tree is kept: in sorted order, everything below a topic stands together, from ``topic/`` up to
but not including ``topic0`` (the character after the slash), so the sorted names are the tree. A
search skips from one name that can match to the next by bisection.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Generic, TypeVar

from monstermq_shared.topics import is_wildcard

V = TypeVar("V")

_BLOCK_SIZE_MAX = 1024
"""Names in the largest block; small enough that inserting into one is cheap."""

SCAN_STEPS = 1_000
"""Topics that are looked at in one go: about a millisecond."""

_AFTER_SLASH = chr(ord("/") + 1)
_AFTER_DOLLAR = chr(ord("$") + 1)
_SUCCESSOR = "\0"
"""What makes of a topic the smallest text above it; no topic contains it."""


class TopicTree(Generic[V]):
    """A mapping from topic name to value that also answers which topics a filter matches."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._topics = _SortedTexts()

    def __len__(self) -> int:
        """Return how many topics there are."""
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        """Go through all topics in order, ``$`` included. The tree must not change meanwhile."""
        return iter(self._topics)

    def get(self, topic: str) -> V | None:
        """Return the topic's value, or None if there is none."""
        return self._values.get(topic)

    def set(self, topic: str, value: V) -> None:
        """Give the topic this value."""
        if topic not in self._values:
            self._topics.add(topic)
        self._values[topic] = value

    def pop(self, topic: str) -> V | None:
        """Forget the topic; return its value, or None if there was none."""
        if topic not in self._values:
            return None
        self._topics.remove(topic)
        return self._values.pop(topic)

    def find(
        self, topic_filter: str, *, after: str = "", limit: int | None = None
    ) -> list[tuple[str, V]]:
        """Return the topics a valid filter matches, with their values, in order of topic.

        Agrees with ``topics.matches``. An exact filter is one lookup. A filter whose only wildcard
        is ``#`` costs what it returns; one with ``+`` in addition looks at one topic or more for
        every name the ``+`` can stand for.

        Args:
            topic_filter: The filter.
            after: Only topics above this one: the last of the previous page.
            limit: At most so many; fewer come only at the end.
        """
        start: str | None = after + _SUCCESSOR if after else ""
        found: list[tuple[str, V]] = []
        while start is not None and (limit is None or len(found) < limit):
            room = None if limit is None else limit - len(found)
            items, start = self.scan(topic_filter, start=start, limit=room)
            found += items
        return found

    def scan(
        self, topic_filter: str, *, start: str, limit: int | None
    ) -> tuple[list[tuple[str, V]], str | None]:
        """Do a part of what ``find`` does, which looks at ``SCAN_STEPS`` topics at most.

        Args:
            topic_filter: The filter.
            start: The first topic to look at.
            limit: Find at most so many.

        Returns:
            What was found, and where to go on, None at the end. At the limit the caller need not.
        """
        if not is_wildcard(topic_filter):
            there = topic_filter >= start and topic_filter in self._values
            return ([(topic_filter, self._values[topic_filter])] if there else []), None
        pattern = _Pattern(topic_filter)
        topics: list[str] = []
        go_on: str | None = None
        for low, high in pattern.ranges:
            if high is not None and start >= high:
                continue
            room = SCAN_STEPS if limit is None else min(limit - len(topics), SCAN_STEPS)
            first = max(low, start)
            if pattern.matches_ranges:
                found = self._topics.slice(first, high, room)
                go_on = found[-1] + _SUCCESSOR if len(found) == room else None
            else:
                found, go_on = self._topics.search(first, high, room, pattern.next_candidate)
            topics += found
            if go_on is not None:
                break
        values = self._values
        return [(topic, values[topic]) for topic in topics], go_on

    def scan_all(self, start: str) -> tuple[list[tuple[str, V]], str | None]:
        """Return ``SCAN_STEPS`` topics from one on, ``$`` included, and where to go on."""
        values = self._values
        topics = self._topics.slice(start, None, SCAN_STEPS)
        go_on = topics[-1] + _SUCCESSOR if len(topics) == SCAN_STEPS else None
        return [(topic, values[topic]) for topic in topics], go_on

    def between(self, low: str, high: str | None, limit: int) -> list[str]:
        """Return the first topics from ``low`` on, below ``high`` if there is one."""
        return self._topics.slice(low, high, limit)


class _Pattern:
    """A filter with wildcards, prepared for a search through sorted topics.

    Attributes:
        ranges: Where the matches are: from low to below high, in order.
        matches_ranges: Whether all there is in the ranges matches.
    """

    def __init__(self, topic_filter: str) -> None:
        wanted = topic_filter.split("/")
        self.matches_ranges = "+" not in wanted
        self._open = wanted[-1] == "#"
        start = next(depth for depth, level in enumerate(wanted) if level in {"+", "#"})
        self.ranges = _ranges("/".join(wanted[:start]) if start else None, wanted[start] == "#")
        self._depth = len(wanted) - self._open
        # What precedes the first wildcard is alike in all the range.
        levels = enumerate(wanted[: self._depth])
        self._literals = [(i, level) for i, level in levels if i > start and level != "+"]

    def next_candidate(self, topic: str) -> str | None:
        """Return None if the topic matches, else a text above it and not above the next match.

        The topic must be in one of the ranges.
        """
        levels = topic.split("/")
        count = len(levels)
        for i, want in self._literals:
            if i >= count:
                break
            if levels[i] == want:
                continue
            parent = "/".join(levels[:i])
            exact = f"{parent}/{want}"
            if topic < exact:
                return exact
            return exact + "/" if topic < exact + "/" else parent + _AFTER_SLASH
        if count == self._depth or (self._open and count > self._depth):
            return None
        if count < self._depth:
            return topic + _SUCCESSOR
        return "/".join(levels[: self._depth]) + _AFTER_SLASH


def _ranges(parent: str | None, with_parent: bool) -> list[tuple[str, str | None]]:
    """Return where the topics below the parent are, and the parent itself if wanted."""
    if parent is None:
        return [("", "$"), (_AFTER_DOLLAR, None)]  # [MQTT-4.7.2-1]
    below = (parent + "/", parent + _AFTER_SLASH)
    return [(parent, parent + _SUCCESSOR), below] if with_parent else [below]


class _SortedTexts:
    """Distinct texts in order, as a list of blocks, so that a change moves only a part of them.

    No block is empty, and ``_lasts`` holds the last text of each.
    """

    def __init__(self) -> None:
        self._blocks: list[list[str]] = []
        self._lasts: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._blocks)

    def add(self, text: str) -> None:
        """Insert a text that is not there yet."""
        lasts = self._lasts
        if not lasts or text > lasts[-1]:
            self._append(text)
            return
        number = bisect_left(lasts, text)
        block = self._blocks[number]
        insort(block, text)
        if len(block) > _BLOCK_SIZE_MAX:
            middle = len(block) // 2
            self._blocks.insert(number, block[:middle])
            lasts.insert(number, block[middle - 1])
            del block[:middle]

    def remove(self, text: str) -> None:
        """Remove a text that is there."""
        number, index = self._seek(text)
        block = self._blocks[number]
        del block[index]
        if not block:
            del self._blocks[number]
            del self._lasts[number]
        elif index == len(block):
            self._lasts[number] = block[-1]

    def slice(self, low: str, high: str | None, limit: int) -> list[str]:
        """Return the first ``limit`` texts from ``low`` on, below ``high`` if there is one."""
        found: list[str] = []
        number, index = self._seek(low)
        for block in islice(self._blocks, number, None):
            stop = min(len(block), index + limit - len(found))
            if high is not None and block[-1] >= high:
                stop = min(stop, bisect_left(block, high, index))
            found += block[index:stop]
            if stop < len(block):
                break
            index = 0
        return found

    def search(
        self,
        low: str,
        high: str | None,
        limit: int,
        next_candidate: Callable[[str], str | None],
    ) -> tuple[list[str], str | None]:
        """Return what ``slice`` does, but only texts for which ``next_candidate`` returns None.

        For the others it returns where to go on, which is above the text. Looks at ``SCAN_STEPS``
        texts at most.

        Returns:
            The texts, and where to go on, None at the end.
        """
        found: list[str] = []
        number, index = self._seek(low)
        steps = SCAN_STEPS
        while number < len(self._blocks):
            block = self._blocks[number]
            text = block[index]
            if high is not None and text >= high:
                break
            if not steps or len(found) == limit:
                return found, text
            steps -= 1
            candidate = next_candidate(text)
            if candidate is None:
                found.append(text)
                number, index = (number, index + 1) if index + 1 < len(block) else (number + 1, 0)
            elif candidate > block[-1]:
                number, index = self._seek(candidate)
            else:
                index = bisect_left(block, candidate, index + 1)
        return found, None

    def _seek(self, text: str) -> tuple[int, int]:
        """Return the block and the place in it of the first text that is not below this one."""
        number = bisect_left(self._lasts, text)
        if number == len(self._lasts):
            return number, 0
        return number, bisect_left(self._blocks[number], text)

    def _append(self, text: str) -> None:
        if not self._blocks or len(self._blocks[-1]) >= _BLOCK_SIZE_MAX:
            self._blocks.append([text])
            self._lasts.append(text)
        else:
            self._blocks[-1].append(text)
            self._lasts[-1] = text
