"""Reads one Kafka topic of others as a consumer group, and commits what the bus has."""

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from monstermq_edge.ingress.appending import Appender, Item, run_of
from monstermq_edge.ingress.aside import Aside
from monstermq_edge.ingress.counts import IngressCounts
from monstermq_edge.ingress.messages import Incoming, Reading, Source
from monstermq_shared.config import KafkaIngress
from monstermq_shared.errors import BusUnavailable, InvalidRecord, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.parsing import read_any_header_name
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)

RECORDS_MAX = 500
"""Records that are brought to the bus together."""

POLL_MS = 200
"""How long a fetch may take that finds nothing; so soon a stop is noticed."""

COMMIT_S = 0.25
"""How often at most what was appended is committed to Kafka, while there is more to read."""

LOOK_S = 5.0
"""How often Kafka is asked for something, when nothing comes: is it there at all?"""

CLOSE_S = 1.0
"""How long the last commit may take, and the end of the connection."""

SESSION_MS = 6_000
"""After so long without a sign of life others take the partitions; Kafka allows no less."""

TOLD_S = 10.0
"""How often it is logged that records cannot become messages."""

POLL_MS_MAX = 20 * 24 * 3_600_000
"""Whoever waits for the bus fetches nothing, and must keep the partitions."""

AT_ONCE = 50
"""Records that are decoded in one go."""


def group_of(ingress: KafkaIngress, generation: str) -> str:
    """Return the consumer group: the one that is named, or one that only this log's broker has."""
    broker = hashlib.sha256(generation.encode()).hexdigest()[:8]
    return ingress.group or f"monstermq.ingress.{ingress.topic}.{broker}"


