"""One log on Kafka: the log port, and the quicker way in that an edge has beside it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from monstermq_shared.bus.facts import Fact
from monstermq_shared.bus.kafka.encoding import RunEncoder
from monstermq_shared.bus.kafka.outbox import Outbox
from monstermq_shared.bus.kafka.pieces import FactsPiece, Piece, RecordPiece, RunsPiece
from monstermq_shared.bus.kafka.positions import Positions
from monstermq_shared.bus.kafka.presence import refuse_lost_topic
from monstermq_shared.bus.kafka.producing import PatientProducers
from monstermq_shared.bus.kafka.reader import KafkaReader
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.room import Room
from monstermq_shared.bus.runs import Runs
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import KIB
from monstermq_shared.errors import BusRefused, BusUnavailable
from monstermq_shared.kafka import murmur2
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.messages import MessageRun
from monstermq_shared.positions import Position
from monstermq_shared.records import Record

logger = logging.getLogger(__name__)

PARTITIONS_KEPT_MAX = 65_536
"""How many keys' partitions are remembered; to work one out takes longer the longer the key is."""

NO_ANSWER = "Kafka does not answer"
"""Why a batch waits of which nobody has said anything."""

REFUSALS_TOLD_S = 10.0
"""How often it is logged that records are refused."""

STUCK_S = 5.0
"""A full partition whose batch has waited for so long is not full of too much, but stands still."""


class _Append:
    """The ticket of ``LogPort.append``."""

    __slots__ = ("_left", "future")

    def __init__(self, future: "asyncio.Future[Position | None]", count: int) -> None:
        self.future = future
        self._left = count

    def settle(self, error: Exception | None) -> None:
        """One of its records is appended or refused."""
        self._left -= 1
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        elif not self._left:
            # Kafka does not always tell the offset of what it has been given twice.
            self.future.set_result(None)


