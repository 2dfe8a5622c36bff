"""What was read of a Kafka topic of others, and is not known to be on the bus yet.

While records are on their way to the bus more are read: a record does not wait for the answers to
those before it. So three things have to be looked after. The bus gets the records of a partition in
their order. A partition counts as read up to the first record that the bus does not have. And there
are never more records on their way than ``UNDER_WAY_MAX``: who reads waits then.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from aiokafka import TopicPartition

from monstermq_edge.ingress.appending import Appender, Item
from monstermq_edge.ingress.counts import IngressCounts
from monstermq_edge.ingress.messages import Source
from monstermq_shared.bus.appending import Appended, refusal_of
from monstermq_shared.errors import BusUnavailable, BusUntimely, InvalidTopic
from monstermq_shared.retries import pause

UNDER_WAY_MAX = 2_000
"""Records of a topic that were read and do not count as read; so many are read again after a kill.

A few times what a thousand a second need while Kafka takes its time to answer.
"""


class Piece:
    """Records of one partition that were read together.

    Attributes:
        at: The partition.
        upto: The offset behind them.
        times_ms: Theirs, as their producers say.
        is_open: Not all of them were handed over yet.
        under_way: How many the bus may have, or will get.
        refused: How many have to be kept aside.
        since_s: When they were read, by ``time.monotonic``.
    """

    __slots__ = ("at", "is_open", "refused", "since_s", "times_ms", "under_way", "upto")

    def __init__(self, at: TopicPartition, upto: int, times_ms: Sequence[int]) -> None:
        self.at = at
        self.upto = upto
        self.times_ms = times_ms
        self.is_open = True
        self.under_way = 0
        self.refused = 0
        self.since_s = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether the bus has all that are messages, and what is none was kept aside."""
        return not (self.is_open or self.under_way or self.refused)


class Refusal(NamedTuple):
    """What the log takes neither now nor later, or what is no message."""

    piece: Piece
    source: Source
    reason: str


class _Sent(NamedTuple):
    piece: Piece
    item: Item
    partition: int


