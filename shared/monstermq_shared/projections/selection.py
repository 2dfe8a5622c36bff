"""Which records belong to an archive group, and what its projections have in common."""

from collections.abc import Sequence
from typing import Self

from monstermq_shared.records import Record
from monstermq_shared.remembered import Remembered
from monstermq_shared.topics import matches, memory_size

DECISIONS_SIZE_MAX = 16 * 1024 * 1024
"""Bytes of remembered decisions: about 80,000 topics of usual length."""

REMEMBERED_TOPIC_SIZE_MAX = 1_024
"""Characters of the longest topic whose decision is remembered."""

_DECISION_OVERHEAD = 150
"""Bytes of a decision beside the characters of its topic."""


class GroupSelection:
    """Decides by topic filters and retain flag; remembers what it decided on a topic.

    The projections of a group share one, and so its decisions. ``$``-topics need a filter that
    spells out their first level.

    Args:
        topic_filters: The group's filters; none at all mean ``#``.
        retained_only: Only records with the retain flag belong to the group.

    Attributes:
        retained_only: See above.
        every_topic: ``#`` is among the filters.
    """

    def __init__(self, topic_filters: Sequence[str], *, retained_only: bool = False) -> None:
        self.retained_only = retained_only
        self._topic_filters = tuple(topic_filters) or ("#",)
        self.every_topic = "#" in self._topic_filters
        self._decisions = Remembered[str, bool](DECISIONS_SIZE_MAX)

    def __contains__(self, topic: str) -> bool:
        """Whether a filter of the group matches."""
        if self.every_topic and topic[0] != "$":
            return True
        wanted = self._decisions.get(topic)
        return self._decide(topic) if wanted is None else wanted

    def select(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that belong to the group, in order."""
        if self.retained_only:
            records = [record for record in records if record.retained]
        if self.every_topic:
            return [at for at in records if at.topic[0] != "$" or at.topic in self]
        return [record for record in records if record.topic in self]

    def _decide(self, topic: str) -> bool:
        wanted = False
        for topic_filter in self._topic_filters:
            if matches(topic_filter, topic):
                wanted = True
                break
        if len(topic) <= REMEMBERED_TOPIC_SIZE_MAX:
            self._decisions.remember(topic, wanted, memory_size(topic) + _DECISION_OVERHEAD)
        return wanted


class GroupProjection:
    """A projection of an archive group, all but its fold.

    Args:
        name: What its watermark is stored under.
        selection: What belongs to the group.
    """

    def __init__(self, name: str, selection: GroupSelection) -> None:
        self.name = name
        self.retained_only = selection.retained_only
        self.every_topic = selection.every_topic
        self._selection = selection

    def named(self, name: str) -> Self:
        """See ``Projection``."""
        return type(self)(name, self._selection)

    def wants(self, topic: str) -> bool:
        """Whether a filter of the group matches."""
        return topic in self._selection