class KafkaLog:
    """One log; see ``ports.LogPort``. The other half is the engine's own way in.

    What an edge's clients publish comes in runs, and an engine wants no future for each of them:
    it leaves a *ticket*, any object, and is called back once for all tickets of a batch. All calls
    are made in the loop.

    Attributes:
        topic: The Kafka topic.
        partitions: How many.
        run: This process, as the stamps of what it appends name it.
        on_appended: Given the tickets of what Kafka has, in order per partition.
        on_refused: Given the tickets of what it will never take, and why.
        on_room: Given a partition that was full and is half empty again (E14).
        refused: Records that Kafka has refused.

    Args:
        topic: See above.
        partitions: See above.
        control_topic: The topic that control records of this log have.
        run: See above.
        settings: Of the cluster.
    """

    def __init__(
        self, topic: str, partitions: int, control_topic: str, run: bytes, settings: KafkaSettings
    ) -> None:
        self.topic = topic
        self.partitions = partitions
        self.run = run
        self.on_appended: Callable[[list[object]], None] = _nobody
        self.on_refused: Callable[[list[object], BusRefused], None] = _nobody
        self.on_room: Callable[[int], None] = _nobody
        self.refused = 0
        self.lateness_ms = settings.section.bus.lateness_s * 1000
        self.linger_s = settings.linger_s
        self.batch_size_max = settings.batch_size_max
        self._size_max = settings.section.bus.in_flight_kb_per_partition * KIB
        self._control_topic = control_topic
        self._encoder = RunEncoder()
        self._settings = settings
        self._producers = PatientProducers(settings.producer_options)
        self._outboxes = [
            Outbox(partition, self, self._producers, SystemClock().wall_ms)
            for partition in range(partitions)
        ]
        self._touched: dict[Outbox, None] = {}
        self._full: set[int] = set()
        self._troubled: set[int] = set()
        self._room = Room(self._has_room)
        self._pumps: list[asyncio.Task[None]] = []
        self._readers: dict[KafkaReader, None] = {}
        self._positions = Positions(topic, partitions, settings)
        self._closed = False
        self._refusal_told_s = -REFUSALS_TOLD_S
        self._partition_of = lru_cache(maxsize=PARTITIONS_KEPT_MAX)(self._partition_of_key)

    def start(self) -> None:
        """Begin to send; from the loop's thread."""
        self._pumps = [asyncio.create_task(outbox.run()) for outbox in self._outboxes]

    async def watch(self) -> None:
        """See ``KafkaBus.watch``."""
        ended, _ = await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in ended:
            if not pump.cancelled():
                pump.result()

    # -- appending -------------------------------------------------------------------------------

    @property
    def backlog_size(self) -> int:
        """See ``LogPort.backlog_size``."""
        return sum(outbox.size for outbox in self._outboxes)

    def partition_of(self, key: str) -> int:
        """See ``LogPort.partition_of``: as Kafka's own clients choose it."""
        return self._partition_of(key)

    def _partition_of_key(self, key: str) -> int:
        return murmur2.partition_of(key.encode(), self.partitions)

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> asyncio.Future[Position | None]:
        """See ``LogPort.append``.

        Raises:
            BusUnavailable, ValueError: See there.
        """
        self._check(partition)
        if not records:
            raise ValueError("a batch without records has no position")
        if self._closed:
            raise BusUnavailable("the bus is closed")
        if partition in self._full:
            raise BusUnavailable(
                f"{self._outboxes[partition].size} bytes of partition {partition} are not durable "
                "yet"
            )
        future: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
        ticket = _Append(future, len(records))
        outbox = self._outboxes[partition]
        for sequence, record in enumerate(records, stamp.sequence):
            outbox.put(RecordPiece(record, stamp.writer, sequence, ticket))
        self._note_size(outbox)
        outbox.flush()
        return future

    def _check(self, partition: int) -> None:
        if not 0 <= partition < self.partitions:
            raise ValueError(f"there is no partition {partition}, but {self.partitions} from 0 on")

    def _has_room(self) -> bool:
        return not self._full

    async def room(self) -> None:
        """See ``LogPort.room``: in all partitions."""
        await self._room.wait()

    # -- appending, the engine's way -------------------------------------------------------------

    def append_run(
        self,
        partition: int,
        topic: bytes,
        run: MessageRun,
        client_id: str,
        wall_ms: int,
        ticket: object | None,
    ) -> int:
        """Append messages under the process's own run; they are sent after ``flush``.

        Nothing is refused here for want of room: ask ``is_full`` before.

        Args:
            partition: That of the topic.
            topic: The topic name, valid.
            run: The messages.
            client_id: Who published them.
            wall_ms: When.
            ticket: Is in ``on_appended`` when Kafka has all of them; None: nobody is told.

        Returns:
            The sequence of the first message; those of the others follow.
        """
        outbox = self._outboxes[partition]
        sequence = outbox.next_sequence
        outbox.next_sequence = sequence + run.count
        piece = outbox.runs
        if piece is None or not piece.takes(wall_ms):
            piece = RunsPiece(wall_ms, self.run, sequence, self._encoder)
            outbox.open_runs(piece)
        outbox.size += piece.add(topic, run, client_id, wall_ms, ticket)
        self._touched[outbox] = None
        self._note_size(outbox)
        return sequence

    def append_facts(
        self, partition: int, facts: Sequence[Fact], wall_ms: int, ticket: object | None
    ) -> tuple[int, int]:
        """Append facts; those of a partition and loop turn stand in one record, where they fit.

        Args:
            partition: Where.
            facts: In order; they stand in one record in any case.
            wall_ms: When.
            ticket: See ``append_run``.

        Returns:
            The sequence of the record, and the index of the first of these facts in it.
        """
        outbox = self._outboxes[partition]
        piece = outbox.facts
        if piece is None or not piece.text.add(*facts):
            piece = FactsPiece(self._control_topic, wall_ms, self.run, outbox.next_sequence)
            piece.text.add(*facts)
            outbox.next_sequence += 1
            outbox.open_facts(piece)
        outbox.size += piece.grow()
        if ticket is not None:
            piece.waiting.append(ticket)
        self._touched[outbox] = None
        self._note_size(outbox)
        return piece.sequence, piece.text.count - len(facts)

    def flush(self) -> None:
        """Send what was appended since the last call: once per loop turn."""
        for outbox in self._touched:
            outbox.flush()
        self._touched.clear()

    def is_full(self, partition: int) -> bool:
        """Whether so much of a partition is not durable that its publishers are held (E14)."""
        return partition in self._full

    def is_stuck(self, partition: int) -> bool:
        """Whether it is full because Kafka has taken nothing of it for ``STUCK_S``."""
        begun_s = self._outboxes[partition].begun_s
        return (
            partition in self._full
            and begun_s is not None
            and asyncio.get_running_loop().time() - begun_s > STUCK_S
        )

    def _note_size(self, outbox: Outbox) -> None:
        if outbox.size >= self._size_max:
            self._full.add(outbox.partition)

    # -- what became of it: see ``outbox.OutboxOwner`` -------------------------------------------

    def settled(self, outbox: Outbox, pieces: Sequence[Piece]) -> None:
        """See ``OutboxOwner.settled``."""
        appended: list[object] = []
        refused: list[object] = []
        error: BusRefused | None = None
        for piece in pieces:
            if piece.error is not None:
                error = piece.error
                self.refused += piece.refused_count()
            for ticket, why in piece.outcomes():
                if type(ticket) is _Append:
                    ticket.settle(why)
                else:
                    (appended if why is None else refused).append(ticket)
        if appended:
            self.on_appended(appended)
        if error is not None:
            self._tell_refusal(outbox, error)
            if refused:
                self.on_refused(refused, error)
        partition = outbox.partition
        if partition in self._full and 2 * outbox.size <= self._size_max:
            self._full.discard(partition)
            self.on_room(partition)
            self._room.look()

    def _tell_refusal(self, outbox: Outbox, error: BusRefused) -> None:
        """Log it, unless that was done a moment ago: with a wrong clock, all are refused."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._refusal_told_s >= REFUSALS_TOLD_S:
            self._refusal_told_s = now_s
            logger.warning(
                "Kafka refuses records of %s, partition %s, %d since the start: %s",
                self.topic,
                outbox.partition,
                self.refused,
                error,
            )

    def failed(self, outbox: Outbox, reason: str) -> None:
        """See ``OutboxOwner.failed``. Many partitions share a trouble: the first one is told."""
        if not self._troubled:
            logger.warning(
                "Kafka does not take what is written to partition %s of %s: %s; the same records "
                "are appended again until it does",
                outbox.partition,
                self.topic,
                reason,
            )
        self._troubled.add(outbox.partition)

    def worked(self, outbox: Outbox) -> None:
        """See ``OutboxOwner.worked``."""
        if outbox.partition in self._troubled:
            self._troubled.discard(outbox.partition)
            if not self._troubled:
                logger.info("Kafka takes what is written to %s again", self.topic)

    @property
    def producers_begun(self) -> int:
        """How many producers were started: one, and one after each batch that failed."""
        return self._producers.begun

    def stalled(self, longer_than_s: float) -> dict[int, str]:
        """Return the partitions whose batch has waited for so long, and why, if that is known."""
        now_s = asyncio.get_running_loop().time()
        return {
            outbox.partition: outbox.trouble or NO_ANSWER
            for outbox in self._outboxes
            if outbox.begun_s is not None and now_s - outbox.begun_s > longer_than_s
        }

    # -- reading ---------------------------------------------------------------------------------

    def read(
        self, positions: Mapping[int, int], known: Mapping[int, Runs] | None = None
    ) -> KafkaReader:
        """See ``LogPort.read``. A reader that nobody asks fetches nothing."""
        if not positions:
            raise ValueError("a reader needs a partition")
        for partition in positions:
            self._check(partition)
        reader = KafkaReader(self, positions, known or {}, self._settings)
        if self._closed:
            reader.is_open = False
        else:
            self._readers[reader] = None
        return reader

    def drop(self, reader: KafkaReader) -> None:
        """Forget a reader that was closed."""
        self._readers.pop(reader, None)

    async def end_positions(self) -> Mapping[int, int]:
        """See ``LogPort.end_positions``.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        return await self._positions.ends()

    async def first_positions(self) -> Mapping[int, int]:
        """Return for every partition the offset from which on everything is there.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        return await self._positions.firsts()

    async def positions_since(self, time_ms: int) -> Mapping[int, int]:
        """Return the first offset of that time or later, of the partitions that have one.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        return await self._positions.since(time_ms)

    async def refuse_if_lost(self) -> None:
        """Return if the topic is there, or if nobody can say: for whoever gets no answers.

        Raises:
            BusLost: It is gone, or is another one.
        """
        await refuse_lost_topic(
            self._settings, self.topic, self.partitions, lambda: not self._closed
        )

    async def close(self) -> None:
        """See ``BusPort.close``."""
        if self._closed:
            return
        self._closed = True
        self._room.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        error = BusUnavailable("the bus was closed before Kafka said that it has the records")
        for outbox in self._outboxes:
            for piece in outbox.unsettled():
                for ticket in piece.tickets:
                    if type(ticket) is _Append:
                        ticket.settle(error)
        await asyncio.gather(
            self._producers.close(),
            self._positions.close(),
            *(reader.aclose() for reader in [*self._readers]),
        )


def _nobody(*_: object) -> None:
    """Nobody wants to know."""