class Window:
    """One topic's. One task hands records over; everybody may wait for the answers.

    Args:
        appender: Brings messages to the bus.
        counts: Counts them.
        on_done: Is told what counts as read, in the order of each partition.
    """

    def __init__(
        self, appender: Appender, counts: IngressCounts, on_done: Callable[[Piece], None]
    ) -> None:
        self._appender = appender
        self._counts = counts
        self._on_done = on_done
        self._pieces: dict[TopicPartition, deque[Piece]] = {}
        self._unanswered = 0
        self._changed = asyncio.Event()
        # What the log has refused for its time: our clock was off, or the log did not answer long.
        self._untimely: list[_Sent] = []
        self._refusals: list[Refusal] = []
        # (run, partition of the bus) -> the highest sequence that is there; since it last settled.
        self._landed: dict[tuple[bytes, int], int] = {}
        self._error: Exception | None = None

    @property
    def room(self) -> int:
        """How many records may be read now."""
        return max(UNDER_WAY_MAX - self._counts.under_way, 0)

    @property
    def needs_settling(self) -> bool:
        """Whether something was refused, or the bus was closed: call ``settle`` soon."""
        return bool(self._untimely or self._refusals or self._error)

    @property
    def since_s(self) -> float | None:
        """When the oldest record was read that the bus has not answered, see ``Piece.since_s``."""
        waiting = (at for pieces in self._pieces.values() for at in pieces if at.under_way)
        return min((at.since_s for at in waiting), default=None)

    # -- what was read ---------------------------------------------------------------------------

    def open(self, at: TopicPartition, upto: int, times_ms: Sequence[int]) -> Piece:
        """Note what was read of a partition, behind what was read of it before."""
        piece = Piece(at, upto, times_ms)
        self._pieces.setdefault(at, deque()).append(piece)
        self._counts.under_way += len(times_ms)
        return piece

    async def append(self, piece: Piece, item: Item) -> None:
        """Append a message, in the order of the calls, as soon as the log takes it.

        Raises:
            BusUnavailable: The bus was closed.
        """
        piece.under_way += 1
        partition = self._appender.partition_of(item)
        while True:
            await self._repeat()
            if await self._try(_Sent(piece, item, partition)):
                return

    def refuse(self, piece: Piece, source: Source, reason: str) -> None:
        """Note a record that is no message, or never becomes one."""
        piece.refused += 1
        self._refusals.append(Refusal(piece, source, reason))

    def close(self, piece: Piece) -> None:
        """Note that all messages of a piece were handed over."""
        piece.is_open = False
        self._advance(piece.at)

    # -- what becomes of it ----------------------------------------------------------------------

    async def change(self) -> None:
        """Return when the bus has answered something."""
        self._changed.clear()
        await self._changed.wait()

    async def answers(self) -> None:
        """Return when the bus has answered everything.

        Raises:
            BusUnavailable: The bus was closed.
        """
        while self._unanswered:
            await self.change()
        if self._error is not None:
            raise self._error

    async def settle(self) -> Sequence[Refusal]:
        """Return what has to be kept aside, once the bus has everything else.

        Raises:
            BusUnavailable: The bus was closed.
        """
        await self.answers()
        while self._untimely:
            await self._repeat()
            await self.answers()
        # From now on nothing can be overtaken by what was there before.
        self._landed.clear()
        return [*self._refusals]

    def kept(self, refusals: Sequence[Refusal]) -> None:
        """Note that what ``settle`` has returned was kept aside."""
        del self._refusals[: len(refusals)]
        for piece, *_ in refusals:
            piece.refused -= 1
            self._advance(piece.at)

    async def _try(self, sent: _Sent) -> bool:
        """Append if the log has room; else return False as soon as it has."""
        try:
            future = self._appender.append(sent.partition, sent.item)
        except InvalidTopic as exc:
            sent.piece.under_way -= 1
            self.refuse(sent.piece, sent.item.source, str(exc))
        except BusUnavailable:
            # Raises the same if the bus is closed.
            await self._appender.room()
            return False
        else:
            self._unanswered += 1
            future.add_done_callback(partial(self._answered, sent))
        return True

    def _answered(self, sent: _Sent, future: Appended) -> None:
        self._unanswered -= 1
        self._changed.set()
        piece, item, partition = sent
        try:
            error = refusal_of(future)
        except Exception as exc:  # noqa: BLE001 - whoever waits gets it
            self._error = exc
            return
        if isinstance(error, BusUntimely):
            self._untimely.append(sent)
            return
        piece.under_way -= 1
        if error is None:
            self._counts.messages += 1
            at = item.run, partition
            self._landed[at] = max(self._landed.get(at, -1), item.source.offset)
            self._advance(piece.at)
        else:
            self.refuse(piece, item.source, str(error))

    async def _repeat(self) -> None:
        """Append again what was untimely, for as long as a clock is off, before anything else."""
        attempt = 0
        while self._untimely:
            await self.answers()
            again = deque(sorted(self._untimely, key=lambda sent: sent.item.source.offset))
            self._untimely = []
            await pause(attempt)
            attempt += 1
            while again and not self._untimely:
                if self._is_overtaken(again[0]) or await self._try(again[0]):
                    again.popleft()
            self._untimely += again

    def _is_overtaken(self, sent: _Sent) -> bool:
        """Whether a later one stands already: by R1 this one would count for nothing."""
        piece, item, partition = sent
        if self._landed.get((item.run, partition), -1) < item.source.offset:
            return False
        piece.under_way -= 1
        self.refuse(piece, item.source, "the log has refused its time, and has a later one already")
        return True

    def _advance(self, at: TopicPartition) -> None:
        pieces = self._pieces[at]
        while pieces and pieces[0].is_done:
            piece = pieces.popleft()
            self._counts.under_way -= len(piece.times_ms)
            self._on_done(piece)
