"""Chunks: the records of one partition that Faust carries from Kafka in one piece.

Faust costs about 100 us a message. So one of its messages is all that a fetch has brought of a
partition, its value the records as aiokafka has parsed them, and its offset that of the last one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import faust
from faust.types import TP, AppT, Message
from faust.types.tuples import ConsumerMessage


class Chunk(NamedTuple):
    """What a fetch has brought of one partition.

    Attributes:
        partition: Its number.
        records: aiokafka's ``ConsumerRecord``, in order of offset, at least one.
    """

    partition: int
    records: Sequence[Any]


class Reading(Protocol):
    """The Kafka side, as whoever takes the chunks may direct it."""

    async def read_from(self, partition: int, offset: int) -> None:
        """Let the next chunk begin at an offset, and the partition be fetched, if it is ours."""
        ...

    def hold(self, partition: int) -> None:
        """Fetch nothing more of a partition."""
        ...


class ChunkTarget(Protocol):
    """Who takes the chunks. A rebalance revokes everything, and then assigns."""

    def assigned(self, partitions: Collection[int], reading: Reading) -> None:
        """These partitions are ours from now on."""
        ...

    def revoked(self) -> None:
        """No partition is ours any more; whoever has them now may commit already."""
        ...

    async def positions(self) -> Mapping[int, int]:
        """Return partition -> the offset of the next chunk, of those for which it is known.

        It waits a moment for those of which it is not; they are begun by ``Reading.read_from``.
        """
        ...

    async def deliver(self, chunk: Chunk) -> None:
        """Take a chunk; wait while there is no room. Raises nothing."""
        ...


class ChunkSettings(Protocol):
    """What the transport asks of the application.

    Attributes:
        bus_topic: What is read.
        target: Who takes the chunks.
        consumer_arguments: For aiokafka's consumer, but group and positions.
    """

    bus_topic: str
    target: ChunkTarget
    consumer_arguments: Mapping[str, Any]


class ChunkScheduler:
    """Gives the consumer each partition's records in one piece (Faust's ``ConsumerScheduler``)."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, list[Any]]]:
        """Yield a partition and what there is of it, for each."""
        return iter(records.items())


class ChunkSchema(faust.Schema[Any, Any]):
    """Decodes nothing: a message's value is the chunk's records."""

    def loads_key(self, app: AppT, message: Message, **_: object) -> None:
        """A chunk has no key."""

    def loads_value(self, app: AppT, message: Message, **_: object) -> object:
        """Return the records."""
        return message.value


def message_of(tp: TP, records: list[Any], generation_id: int) -> ConsumerMessage:
    """Return the one message that stands for a partition's records."""
    last = records[-1]
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.offset,
        last.timestamp / 1000.0,
        last.timestamp_type,
        None,
        None,
        cast("Any", records),
        None,
        None,
        None,
        tp,
        generation_id=generation_id,
    )
