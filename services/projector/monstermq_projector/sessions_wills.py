"""What the worker of the sessions log publishes: wills that are due (S2)."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from monstermq_projector.patient_appends import append_patiently
from monstermq_shared.bus.appending import Appended, append_when_room, refusal_of
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.ports import LogPort, Stamp
from monstermq_shared.bus.runs import WILL_RUN
from monstermq_shared.clock import Clock
from monstermq_shared.errors import BusError, InvalidTopic
from monstermq_shared.records import Record
from monstermq_shared.sessions.distributed.session_asks import WillDue
from monstermq_shared.stores.outages import Outage

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class WillCounts:
    """What was appended; every number only grows.

    Attributes:
        wills: Wills that the log has.
        wills_lost: Wills that it refuses for good; each has a line in the log of the process.
    """

    wills: int = 0
    wills_lost: int = 0


class Wills:
    """Publishes wills for all partitions of the sessions log.

    Args:
        messages: The bus.
        clock: For the time of records.
        outage: Is told while records are refused for their time.
    """

    def __init__(self, messages: LogPort, clock: Clock, outage: Outage) -> None:
        self.counts = WillCounts()
        self._messages = messages
        self._clock = clock
        self._outage = outage

    async def publish(self, partition: int, wills: Sequence[WillDue]) -> None:
        """Append wills of a sessions partition, and return when their fate is known (S2).

        Raises:
            BusUnavailable: The bus was closed.
        """
        run = WILL_RUN + partition.to_bytes(RUN_SIZE - len(WILL_RUN), "big")
        await append_patiently(wills, partial(self._try, run), self._lost, self._outage)

    async def _try(self, run: bytes, wills: Sequence[WillDue]) -> list[tuple[WillDue, BusError]]:
        """Append in order; return what is refused and may be appended again."""
        under_way: list[tuple[WillDue, int, Appended]] = []
        for will in wills:
            number = self._messages.partition_of(will.will.topic)
            append = partial(self._append, run, number, will)
            try:
                under_way.append((will, number, await append_when_room(self._messages, append)))
            except InvalidTopic as exc:
                self._lost(will, exc)
        await asyncio.gather(*(future for *_, future in under_way), return_exceptions=True)
        refused: list[tuple[WillDue, BusError]] = []
        passed: set[int] = set()
        for will, number, future in reversed(under_way):
            error = refusal_of(future)
            if error is None:
                self.counts.wills += 1
                passed.add(number)
            elif number in passed:
                # A later one stands there already: by R1 this one would count for nothing.
                self._lost(will, error)
            else:
                refused.append((will, error))
        return refused[::-1]

    def _append(self, run: bytes, partition: int, due: WillDue) -> Appended:
        """Append a will with the time of now."""
        will = due.will
        record = Record(
            *(will.topic, will.payload, will.qos, will.retain, due.client_id),
            *(self._clock.wall_ms(), 0),
        )
        return self._messages.append(partition, [record], Stamp(run, due.sequence))

    def _lost(self, due: WillDue, error: Exception) -> None:
        self.counts.wills_lost += 1
        logger.error(
            "the will of client %r to topic %r is lost: %s",
            *(due.client_id[:200], due.will.topic[:200], error),
        )
