"""Recognizes records appended twice, because nobody knew whether the first time had worked."""

from monstermq_shared.bus.ports import Stamp

WRITERS_MAX = 4096
"""Writers remembered in each partition. Only a retry, seconds later, has to be recognized."""


class Duplicates:
    """The highest sequence of each writer, per partition.

    A repeated batch follows the first one before anything newer of its writer does, so whatever
    is not above the highest sequence has been there.

    Args:
        writers_max: How many are remembered; the one silent for longest is forgotten first.
    """

    __slots__ = ("_highest", "_writers_max")

    def __init__(self, writers_max: int = WRITERS_MAX) -> None:
        self._highest: dict[tuple[int, str], int] = {}
        self._writers_max = writers_max

    def is_new(self, partition: int, stamp: Stamp) -> bool:
        """Whether no record with this stamp has been noted in the partition."""
        highest = self._highest.get((partition, stamp.writer))
        return highest is None or stamp.sequence > highest

    def note(self, partition: int, stamp: Stamp) -> None:
        """Remember a record that is new."""
        writer = (partition, stamp.writer)
        if self._highest.pop(writer, None) is None and len(self._highest) >= self._writers_max:
            del self._highest[next(iter(self._highest))]
        self._highest[writer] = stamp.sequence
