"""What a projection is: a pure fold from records to changes of one store."""

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

from monstermq_shared.records import Record

Changes_co = TypeVar("Changes_co", covariant=True)


class Projection(Protocol[Changes_co]):
    """A fold. It keeps no state that a store would have to know of, and does no I/O.

    Attributes:
        name: What its watermark is stored under.
        retained_only: It folds only records with the retain flag, so that no other need be made.
        every_topic: It wants every topic that does not begin with ``$``; only for the others
            ``wants`` makes a difference.
    """

    name: str
    retained_only: bool
    every_topic: bool

    def named(self, name: str) -> Self:
        """Return the same projection with a watermark of its own."""
        ...

    def wants(self, topic: str) -> bool:
        """Whether records on this topic concern it at all. Cheap: asked once per route."""
        ...

    def fold(self, records: Sequence[Record]) -> Changes_co:
        """Return what these records change; those it does not want change nothing.

        Args:
            records: In order of offset; a second fold of the same ones gives the same changes.
        """
        ...
