"""What the worker of the sessions log appends: facts, to its own log and to the bus (S3 to S6).

They are all such that it does not matter how often they stand there, nor who has appended them: so
whatever is refused is appended again as a new record.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from os import urandom
from typing import NamedTuple

from monstermq_projector.patient_appends import append_patiently
from monstermq_shared.bus.appending import Appended, append_when_room, refusal_of
from monstermq_shared.bus.control import control_texts
from monstermq_shared.bus.facts import Fact
from monstermq_shared.bus.header import RUN_SIZE, Kind
from monstermq_shared.bus.ports import LogPort, Stamp
from monstermq_shared.clock import Clock
from monstermq_shared.errors import BusError, BusUnavailable
from monstermq_shared.records import CONTROL_TOPIC, SESSION_TOPIC, ControlRecord
from monstermq_shared.sessions.distributed.session_asks import Ask
from monstermq_shared.stores.outages import Outage

logger = logging.getLogger(__name__)

BUS, SESSIONS = CONTROL_TOPIC, SESSION_TOPIC
"""The two logs, by the key of what is appended there."""


@dataclass(slots=True, kw_only=True)
class AppendCounts:
    """What was appended; every number only grows.

    Attributes:
        refused: Records of facts that were refused, and are asked for again.
        lost: Those that were refused for good; each has a line in the log of the process.
    """

    refused: int = 0
    lost: int = 0


class _Text(NamedTuple):
    """One record's."""

    log: str
    partition: int
    kind: Kind
    text: bytes


class FactAppends:
    """Appends for all partitions of the sessions log.

    Args:
        messages: The bus.
        sessions: The sessions log.
        clock: For the time of records.
        outage: Is told while records are refused for their time.
    """

    def __init__(self, messages: LogPort, sessions: LogPort, clock: Clock, outage: Outage) -> None:
        self.counts = AppendCounts()
        self._logs = {BUS: messages, SESSIONS: sessions}
        self._clock = clock
        self._outage = outage
        self._run = urandom(RUN_SIZE)
        self._sequences: dict[tuple[str, int], int] = {}

    async def resolve(self, partition: int, asks: Sequence[Ask]) -> None:
        """Append, and return when the logs have it: what is committed depends on it.

        Args:
            partition: Of the sessions log, where facts go that name none of the bus.
            asks: What.

        Raises:
            BusUnavailable: The bus was closed.
        """
        await append_patiently(_texts(partition, asks), self._try, self._lost, self._outage)

    def _lost(self, text: _Text, error: BusError) -> None:
        self.counts.lost += 1
        logger.error(
            "facts of sessions are refused for good by partition %d of %s: %s: %.200s",
            *(text.partition, text.log, error, text.text.decode()),
        )

    async def _try(self, texts: Sequence[_Text]) -> list[tuple[_Text, BusError]]:
        """Append all; return what was refused, whose sequence is never used again (R1)."""
        futures = [
            await append_when_room(self._logs[text.log], partial(self._append, text))
            for text in texts
        ]
        await asyncio.gather(*futures, return_exceptions=True)
        errors = map(refusal_of, futures)
        refused = [(text, why) for text, why in zip(texts, errors, strict=True) if why is not None]
        self.counts.refused += len(refused)
        return refused

    def offer(self, partition: int, asks: Sequence[Ask]) -> bool:
        """Append what is asked for again if it is not read back; return whether there was room.

        The arguments are those of ``resolve``.
        """
        for text in _texts(partition, asks):
            try:
                future = self._append(text)
            except BusUnavailable as exc:
                self._told(exc)
                return False
            future.add_done_callback(self._offered)
        return True

    def _append(self, text: _Text) -> Appended:
        record = ControlRecord(text.log, text.text, self._clock.wall_ms(), 0, text.kind)
        place = text.log, text.partition
        sequence = self._sequences.get(place, 0)
        future = self._logs[text.log].append(text.partition, [record], Stamp(self._run, sequence))
        self._sequences[place] = sequence + 1
        return future

    def _offered(self, future: Appended) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._told(error)

    def _told(self, error: BaseException) -> None:
        self.counts.refused += 1
        logger.warning("facts of sessions are not appended yet, and asked for again: %s", error)


def _texts(partition: int, asks: Sequence[Ask]) -> list[_Text]:
    """Return facts as few records as may be, in order for each partition."""
    facts: dict[tuple[str, int], list[Fact]] = {}
    for ask in asks:
        place = (SESSIONS, partition) if ask.partition is None else (BUS, ask.partition)
        facts.setdefault(place, []).append(ask.fact)
    return [
        _Text(*place, kind, text) for place, of in facts.items() for kind, text in control_texts(of)
    ]
