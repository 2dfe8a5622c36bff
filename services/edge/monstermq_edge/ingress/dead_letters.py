"""Records that cannot become messages, in a topic for whoever looks after them."""

import logging
from collections.abc import Sequence

from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from monstermq_edge.ingress.messages import Source
from monstermq_shared.kafka.admin import Admin, NewTopicSpec, TopicFacts
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.producing import BatchProducer, Entry
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX, KafkaSettings
from monstermq_shared.retries import pause

logger = logging.getLogger(__name__)

REASON = "monstermq-error"
SOURCE = "monstermq-source"
CUT = "monstermq-cut"
"""Headers that are added: why it is none, where it stood, and how large a value was that is cut."""

CUT_SIZE = 64 * 1024
"""Bytes that are kept of a value that the topic does not take as it is."""

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class DeadLetters:
    """One topic, see ``aside.Aside``. It is made as the source is, if it is not there.

    Args:
        topic: Its name.
        settings: Of the cluster.

    Attributes:
        trouble: Why it does not take what it has to.
    """

    def __init__(self, topic: str, settings: KafkaSettings) -> None:
        self.trouble: str | None = None
        self._topic = topic
        self._settings = settings
        self._producer: BatchProducer | None = None
        self._partitions = 1

    async def prepare(self, admin: Admin, source: TopicFacts) -> None:
        """See ``Aside.prepare``."""
        facts = await admin.topics([self._topic])
        if self._topic not in facts:
            kept = ("max.message.bytes", "retention.ms")
            spec = NewTopicSpec(
                name=self._topic,
                partitions=source.partitions,
                replication=self._settings.section.archive.replication,
                configs={name: source.configs[name] for name in kept if name in source.configs},
            )
            await admin.create([spec])
            facts = await admin.topics([self._topic], made=[self._topic])
            logger.info("made the Kafka topic %s", self._topic)
        self._partitions = facts[self._topic].partitions
        if self._producer is None:
            size_max = facts[self._topic].number("max.message.bytes") or BATCH_SIZE_MAX
            self._producer = BatchProducer(
                {
                    **self._settings.client_options(),
                    "max_batch_size": BATCH_SIZE_MAX,
                    "max_request_size": max(size_max, BATCH_SIZE_MAX),
                }
            )

    async def put(self, where: str, letters: Sequence[tuple[Source, str]]) -> None:
        """See ``Aside.put``."""
        for source, reason in letters:
            marks = [
                (REASON, reason.encode(errors="replace")),
                (SOURCE, f"{where}:{source.partition}:{source.offset}".encode()),
            ]
            headers = [*source.headers, *marks]
            entry: Entry = (source.time_ms, source.key, source.value or b"", headers)
            await self._put(source.partition % self._partitions, entry)
        self.trouble = None

    async def _put(self, partition: int, entry: Entry) -> None:
        assert self._producer is not None
        attempt = 0
        while True:
            try:
                await self._producer.send(
                    self._topic, partition, [entry], first=0, size_max=BATCH_SIZE_MAX
                )
            except _TOO_LARGE as exc:
                time_ms, key, value, headers = entry
                if len(value) > CUT_SIZE:
                    size = (CUT, str(len(value)).encode())
                    entry = (time_ms, key, value[:CUT_SIZE], [*headers, size])
                    continue
                await self._failed(exc, attempt)
            except CLIENT_ERRORS as exc:
                await self._failed(exc, attempt)
            else:
                return
            attempt += 1

    async def _failed(self, exc: BaseException, attempt: int) -> None:
        self.trouble = f"the Kafka topic {self._topic} does not take records: {meaning_of(exc)}"
        if not attempt:
            logger.warning("%s", self.trouble)
        await pause(attempt)

    async def close(self) -> None:
        """See ``Aside.close``."""
        if self._producer is not None:
            await self._producer.close()
