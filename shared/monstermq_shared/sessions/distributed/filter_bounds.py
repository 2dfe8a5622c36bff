"""What all filters of one kept session may take: bytes in a record, and work in a match."""

from collections.abc import Iterable

from monstermq_shared.bus.control import TEXT_SIZE_MAX, subscription_size
from monstermq_shared.filter_shapes import FilterShapes, FilterTooCostlyError
from monstermq_shared.topics import is_wildcard

BEGINNINGS_MAX = 1_000
"""Different beginnings of the shapes of one session's filters (``filter_shapes``).

An edge counts who is connected; a worker matches all kept sessions there are, and may refuse none
of them. So each is bounded by itself, by a quarter of what an edge serves. That is more than all
shapes of up to ten levels with up to two ``+`` and a ``#`` have.
"""


class FilterBounds:
    """Counts the filters of one kept session.

    Attributes:
        size: Bytes that they take in a record, see ``control.subscription_size``.

    Args:
        filters: Those that it has. However many, they stay.
    """

    __slots__ = ("_shapes", "size")

    def __init__(self, filters: Iterable[str] = ()) -> None:
        self.size = sum(map(subscription_size, filters))
        # Only once there are so many that they could be too many: no level takes less than a byte.
        self._shapes: FilterShapes | None = None

    def add(self, topic_filter: str, others: Iterable[str]) -> str:
        """Count a filter that is not among the others; return why it must not be one of them."""
        size = subscription_size(topic_filter)
        if self.size + size > TEXT_SIZE_MAX:
            return f"the filters of this session take more than {TEXT_SIZE_MAX} bytes"
        if is_wildcard(topic_filter):
            if self._shapes is None and self.size + size > BEGINNINGS_MAX:
                self._shapes = _shapes_of(others)
            if self._shapes is not None:
                try:
                    self._shapes.add(topic_filter)
                except FilterTooCostlyError as exc:
                    return str(exc)
        self.size += size
        return ""

    def remove(self, topic_filter: str) -> None:
        """Count a filter no more."""
        self.size -= subscription_size(topic_filter)
        if self._shapes is not None and is_wildcard(topic_filter):
            self._shapes.remove(topic_filter)


def _shapes_of(filters: Iterable[str]) -> FilterShapes:
    shapes = FilterShapes(BEGINNINGS_MAX)
    for topic_filter in filter(is_wildcard, filters):
        shapes.take(topic_filter)
    return shapes
