"""Brings messages of a Kafka topic to the bus, each once as far as R1 reaches."""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from monstermq_edge.ingress.messages import Incoming
from monstermq_shared.bus.appending import Appended, append_when_room, refusal_of
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.ports import LogPort, Stamp
from monstermq_shared.clock import Clock
from monstermq_shared.errors import BusUntimely, InvalidTopic
from monstermq_shared.records import Record
from monstermq_shared.retries import pause

AT_ONCE = 50
"""Messages that are appended in one go; then others have their turn."""

_PREFIX = b"k"  # no run of wills begins so, which would never be forgotten


def run_of(*names: object) -> bytes:
    """Return the run under which a partition of somebody else's topic is appended (R1)."""
    text = "\0".join(map(str, names))
    return _PREFIX + hashlib.sha256(text.encode()).digest()[: RUN_SIZE - len(_PREFIX)]


class Item(NamedTuple):
    """A message on its way.

    Attributes:
        run: See ``run_of``.
        sequence: The offset where it came from.
    """

    run: bytes
    sequence: int
    incoming: Incoming


class Refusal(NamedTuple):
    """What the log takes neither now nor later."""

    item: Item
    reason: str


class Appender:
    """Appends, with the time of then: a log takes no old records (R7).

    Args:
        log: The messages of the bus.
        clock: The wall's.
    """

    def __init__(self, log: LogPort, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def append(self, items: Sequence[Item]) -> list[Refusal]:
        """Append in order, and return what is refused once the log has everything else.

        What is refused for its time is appended again, for as long as a clock is off.

        Raises:
            BusUnavailable: The bus was closed.
        """
        refused: list[Refusal] = []
        attempt = 0
        while True:
            untimely = await self._try(items, refused)
            if not untimely:
                return refused
            items = untimely
            await pause(attempt)
            attempt += 1

    async def _try(self, items: Sequence[Item], refused: list[Refusal]) -> list[Item]:
        under_way: list[tuple[Item, int, Appended]] = []
        for number, item in enumerate(items, 1):
            partition = self._log.partition_of(item.incoming.publication.topic)
            append = partial(self._append, partition, item)
            try:
                under_way.append((item, partition, await append_when_room(self._log, append)))
            except InvalidTopic as exc:
                refused.append(Refusal(item, str(exc)))
            if not number % AT_ONCE:
                await asyncio.sleep(0)
        await asyncio.gather(*(future for *_, future in under_way), return_exceptions=True)
        untimely: list[Item] = []
        passed: set[tuple[bytes, int]] = set()
        for item, partition, future in reversed(under_way):
            error = refusal_of(future)
            if error is None:
                passed.add((item.run, partition))
            elif isinstance(error, BusUntimely) and (item.run, partition) not in passed:
                untimely.append(item)
            else:
                # Also where a later one stands already: by R1 this one would count for nothing.
                refused.append(Refusal(item, str(error)))
        return untimely[::-1]

    def _append(self, partition: int, item: Item) -> Appended:
        """Append a message with the time of now."""
        publication, client_id = item.incoming
        record = Record(
            *(publication.topic, publication.payload, publication.qos, publication.retained),
            *(client_id, self._clock.wall_ms(), 0),
        )
        return self._log.append(partition, [record], Stamp(item.run, item.sequence))
