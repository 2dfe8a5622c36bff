"""Brings what is read of the logs to the engine, no faster than that takes it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Protocol

from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import BusError, BusGap

AHEAD_MAX = 2_000
"""Entries of one log that may wait for the engine before no more are read."""

AHEAD_BATCHES_MAX = 16
"""Batches of one log, likewise: one is what a fetch has brought of a partition, or a single record
that is larger, so this bounds the bytes that wait."""


class Handled(Protocol):
    """What was read of one log and waits for the engine."""

    @property
    def waiting(self) -> int:
        """Entries."""
        ...

    @property
    def batches(self) -> int:
        """Batches that hold them."""
        ...


class Following:
    """Follows one log.

    While messages wait for a lease (E13), the sessions log must be read on, or the wait never ends:
    so each has one of its own.

    Args:
        log: What is read.
        take: Takes what was read.
        handled: What of that waits.
        touch: Makes sure that the loop turn is finished.
    """

    def __init__(
        self,
        log: KafkaLog,
        take: Callable[[RecordBatch], None],
        handled: Handled,
        touch: Callable[[], None],
    ) -> None:
        self._log = log
        self._take = take
        self._handled = handled
        self._touch = touch
        self._room = asyncio.Event()

    def end_turn(self) -> None:
        """The engine has handled some of it: more may be read."""
        if not self._is_ahead():
            self._room.set()

    def _is_ahead(self) -> bool:
        handled = self._handled
        return handled.waiting > AHEAD_MAX or handled.batches > AHEAD_BATCHES_MAX

    async def run(self, positions: Mapping[int, int], known: Mapping[int, Runs]) -> None:
        """Bring all from there on.

        Raises:
            BusError: What comes next is not there: only a new run can go on (E1).
        """
        try:
            await self._bring(positions, known)
        except BusGap as exc:
            raise BusError(
                f"{self._log.topic}: {exc}. All clients of this edge are disconnected, and it has "
                "to be started again. Raise Kafka.Bus.RetentionHours if it was too slow for "
                "retention"
            ) from exc

    async def _bring(self, positions: Mapping[int, int], known: Mapping[int, Runs]) -> None:
        async with aclosing(self._log.read(positions, known)) as reader:
            async for batch in reader:
                self._take(batch)
                self._touch()
                if self._is_ahead():
                    self._room.clear()
                    await self._room.wait()