class IngressReader:
    """One topic.

    Attributes:
        counts: What came.
        trouble: Why nothing comes.

    Args:
        ingress: What the configuration says.
        settings: Of the cluster.
        appender: Brings messages to the bus.
        reading: Says what a record means.
        group: See ``group_of``.
        aside: Keeps what cannot become messages.
    """

    def __init__(
        self,
        ingress: KafkaIngress,
        settings: KafkaSettings,
        *,
        appender: Appender,
        reading: Reading,
        group: str,
        aside: Aside,
    ) -> None:
        self.counts = IngressCounts(topic=ingress.topic)
        self._trouble: str | None = None
        self._ingress = ingress
        self._settings = settings
        self._appender = appender
        self._reading = reading
        self._group = group
        self._aside = aside
        self._stopping = False
        self._cluster_id = ""
        self._partitions_at_first = 0
        self._has_read = False
        self._salts: dict[int, str] = {}
        # Partition -> the next offset whose record is not on the bus.
        self._upto: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._committed_s = self._answered_s = self._told_s = float("-inf")
        self._told_own = False
        # Raised when partitions are dealt out anew.
        self._deals = 0
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def trouble(self) -> str | None:
        """See the class."""
        return self._trouble or self._aside.trouble

    def stop(self) -> None:
        """Let ``run`` end soon, when the bus has what was read."""
        self._stopping = True

    async def run(self) -> None:
        """Read until ``stop``, or until the bus is closed; what fails is tried again."""
        read_any_header_name()
        failures = 0
        while not self._stopping:
            try:
                await self._read()
            except BusUnavailable:
                break
            except (*CLIENT_ERRORS, StartupError) as exc:
                failures = 0 if self._trouble is None else failures + 1
                self._failed(exc)
                await pause(failures)
        await self._aside.close()

    def _failed(self, exc: BaseException) -> None:
        why = str(exc) if isinstance(exc, StartupError) else meaning_of(exc)
        if self._trouble is None:
            logger.warning("nothing comes of the Kafka topic %s: %s", self._ingress.topic, why)
        self._trouble = f"nothing comes of the Kafka topic {self._ingress.topic}: {why}"

    def _worked(self) -> None:
        self._answered_s = asyncio.get_running_loop().time()
        if self._trouble is not None:
            self._trouble = None
            logger.info("the Kafka topic %s is read again", self._ingress.topic)

    # -- one connection --------------------------------------------------------------------------

    async def _read(self) -> None:
        await self._look_at_topic()
        consumer = AIOKafkaConsumer(
            **self._settings.consumer_options(),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_interval_ms=POLL_MS_MAX,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 4,
        )
        self._upto.clear()
        self._committed.clear()
        consumer.subscribe([self._ingress.topic], listener=_Handover(self, consumer))
        try:
            await consumer.start()
            while not self._stopping:
                await self._step(consumer)
        finally:
            with contextlib.suppress(*CLIENT_ERRORS):
                async with asyncio.timeout(CLOSE_S):
                    await self.commit(consumer)
            await self._close(consumer)

    async def _close(self, consumer: AIOKafkaConsumer) -> None:
        """Close a connection; what takes too long goes on beside us.

        aiokafka waits for tasks that it has cancelled, and may so end as cancelled itself.
        """
        closing = asyncio.create_task(consumer.stop(), name="closing of a Kafka consumer")
        self._closing.add(closing)
        closing.add_done_callback(self._closed)
        await asyncio.wait([closing], timeout=CLOSE_S)

    def _closed(self, closing: "asyncio.Task[None]") -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            logger.debug("%s: %r", closing.get_name(), error)

    async def _look_at_topic(self) -> None:
        """Learn what the topic is like.

        Raises:
            StartupError: It is not there, or Kafka is not.
        """
        async with Admin.opened(self._settings, ExitCode.STORE_UNREACHABLE) as admin:
            topic = self._ingress.topic
            facts = await admin.topics([topic])
            if topic not in facts:
                raise StartupError(
                    f"Kafka at {admin.where}: there is no topic {topic} (Kafka.Ingress), or we may "
                    "not see it: make it, or give Kafka.Security.User the right to Describe it",
                    exit_code=ExitCode.STORE_UNREACHABLE,
                )
            self._cluster_id = admin.cluster_id
            self._partitions_at_first = self._partitions_at_first or facts[topic].partitions
            self._has_read = await admin.has_read(self._group, topic)
            await self._aside.prepare(admin, facts[topic])

    async def _step(self, consumer: AIOKafkaConsumer) -> None:
        """Bring to the bus what has come, and commit it when it is time to."""
        loop = asyncio.get_running_loop()
        try:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
        except NoOffsetForPartitionError as exc:
            await self._begin(consumer, exc.args[0])
            return
        except OffsetOutOfRangeError as exc:
            for partition, offset in exc.args[0].items():
                await self._find(consumer, partition, offset)
            return
        if fetched:
            await self._take(fetched)
            self._worked()
        elif loop.time() - self._answered_s > LOOK_S:
            async with asyncio.timeout(LOOK_S):
                await consumer.end_offsets([TopicPartition(self._ingress.topic, 0)])
            self._worked()
        self._note_lag(consumer)
        if not fetched or loop.time() - self._committed_s > COMMIT_S:
            await self.commit(consumer)
            self._committed_s = loop.time()

    def _note_lag(self, consumer: AIOKafkaConsumer) -> None:
        assigned = consumer.assignment()
        self.counts.lag = sum(
            max((consumer.highwater(at) or 0) - upto, 0)
            for at, upto in self._upto.items()
            if at in assigned
        )

    async def commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what the bus has, of the partitions that are still ours.

        Raises:
            KafkaError, TimeoutError: Nobody knows whether it is committed.
        """
        assigned = consumer.assignment()
        new = {
            at: upto
            for at, upto in self._upto.items()
            if at in assigned and self._committed.get(at) != upto
        }
        if not new:
            return
        try:
            # While Kafka is away it would wait for ever.
            async with asyncio.timeout(LOOK_S):
                await consumer.commit(new)
        except CommitFailedError as exc:
            # They have gone to somebody else, who reads the last ones again; they count once (R1).
            logger.debug("%s: %s", self._group, exc)
        else:
            self._committed |= new

    async def hand_over(self, consumer: AIOKafkaConsumer) -> None:
        """Commit a last time before partitions are dealt out anew, and forget how far we are."""
        self._deals += 1
        with contextlib.suppress(*CLIENT_ERRORS):
            await self.commit(consumer)
        self._upto.clear()
        self._committed.clear()

    # -- where to begin --------------------------------------------------------------------------

    async def _begin(self, consumer: AIOKafkaConsumer, at: TopicPartition) -> None:
        """A group that is new begins with what is written from now on, and says so to Kafka.

        A partition that was added since begins where it begins, or something would be missing.
        """
        if at in self._upto:
            # Kafka told of it before it was begun with the others.
            self._seek(consumer, at, self._upto[at])
            return
        firsts = await consumer.beginning_offsets([at])
        if not self._has_read and at.partition < self._partitions_at_first:
            # All in one commit: whoever comes behind us sees that the group is not new.
            new = [each for each in consumer.assignment() if await self._is_new(consumer, each)]
            firsts = await consumer.beginning_offsets(new)
            ends = await consumer.end_offsets(new)
            self._tell_passed_over(sum(ends[each] - firsts[each] for each in new))
            firsts = ends
        for each, first in firsts.items():
            self._seek(consumer, each, first)
        await self.commit(consumer)
        for each, first in firsts.items():
            logger.info("%s begins at %s:%d:%d", self._group, *each, first)

    async def _is_new(self, consumer: AIOKafkaConsumer, at: TopicPartition) -> bool:
        if at.partition >= self._partitions_at_first or at in self._upto:
            return False
        return await consumer.committed(at) is None

    def _tell_passed_over(self, count: int) -> None:
        if count:
            logger.warning(
                "the consumer group %s has not read the Kafka topic %s, or Kafka has forgotten it "
                "(offsets.retention.minutes): the %d records that are there are passed over",
                *(self._group, self._ingress.topic, count),
            )

    async def _find(self, consumer: AIOKafkaConsumer, at: TopicPartition, offset: int) -> None:
        """Go on where there is something again, when what is next is not there."""
        first = (await consumer.beginning_offsets([at]))[at]
        end = (await consumer.end_offsets([at]))[at]
        if offset < first:
            self.counts.missed += first - offset
            logger.error(
                "Kafka has deleted %s:%d:%d to %d before they were read: they are no messages",
                *(*at, offset, first - 1),
            )
        elif offset > end:
            # As another topic: what is read of it must not be taken for what was read before.
            self._salts[at.partition] = os.urandom(8).hex()
            logger.warning(
                "the Kafka topic %s was made anew: partition %d is read from its beginning", *at
            )
        else:
            # A replica that is behind the one we read from before.
            first = offset
            await pause(0)
        self._seek(consumer, at, first)

    def _seek(self, consumer: AIOKafkaConsumer, at: TopicPartition, offset: int) -> None:
        if at in consumer.assignment():
            consumer.seek(at, offset)
            self._upto[at] = offset

    # -- records ---------------------------------------------------------------------------------

    async def _take(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        deal = self._deals
        items: list[Item] = []
        sources: dict[tuple[bytes, int], Source] = {}
        bad: list[tuple[Source, str]] = []
        for at, records in fetched.items():
            run = self._run_of(at.partition)
            for number, record in enumerate(records, 1):
                source = _source_of(record)
                try:
                    incoming = self._message_of(source)
                except InvalidRecord as exc:
                    bad.append((source, str(exc)))
                else:
                    if incoming is not None:
                        items.append(Item(run, source.offset, incoming))
                        sources[run, source.offset] = source
                if not number % AT_ONCE:
                    await asyncio.sleep(0)
        refusals = await self._appender.append(items)
        self.counts.messages += len(items) - len(refusals)
        bad += [(sources[at.run, at.sequence], reason) for (at, reason) in refusals]
        if bad:
            await self._put_aside(bad)
        # What has gone to somebody else is read again there, and also if that is we.
        if deal == self._deals:
            self._upto |= {at: records[-1].offset + 1 for at, records in fetched.items()}

    def _run_of(self, partition: int) -> bytes:
        salt = self._salts.get(partition, "")
        return run_of(self._cluster_id, self._ingress.topic, partition, self._group, salt)

    def _message_of(self, source: Source) -> Incoming | None:
        if self._reading.is_own(source):
            self.counts.own += 1
            if not self._told_own:
                self._told_own = True
                logger.warning(
                    "the Kafka topic %s has messages of this broker's own archive, such as %d:%d: "
                    "they are passed over, or they would come again and again",
                    *(self._ingress.topic, source.partition, source.offset),
                )
            return None
        return self._reading.message_of(source)

    async def _put_aside(self, bad: Sequence[tuple[Source, str]]) -> None:
        self.counts.refused += len(bad)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s > TOLD_S:
            self._told_s = now_s
            source, reason = bad[0]
            logger.warning(
                "%d records of the Kafka topic %s cannot become messages, %d since the start, such "
                "as %d:%d: %s",
                *(len(bad), self._ingress.topic, self.counts.refused),
                *(source.partition, source.offset, reason),
            )
        await self._aside.put(self._ingress.topic, bad)


class _Handover(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Commits before partitions go to somebody else."""

    def __init__(self, reader: IngressReader, consumer: AIOKafkaConsumer) -> None:
        self._reader = reader
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: object) -> None:
        """See aiokafka."""
        await self._reader.hand_over(self._consumer)

    async def on_partitions_assigned(self, assigned: object) -> None:
        """See aiokafka."""


def _source_of(record: ConsumerRecord) -> Source:
    return Source(
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        [(name, value or b"") for name, value in record.headers],
    )
