"""Reads one Kafka topic of others as a consumer group, and commits what the bus has."""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence

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
from monstermq_edge.ingress.places import Places, Reached
from monstermq_edge.ingress.window import Piece, Refusal, Window
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import KafkaIngress
from monstermq_shared.errors import BusUnavailable, InvalidRecord, MonsterError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.parsing import read_any_header_name
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)

RECORDS_MAX = 500
"""Records that are read together."""

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

SLOW_S = 5.0
"""After so long it is told that the bus does not take what was read."""

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
        self._reading = reading
        self._group = group
        self._aside = aside
        self._stopping = False
        self._cluster_id = ""
        # What has been dealt out to us; empty while it is dealt out anew.
        self._ours: frozenset[TopicPartition] = frozenset()
        self._places = Places(ingress.topic, group, self.counts)
        self._window = Window(appender, self.counts, self._done)
        self._reached: dict[TopicPartition, Reached] = {}
        self._committed: dict[TopicPartition, Reached] = {}
        self._committed_s = self._answered_s = self._told_s = float("-inf")
        self._told_own = False
        # Raised when partitions are dealt out anew.
        self._deals = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._committing: asyncio.Task[None] | None = None
        self._commits = asyncio.Lock()

    @property
    def trouble(self) -> str | None:
        """See the class."""
        since_s = self._window.since_s
        if since_s is not None and time.monotonic() - since_s > SLOW_S:
            return f"the bus takes no records of the Kafka topic {self._ingress.topic}"
        return self._trouble or self._aside.trouble

    def stop(self) -> None:
        """Let ``run`` end soon, when the bus has what was read."""
        self._stopping = True

    async def run(self) -> None:
        """Read until ``stop``; what fails is tried again, with ``trouble`` until it works."""
        read_any_header_name()
        failures = 0
        while not self._stopping:
            try:
                await self._read()
            except (*CLIENT_ERRORS, StartupError, BusUnavailable) as exc:
                failures = 0 if self._trouble is None else failures + 1
                self._failed(exc)
                await pause(failures)
        await self._aside.close()

    def _failed(self, exc: BaseException) -> None:
        why = str(exc) if isinstance(exc, MonsterError) else meaning_of(exc)
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
        self._reached.clear()
        self._committed.clear()
        consumer.subscribe([self._ingress.topic], listener=_Handover(self, consumer))
        try:
            await consumer.start()
            while not self._stopping:
                await self._step(consumer)
            await self._settle()
        finally:
            with contextlib.suppress(*CLIENT_ERRORS):
                async with asyncio.timeout(CLOSE_S):
                    await self.commit(consumer)
            if self._committing is not None:
                self._committing.cancel()
                await asyncio.gather(self._committing, return_exceptions=True)
                self._committing = None
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
                self._places.begun()  # whatever comes is new
                raise StartupError(
                    f"Kafka at {admin.where}: there is no topic {topic} (Kafka.Ingress), or we may "
                    "not see it: make it, or give Kafka.Security.User the right to Describe it",
                    exit_code=ExitCode.STORE_UNREACHABLE,
                )
            self._cluster_id = admin.cluster_id
            await self._places.look(admin, facts[topic])
            await self._aside.prepare(admin, facts[topic])

    async def _step(self, consumer: AIOKafkaConsumer) -> None:
        """Send to the bus what has come, and commit it when it is time to."""
        loop = asyncio.get_running_loop()
        self._look_at_commit()
        if not self._reached.keys() >= self._ours:
            # Of what is dealt out anew nothing from before is on its way.
            await self._settle()
            await self._learn(consumer)
        room = await self._room()
        try:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=min(room, RECORDS_MAX))
        except NoOffsetForPartitionError as exc:
            # From before it was begun.
            self._seek(consumer, exc.args[0])
            return
        except OffsetOutOfRangeError as exc:
            await self._settle()
            for partition in exc.args[0].keys() & self._reached.keys():
                await self._find(consumer, partition)
            return
        # What has become ours only now is read again when it is known how far the bus has it.
        known = {at: records for at, records in fetched.items() if at in self._reached}
        self._note_lag(consumer)
        if known:
            await self._take(known)
            self._worked()
        elif loop.time() - self._answered_s > LOOK_S:
            async with asyncio.timeout(LOOK_S):
                await consumer.end_offsets([TopicPartition(self._ingress.topic, 0)])
            self._worked()
        self._note_lag(consumer)
        if self._committing is None and (not known or loop.time() - self._committed_s > COMMIT_S):
            self._committed_s = loop.time()
            self._committing = asyncio.create_task(self.commit(consumer), name="ingress commit")

    async def _room(self) -> int:
        """Return how many records may be read, once that is any; nothing refused is left behind."""
        while True:
            if self._window.needs_settling:
                await self._settle()
            if room := self._window.room:
                return room
            await self._window.change()

    async def _settle(self) -> None:
        """Return when nothing is on its way, and what cannot be on the bus is kept aside."""
        while refusals := await self._window.settle():
            await self._put_aside(refusals)
            self._window.kept(refusals)

    def _look_at_commit(self) -> None:
        """Fail if the commit beside the reading has."""
        if self._committing is not None and self._committing.done():
            committing, self._committing = self._committing, None
            committing.result()

    def _note_lag(self, consumer: AIOKafkaConsumer) -> None:
        assigned = consumer.assignment()
        self.counts.lag = sum(
            max((consumer.highwater(at) or 0) - reached.offset, 0)
            for at, reached in self._reached.items()
            if at in assigned
        )

    async def commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what the bus has, of the partitions that are still ours; after other commits.

        Raises:
            KafkaError, TimeoutError: Nobody knows whether it is committed.
        """
        async with self._commits:
            await self._commit(consumer)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        assigned = consumer.assignment()
        new = {
            at: reached
            for at, reached in self._reached.items()
            if at in assigned and self._committed.get(at) != reached
        }
        if not new:
            return
        try:
            # While Kafka is away it would wait for ever.
            async with asyncio.timeout(LOOK_S):
                await consumer.commit({at: (to.offset, to.metadata()) for at, to in new.items()})
        except CommitFailedError as exc:
            # They have gone to somebody else, who reads the last ones again; they count once (R1).
            logger.debug("%s: %s", self._group, exc)
        else:
            self._committed |= new

    def take_over(self, partitions: Collection[TopicPartition]) -> None:
        """Note which partitions have been dealt out to us."""
        self._ours = frozenset(partitions)

    async def hand_over(self, consumer: AIOKafkaConsumer) -> None:
        """Commit a last time before partitions are dealt out anew, and forget how far we are.

        Nothing is committed until they are: Kafka would refuse it, and aiokafka join once more.
        """
        self._deals += 1
        self._ours = frozenset()
        # What is on its way the others would append once more; it would count once (R1).
        with contextlib.suppress(TimeoutError, BusUnavailable):
            async with asyncio.timeout(CLOSE_S):
                await self._window.answers()
        with contextlib.suppress(*CLIENT_ERRORS):
            await self.commit(consumer)
        self._reached.clear()
        self._committed.clear()

    # -- where to begin --------------------------------------------------------------------------

    async def _learn(self, consumer: AIOKafkaConsumer) -> None:
        """Learn how far the bus has what is in partitions that have become ours."""
        deal = self._deals
        ours = [at for at in self._ours if at not in self._reached]
        async with Admin.opened(self._settings, ExitCode.STORE_UNREACHABLE) as admin:
            reached, noted = await self._places.learn(admin, consumer, ours)
        if deal == self._deals:
            self._reached |= reached
            self._committed |= {at: reached[at] for at in noted}
            await self._set_out(consumer, ours)

    async def _find(self, consumer: AIOKafkaConsumer, at: TopicPartition) -> None:
        deal = self._deals
        reached = await self._places.find(consumer, at, self._reached[at])
        if deal == self._deals:
            self._reached[at] = reached
            await self._set_out(consumer, [at])

    async def _set_out(
        self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
    ) -> None:
        """Read from where we are, once Kafka knows of it: others have to append as we do (R1)."""
        await self.commit(consumer)
        for at in partitions:
            if at in self._reached and self._committed.get(at) != self._reached[at]:
                del self._reached[at]
            else:
                self._places.begun()
            self._seek(consumer, at)

    def _seek(self, consumer: AIOKafkaConsumer, at: TopicPartition) -> None:
        if at in self._reached and at in consumer.assignment():
            consumer.seek(at, self._reached[at].offset)

    # -- records ---------------------------------------------------------------------------------

    async def _take(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Send records to the bus; before anything is waited for it is noted what was read."""
        taken = [
            (
                self._window.open(at, records[-1].offset + 1, [each.timestamp for each in records]),
                run_of(self._cluster_id, *at, self._group, self._reached[at].salt),
                records,
            )
            for at, records in fetched.items()
        ]
        for piece, run, records in taken:
            for number, record in enumerate(records, 1):
                source = _source_of(record)
                try:
                    incoming = self._message_of(source)
                except InvalidRecord as exc:
                    self._window.refuse(piece, source, str(exc))
                else:
                    if incoming is not None:
                        await self._window.append(piece, Item(run, source, incoming))
                if not number % AT_ONCE:
                    await asyncio.sleep(0)
            self._window.close(piece)

    def _done(self, piece: Piece) -> None:
        """Note that the bus has what was read; what was ours then is read again where it is now."""
        reached = self._reached.get(piece.at)
        if reached is not None:
            now_ms = SystemClock().wall_ms()
            self._reached[piece.at] = reached.upto(piece.upto, piece.times_ms, now_ms)

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
        incoming = self._reading.message_of(source)
        if incoming is None:
            self.counts.passed_over += 1
        return incoming

    async def _put_aside(self, refusals: Sequence[Refusal]) -> None:
        self.counts.refused += len(refusals)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s > TOLD_S:
            self._told_s = now_s
            _, source, reason = refusals[0]
            logger.warning(
                "%d records of the Kafka topic %s cannot become messages, %d since the start, such "
                "as %d:%d: %s",
                *(len(refusals), self._ingress.topic, self.counts.refused),
                *(source.partition, source.offset, reason),
            )
        bad = [(source, reason) for _, source, reason in refusals]
        await self._aside.put(self._ingress.topic, bad)


class _Handover(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Commits before partitions go to somebody else."""

    def __init__(self, reader: IngressReader, consumer: AIOKafkaConsumer) -> None:
        self._reader = reader
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: object) -> None:
        """See aiokafka."""
        await self._reader.hand_over(self._consumer)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """See aiokafka."""
        self._reader.take_over(assigned)


def _source_of(record: ConsumerRecord) -> Source:
    return Source(
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        [(name, value or b"") for name, value in record.headers],
    )
