"""Records that cannot become messages, in a topic for whoever looks after them."""

import logging
from collections.abc import Sequence
from functools import partial

from aiokafka.errors import (
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from monstermq_edge.ingress.messages import Source
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import StartupError, StoreUnavailable
from monstermq_shared.kafka.admin import ANY_TIME, Admin, NewTopicSpec, TopicFacts
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.kafka.producing import BatchProducer, Entry
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX, KafkaSettings
from monstermq_shared.retries import pause, telling_when_late
from monstermq_shared.stores.outages import Outage

logger = logging.getLogger(__name__)

REASON = "monstermq-error"
SOURCE = "monstermq-source"
CUT = "monstermq-cut"
TIME = "monstermq-time"
"""Headers that are added: why it is none, and where it stood.

If the topic does not take it as it is: how large key and value were together of what is cut, and
the time in milliseconds that it had.
"""

CUT_SIZE = 64 * 1024
"""Bytes that are kept of a value that the topic does not take; then a quarter of it, and so on.

Of the key, and of all headers that it came with, a quarter of that.
"""

MARK_SIZE_MIN = 128
"""Bytes that are kept of a header that is added, however little the topic takes."""

WRITES = "writes of dead letters"

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)

REFUSALS = (*_TOO_LARGE, InvalidTimestampError)
"""What one record is to blame for, of a batch."""


class DeadLetters:
    """One topic, see ``aside.Aside``. It is made as the source is, if it is not there.

    Args:
        topic: Its name.
        settings: Of the cluster.
    """

    def __init__(self, topic: str, settings: KafkaSettings) -> None:
        self._outage = Outage(f"the Kafka topic {topic}")
        self._topic = topic
        self._settings = settings
        self._producer: BatchProducer | None = None
        self._partitions = 1

    @property
    def trouble(self) -> str | None:
        """See ``Aside.trouble``."""
        return self._outage.trouble

    async def prepare(self, admin: Admin, source: TopicFacts) -> None:
        """See ``Aside.prepare``."""
        facts = await admin.topics([self._topic])
        if self._topic not in facts:
            kept = ("max.message.bytes", "retention.ms")
            spec = NewTopicSpec(
                name=self._topic,
                partitions=source.partitions,
                replication=self._settings.section.archive.replication,
                configs={
                    **ANY_TIME,
                    **{name: source.configs[name] for name in kept if name in source.configs},
                },
            )
            await admin.create([spec])
            facts = await admin.topics([self._topic], made=[self._topic])
            logger.info("made the Kafka topic %s", self._topic)
        self._partitions = facts[self._topic].partitions
        if self._producer is None:
            size_max = facts[self._topic].number("max.message.bytes") or BATCH_SIZE_MAX
            self._producer = BatchProducer(
                lambda: {
                    **self._settings.client_options(),
                    "max_batch_size": BATCH_SIZE_MAX,
                    "max_request_size": max(size_max, BATCH_SIZE_MAX),
                }
            )

    async def put(self, where: str, letters: Sequence[tuple[Source, str]]) -> None:
        """See ``Aside.put``."""
        of_partition: dict[int, list[_Letter]] = {}
        for source, reason in letters:
            marks = {
                REASON: reason.encode(errors="replace"),
                SOURCE: f"{where}:{source.partition}:{source.offset}".encode(),
            }
            letter = _Letter(source, marks)
            of_partition.setdefault(source.partition % self._partitions, []).append(letter)
        for partition, found in of_partition.items():
            await self._put(partition, found)

    async def _put(self, partition: int, letters: Sequence["_Letter"]) -> None:
        assert self._producer is not None
        entries = [letter.entry() for letter in letters]
        first, attempt, is_alone = 0, 0, False
        while first < len(entries):
            together = entries[: first + 1] if is_alone else entries
            try:
                with telling_when_late(partial(self._outage.late, WRITES)):
                    first = await self._producer.send(
                        self._topic, partition, together, first=first, size_max=BATCH_SIZE_MAX
                    )
                is_alone = False
                self._outage.passed(WRITES)
            except (*CLIENT_ERRORS, StartupError) as exc:
                # Also a file of Kafka.Security that is being renewed.
                if isinstance(exc, REFUSALS) and not is_alone:
                    is_alone = True  # which of them is it?
                elif letters[first].is_mended(exc):
                    entries[first] = letters[first].entry()
                else:
                    self._outage.failed(WRITES, StoreUnavailable(meaning_of(exc)))
                    await pause(attempt)
                    attempt += 1

    async def close(self) -> None:
        """See ``Aside.close``."""
        if self._producer is not None:
            await self._producer.close()


class _Letter:
    """A record on its way to the topic.

    Args:
        source: It.
        marks: Headers that are added.
    """

    def __init__(self, source: Source, marks: dict[str, bytes]) -> None:
        self._source = source
        self._marks = marks
        self._size = len(source.key or b"") + len(source.value or b"")
        self._room = 0
        self._time_ms = source.time_ms

    def is_mended(self, refusal: BaseException) -> bool:
        """Return whether it is now such that the topic may take it, which has refused it."""
        if isinstance(refusal, InvalidTimestampError) and TIME not in self._marks:
            self._marks[TIME] = str(self._source.time_ms).encode()
            self._time_ms = SystemClock().wall_ms()
            return True
        if isinstance(refusal, _TOO_LARGE) and self._room != 1:
            self._marks[CUT] = str(self._size).encode()
            self._room = max(self._room // 4, 1) if self._room else CUT_SIZE
            return True
        return False

    def entry(self) -> Entry:
        """Return it, or the beginnings that there is room for."""
        key, value = self._source.key, self._source.value or b""
        if not self._room:
            return self._time_ms, key, value, [*self._source.headers, *self._marks.items()]
        small = left = self._room // 4
        headers: list[tuple[str, bytes]] = []
        for name, content in self._source.headers:
            left -= len(name.encode(errors="replace")) + len(content)
            if left < 0:
                break
            headers.append((name, content))
        for name, content in self._marks.items():
            headers.append((name, content[: max(small, MARK_SIZE_MIN)]))
        return self._time_ms, None if key is None else key[:small], value[: self._room], headers
