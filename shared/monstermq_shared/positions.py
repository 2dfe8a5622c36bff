"""Where records stand: partitions of logs, positions in them, and how far a view has come."""

from typing import NamedTuple


class Position(NamedTuple):
    """Where a record stands: the only identity of a delivery, together with the log's generation.

    Attributes:
        partition: From 0.
        offset: Grows within the partition. It may jump over numbers no record has.
    """

    partition: int
    offset: int


class Partition(NamedTuple):
    """One partition of one log: what offsets are relative to.

    Attributes:
        generation: Which log it belongs to. Offsets of another generation mean nothing here.
        number: From 0.
    """

    generation: str
    number: int


class Mark(NamedTuple):
    """How far a projection has come in a partition.

    Attributes:
        reflected: The next offset whose record its rows do not reflect.
        restart: Where reading begins again, so that what the projection holds in memory can be
            rebuilt; never above ``reflected``.
    """

    reflected: int
    restart: int
