"""How much a match can cost at most, known before a filter is let in.

The *shape* of a filter says which of its levels are wildcards: ``+/a/#`` and ``+/b/#`` have the
same. Among the filters of one shape a topic name has one path through a trie at most, because it
spells all that is not a wildcard. So a match visits no more nodes than there are different
beginnings of shapes, however many filters and whatever topics there are. Ordinary use has some
dozens of them; who subscribes to the likes of ``+/a/+/+/a`` by the thousand makes many.
"""

from collections import Counter

from monstermq_shared.errors import MonsterError


class FilterTooCostlyError(MonsterError):
    """With this filter, a message could cost more than one message may."""


class _Beginning:
    """A beginning of shapes: what follows it, and how many shapes have it."""

    __slots__ = ("following", "shapes")

    def __init__(self) -> None:
        self.following: dict[str, _Beginning] = {}
        self.shapes = 0


class FilterShapes:
    """Counts the beginnings of the shapes of all filters with wildcards.

    Args:
        beginnings_max: More than so many are refused.
    """

    def __init__(self, beginnings_max: int) -> None:
        self._beginnings_max = beginnings_max
        self._filters: Counter[str] = Counter()  # by shape
        self._root = _Beginning()
        self._count = 0

    def __len__(self) -> int:
        """Return how many nodes a match visits at most."""
        return self._count

    def add(self, topic_filter: str) -> None:
        """Count a filter with wildcards that is not among those counted.

        Raises:
            FilterTooCostlyError: Its shape is new, and there would be too many beginnings.
        """
        self._add(_shape(topic_filter), self._beginnings_max)

    def take(self, topic_filter: str) -> None:
        """Count a filter that is there already: it is not refused."""
        self._add(_shape(topic_filter), None)

    def _add(self, shape: str, beginnings_max: int | None) -> None:
        if shape not in self._filters:
            self._add_shape(shape, beginnings_max)
        self._filters[shape] += 1

    def _add_shape(self, shape: str, beginnings_max: int | None) -> None:
        at = self._root
        known = 0
        while known < len(shape) and (found := at.following.get(shape[known])) is not None:
            at = found
            known += 1
        count = self._count + len(shape) - known
        if beginnings_max is not None and count > beginnings_max:
            raise FilterTooCostlyError(
                f"a message could visit more than {beginnings_max} nodes with one more "
                "filter whose wildcards stand where no other filter has them"
            )
        self._count = count
        at = self._root
        for kind in shape:
            at = at.following.setdefault(kind, _Beginning())
            at.shapes += 1

    def remove(self, topic_filter: str) -> None:
        """Count a filter no more that was added."""
        shape = _shape(topic_filter)
        self._filters[shape] -= 1
        if self._filters[shape]:
            return
        del self._filters[shape]
        at = self._root
        for depth, kind in enumerate(shape):
            below = at.following[kind]
            below.shapes -= 1
            if not below.shapes:
                # No other shape goes on here, so what follows is this one's alone.
                del at.following[kind]
                self._count -= len(shape) - depth
                return
            at = below


def _shape(topic_filter: str) -> str:
    """Return one character per level: the wildcard, or a dot."""
    return "".join([level if level in {"+", "#"} else "." for level in topic_filter.split("/")])
