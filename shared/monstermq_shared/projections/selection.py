"""Which topics a projection wants: its filters, with the decisions remembered."""

from collections.abc import Callable, Sequence

from monstermq_shared.topics import matches

DECISIONS_MAX = 65_536
"""Topics whose decision is remembered. Beyond that all are forgotten: the busy ones are soon back,
and to find out which those are would cost more on every call than it saves."""


class TopicSelection:
    """Decides by topic, and remembers what it decided.

    Args:
        decide: Whether a topic is wanted; the same answer for ever.
    """

    def __init__(self, decide: Callable[[str], bool]) -> None:
        self._decide = decide
        self._decisions: dict[str, bool] = {}

    def __contains__(self, topic: str) -> bool:
        wanted = self._decisions.get(topic)
        if wanted is None:
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions.clear()
            wanted = self._decide(topic)
            self._decisions[topic] = wanted
        return wanted


def select_by_filters(topic_filters: Sequence[str]) -> TopicSelection:
    """Return a selection of what any of the filters matches; no filters at all mean ``#``.

    So ``$``-topics need a filter that spells out their first level.
    """
    filters = tuple(topic_filters) or ("#",)
    return TopicSelection(lambda topic: any(matches(at, topic) for at in filters))
