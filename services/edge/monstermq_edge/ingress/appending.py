"""Brings a message of a Kafka topic to the bus, under the run of the place where it stood (R1)."""

import hashlib
from typing import NamedTuple

from monstermq_edge.ingress.messages import Incoming, Source
from monstermq_shared.bus.appending import Appended
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.ports import LogPort, Stamp
from monstermq_shared.clock import Clock
from monstermq_shared.records import Record

_PREFIX = b"k"  # no run of wills begins so, which would never be forgotten


def run_of(*names: object) -> bytes:
    """Return the run under which a partition of somebody else's topic is appended (R1)."""
    text = "\0".join(map(str, names))
    return _PREFIX + hashlib.sha256(text.encode()).digest()[: RUN_SIZE - len(_PREFIX)]


class Item(NamedTuple):
    """A message on its way.

    Attributes:
        run: See ``run_of``.
        source: The record that it was; its offset is the sequence.
    """

    run: bytes
    source: Source
    incoming: Incoming


class Appender:
    """Appends, with the time of then: a log takes no old records (R7).

    Args:
        log: The messages of the bus.
        clock: The wall's.
    """

    def __init__(self, log: LogPort, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    def partition_of(self, item: Item) -> int:
        """Return the partition of the bus where it belongs."""
        return self._log.partition_of(item.incoming.publication.topic)

    def append(self, partition: int, item: Item) -> Appended:
        """Append it behind what was appended before.

        Raises:
            InvalidTopic, BusUnavailable: See ``LogPort.append``.
        """
        publication, client_id = item.incoming
        record = Record(
            *(publication.topic, publication.payload, publication.qos, publication.retained),
            *(client_id, self._clock.wall_ms(), 0),
        )
        return self._log.append(partition, [record], Stamp(item.run, item.source.offset))

    async def room(self) -> None:
        """See ``LogPort.room``."""
        await self._log.room()
