"""What waits for one partition, and how it gets there: the writer's half of R1.

One batch of a partition is with the producer at a time, and nothing else of the partition is until
its future has resolved. After a failed future a new producer gets the same records, with the same
sequences and times. What Kafka will never take is cut out of its batch and reported.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from aiokafka.producer.message_accumulator import BatchBuilder

from monstermq_shared.bus.kafka.pieces import (
    ALIKE_MS,
    Batch,
    FactsPiece,
    Piece,
    RunsPiece,
    count_of,
    halves,
)
from monstermq_shared.bus.kafka.producing import PatientProducers
from monstermq_shared.config import KIB
from monstermq_shared.errors import BusRefused, BusUntimely
from monstermq_shared.kafka.errors import meaning_of
from monstermq_shared.retries import pause

_REFUSALS = (InvalidTimestampError, MessageSizeTooLargeError, RecordListTooLargeError)
"""What Kafka says of a batch because of one of its records, or of their number."""


LARGE_SIZE = 512 * KIB
"""A batch of more bytes is under way alone of its kind: what is ready for one server goes there in
one request, and a server closes the connection, again and again, by which a request comes that is
larger than its ``socket.request.max.bytes`` (100 MiB)."""


class OutboxOwner(Protocol):
    """Who is told what becomes of what was appended.

    Attributes:
        topic: The topic of the log.
        lateness_ms: L: Kafka refuses what is older (R7).
        linger_s: How long a batch that is not full waits for more.
        batch_size_max: Bytes of a batch.
    """

    topic: str
    lateness_ms: int
    linger_s: float
    batch_size_max: int

    def settled(self, outbox: "Outbox", pieces: Sequence[Piece]) -> None:
        """Pieces are appended, or refused, all their records; in order."""
        ...

    def failed(self, outbox: "Outbox", reason: str) -> None:
        """A batch has failed, and is repeated."""
        ...

    def worked(self, outbox: "Outbox") -> None:
        """A batch was appended."""
        ...


class Outbox:
    """One partition's.

    Attributes:
        partition: Its number.
        next_sequence: What the next record of this process's own run gets.
        size: Bytes that are not known to be appended, about.
        trouble: Why the batch that is with the producer was not appended at the first try.
        begun_s: When that batch was first handed over, by the loop's clock; None if there is none.

    Args:
        partition: Its number.
        owner: Is told.
        producers: Have the producer of the moment.
        wall_ms: The wall clock, for what is too old to be tried again.
    """

    def __init__(
        self,
        partition: int,
        owner: OutboxOwner,
        producers: PatientProducers,
        wall_ms: Callable[[], int],
    ) -> None:
        self.partition = partition
        self.next_sequence = 0
        self.size = 0
        self.trouble: str | None = None
        self.begun_s: float | None = None
        self._owner = owner
        self._producers = producers
        self._wall_ms = wall_ms
        self._waiting: deque[Piece] = deque()
        # How many records of the first piece that waits are in the batch that is under way.
        self._taken = 0
        self._under_way: Batch = []
        self._facts: FactsPiece | None = None
        self._runs: RunsPiece | None = None
        self._wake = asyncio.Event()

    def put(self, piece: Piece) -> None:
        """Append a piece behind all others; it is sent after ``flush``."""
        self._runs = None
        self._waiting.append(piece)
        self.size += piece.size

    @property
    def facts(self) -> FactsPiece | None:
        """The control record that still takes facts."""
        return self._facts

    def open_facts(self, piece: FactsPiece) -> None:
        """Append a control record that takes facts until ``flush``."""
        self._facts = piece
        self.put(piece)

    @property
    def runs(self) -> RunsPiece | None:
        """The piece at the end that still takes runs."""
        return self._runs

    def open_runs(self, piece: RunsPiece) -> None:
        """Append a piece that takes runs until a batch takes it, or another piece follows."""
        self.put(piece)
        self._runs = piece

    def flush(self) -> None:
        """Let what was put be sent."""
        self._facts = None
        self._wake.set()

    def unsettled(self) -> list[Piece]:
        """Return what waits, and what is with the producer, the oldest first."""
        under_way = [piece for piece, _ in self._under_way if piece.left]
        # Part of a piece may be in the batch, and the rest of it wait.
        return [*dict.fromkeys([*under_way, *self._waiting])]

    async def run(self) -> None:
        """Send batch after batch, until it is cancelled."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            if self._owner.linger_s and self.size < self._owner.batch_size_max:
                await asyncio.sleep(self._owner.linger_s)
            await self._send_next()

    async def _send_next(self) -> None:
        self.begun_s = asyncio.get_running_loop().time()
        producer = await self._producers.take()
        builder = producer.create_batch()
        batch = self._under_way = self._fill(builder)
        error = await self._try(producer, builder)
        if error is None:
            self._settle(batch)
        else:
            await self._repeat(batch, error)
        self._under_way = []
        self.begun_s = None

    def _fill(self, builder: BatchBuilder) -> Batch:
        """Return as much of what waits as goes into one batch."""
        batch: Batch = []
        append, waiting = builder.append, self._waiting
        # Facts that are added later are the next record's, and runs the next piece's.
        self._facts = self._runs = None
        while waiting:
            piece = waiting[0]
            fields = piece.fields()
            if self._taken:
                fields = fields[self._taken :]
            for taken, (time_ms, key, value, headers) in enumerate(fields):
                if append(timestamp=time_ms, key=key, value=value, headers=headers) is None:
                    if taken:
                        batch.append((piece, fields[:taken]))
                        self._taken += taken
                    return batch
            batch.append((piece, fields))
            waiting.popleft()
            self._taken = 0
        return batch

    async def _try(self, producer: AIOKafkaProducer, builder: BatchBuilder) -> Exception | None:
        """Hand a batch over, and return what went wrong once its future has resolved."""
        failed = True
        try:
            builder.close()
            if builder.size() <= LARGE_SIZE:
                await self._hand_over(producer, builder)
            else:
                async with self._producers.large:
                    await self._hand_over(producer, builder)
            failed = False
        except Exception as exc:  # noqa: BLE001 - R1: any failed future, whatever the exception
            return exc
        finally:
            self._producers.release(producer, failed=failed)
        return None

    async def _hand_over(self, producer: AIOKafkaProducer, builder: BatchBuilder) -> None:
        topic, partition = self._owner.topic, self.partition
        await (await producer.send_batch(builder, topic, partition=partition))

    async def _repeat(self, batch: Batch, error: Exception) -> None:
        """Append a batch that failed, all of it that Kafka takes, before anything else (R1)."""
        todo = deque([batch])
        attempt = 0
        while True:
            if isinstance(error, _REFUSALS):
                todo.extendleft(reversed(self._divided(todo.popleft(), error)))
            else:
                self.trouble = meaning_of(error)
                self._owner.failed(self, self.trouble)
                if attempt:
                    await pause(attempt - 1)
                attempt += 1
            while True:
                if not todo:
                    return
                found = await self._append(todo[0])
                if found is not None:
                    break
                self._settle(todo.popleft())
                attempt = 0
            error = found

    async def _append(self, batch: Batch) -> Exception | None:
        producer = await self._producers.take()
        builder = producer.create_batch()
        for _, fields in batch:
            for time_ms, key, value, headers in fields:
                added = builder.append(timestamp=time_ms, key=key, value=value, headers=headers)
                assert added is not None, "what was a batch is one again"
        return await self._try(producer, builder)

    def _divided(self, batch: Batch, error: Exception) -> list[Batch]:
        """Return what of a refused batch is worth another try, after settling what is not.

        Each try costs a producer. So what is alike is refused together: what is unknown may be
        more than what Kafka would refuse, but never less.
        """
        if isinstance(error, InvalidTimestampError):
            times_ms = [piece.time_ms for piece, _ in batch]
            oldest_ms = self._wall_ms() - self._owner.lateness_ms
            if max(times_ms) - min(times_ms) <= ALIKE_MS:
                late, rest = batch, []
            else:
                late = [part for part in batch if part[0].time_ms < oldest_ms]
                rest = [part for part in batch if part[0].time_ms >= oldest_ms]
            if late:
                self._settle(late, error)
                return [rest] if rest else []
        if count_of(batch) == 1:
            self._settle(batch, error)
            return []
        return [*halves(batch)]

    def _settle(self, batch: Batch, error: Exception | None = None) -> None:
        done = []
        for piece, fields in batch:
            if error is not None:
                is_untimely = isinstance(error, InvalidTimestampError)
                refused = (BusUntimely if is_untimely else BusRefused)(meaning_of(error))
                refused.__cause__ = error
                # The records of a piece are settled in order.
                piece.refuse(piece.count - piece.left, len(fields), refused)
            piece.left -= len(fields)
            if not piece.left:
                done.append(piece)
                self.size -= piece.size
        if error is None:
            self.trouble = None
            self._owner.worked(self)
        if done:
            self._owner.settled(self, done)
