"""Where past messages come from: the log on Kafka, an archive group, a file of JSON lines."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from monstermq.bookmarks import Mark
from monstermq.log_scan import LogScan, Picker
from monstermq.moments import Begin, LogPosition, Moment
from monstermq.record_lines import readable, records_in
from monstermq.stretch import Stretch
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.config import BrokerConfig
from monstermq_shared.config.sections import enabled_groups
from monstermq_shared.errors import BusGap, ConfigError, InvalidTopic, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.queries.bounds import PAYLOAD_WHOLE, ROWS_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.history import HistoryQuery, Message
from monstermq_shared.queries.ports import ArchiveQueries
from monstermq_shared.records import Record, format_timestamp
from monstermq_shared.stores.group_queries import GroupQueries
from monstermq_shared.topics import TOPIC_SIZE_MAX, check_topic_filter

PAGE_S = 60.0
"""How long a database may take for a page."""

FILE_RECORDS = 500
"""Lines that are read from a file at a time."""

FILE_SIZE = 1024 * 1024
"""Bytes of payloads after which fewer are."""

Advance = Callable[[int], None]
"""Told how many records of ``Source.total`` were looked at."""


Past = tuple[Record, Mark]
"""A message, and where it stands."""


class Source(Protocol):
    """Past messages, which can be gone through more than once, and are the same each time.

    An archive group's may be deleted in between, and more may be stored.

    Attributes:
        named: What it is, for people.
        total: How many records there are to look at; None: nobody knows.
    """

    named: str
    total: int | None

    def records(self, advance: Advance) -> AsyncIterator[Sequence[Past]]:
        """Yield the messages in order, some at a time.

        Raises:
            StartupError: Some are not there any more, or cannot be read.
        """
        ...


class LogSource:
    """A stretch of the log on Kafka.

    Args:
        log: The log.
        stretch: See there.
        filters: Topics and filters.
    """

    def __init__(self, log: KafkaLog, stretch: Stretch, filters: Sequence[str]) -> None:
        self.named = f"the Kafka topic {log.topic}"
        self.total: int | None = stretch.count
        self._log = log
        self._stretch = stretch
        self._filters = filters

    async def records(self, advance: Advance) -> AsyncIterator[Sequence[Past]]:
        """See ``Source.records``."""
        picker = Picker(self._filters, self._log.lateness_ms, control=False)
        scan = LogScan(self._log, self._stretch, picker, _refuse_gap)
        async for standing in scan.past(advance):
            yield [
                (record, Mark(*at[:3])) for at in standing if (record := readable(at)) is not None
            ]


def _refuse_gap(gap: BusGap) -> None:
    raise StartupError(
        f"{gap}: Kafka.Bus.RetentionHours has passed over them", exit_code=ExitCode.FAILURE
    )


class ArchiveSource:
    """The history of an archive group.

    Args:
        name: The group's.
        archive: Answers for it.
        filters: Topics and filters.
        since_ms: The earliest time, inclusive.
        until_ms: The latest, exclusive.

    Attributes:
        since_ms: See above.
    """

    def __init__(
        self,
        name: str,
        archive: ArchiveQueries,
        filters: Sequence[str],
        since_ms: int,
        until_ms: int,
    ) -> None:
        self.named = f"the archive group {name}"
        self.total: int | None = None
        self._archive = archive
        self._filters = tuple(filters)
        self.since_ms = since_ms
        self._until_ms = until_ms
        self._first_ms: int | None = None

    async def records(self, advance: Advance) -> AsyncIterator[Sequence[Past]]:
        """See ``Source.records``."""
        cursor: str | None = None
        while True:
            page = await self._archive.history(
                HistoryQuery(
                    filters=self._filters,
                    start_ms=self.since_ms,
                    end_ms=self._until_ms - 1,
                    newest_first=False,
                    limit=ROWS_MAX,
                    cursor=cursor,
                    payload_limit=PAYLOAD_WHOLE,
                )
            )
            advance(len(page.rows))
            if cursor is None:
                self._check_beginning(page.rows)
            yield [(_record_of(at), Mark(at.time_ms)) for at in page.rows]
            cursor = page.cursor_after(len(page.rows))
            if cursor is None:
                return

    def _check_beginning(self, rows: Sequence[Message]) -> None:
        """Refuse a group that begins later than it did: the oldest are deleted first."""
        first_ms = rows[0].time_ms if rows else self._until_ms
        if self._first_ms is not None and first_ms > self._first_ms:
            raise StartupError(
                f"{self.named} begins with {format_timestamp(first_ms)} now, and has begun with "
                f"{format_timestamp(self._first_ms)}: ArchiveRetention has passed over the others",
                exit_code=ExitCode.FAILURE,
            )
        self._first_ms = first_ms


def _record_of(message: Message) -> Record:
    return Record(
        message.topic,
        message.payload,
        message.qos,
        message.retained,
        message.client_id,
        message.time_ms,
        0,
        message.message_id,
    )


@asynccontextmanager
async def archive_source(
    config: BrokerConfig, name: str, filters: Sequence[str], begin: Begin, until_ms: int
) -> AsyncIterator[ArchiveSource]:
    """Open the history of an archive group for as long as the block lasts.

    Args:
        config: The configuration.
        name: The group's.
        filters: See ``ArchiveSource``, as for the others.
        begin: The earliest time.
        until_ms: The latest, exclusive.

    Raises:
        ConfigError: There is no such group, or the times are the wrong way round, or it begins
            at a position.
        QueryError: It keeps nothing that can be asked for.
        StoreError: The database cannot be used.
    """
    if isinstance(begin, LogPosition):
        raise ConfigError("an archive group has no positions: give --from a time")
    groups = {group.name: group for _, group in enabled_groups(config)}
    if name not in groups:
        raise ConfigError(
            f"there is no archive group {name!r}; the configuration has "
            f"{', '.join(groups) or 'none'}"
        )
    check_order(begin, until_ms)
    queries = GroupQueries(config, Cursors(), timeout_s=PAGE_S)
    try:
        archive = queries.archive(groups[name])
        yield ArchiveSource(name, archive, filters, begin.time_ms, until_ms)
    finally:
        await queries.close()


def check_filter(topic_filter: str) -> None:
    """Refuse what is no topic filter.

    Raises:
        ConfigError: It is none.
    """
    try:
        check_topic_filter(topic_filter, levels_max=TOPIC_SIZE_MAX)
    except InvalidTopic as exc:
        raise ConfigError(f"{exc}; + stands for one level and # for all that follow") from exc


def check_order(begin: Begin | None, until_ms: int | None) -> None:
    """Refuse a stretch of time that ends where it begins, or before.

    Raises:
        ConfigError: So it is.
    """
    if isinstance(begin, Moment) and until_ms is not None and until_ms <= begin.time_ms:
        raise ConfigError(
            f"--to ({format_timestamp(until_ms)}) is not later than --from "
            f"({format_timestamp(begin.time_ms)})"
        )


class FileSource:
    """A file of what ``tail --json`` wrote, as long as it is now.

    Args:
        path: The file.

    Raises:
        StartupError: It cannot be read, or not more than once.
    """

    def __init__(self, path: Path) -> None:
        self.named = str(path)
        self.total: int | None = None
        self._path = path
        try:
            found = path.stat()
            if stat.S_ISREG(found.st_mode):
                path.open("rb").close()
        except OSError as exc:
            raise StartupError(
                f"{path}: {exc.strerror}; to replay from the log, say from when: --from -10m",
                exit_code=ExitCode.FAILURE,
            ) from exc
        if not stat.S_ISREG(found.st_mode):
            raise StartupError(
                f"{path} is no regular file, and what is replayed is read twice: write it to a "
                "file first",
                exit_code=ExitCode.FAILURE,
            )
        self._size = found.st_size

    async def records(self, advance: Advance) -> AsyncIterator[Sequence[Past]]:
        """See ``Source.records``.

        Raises:
            StartupError: A line is no record.
        """
        with self._path.open("rb") as file:
            records = records_in(file, self.named, self._size)
            # Whoever sends needs the loop, also while a long line is read.
            while some := await asyncio.to_thread(_some, records):
                advance(len(some))
                yield some


def _some(records: Iterator[Record]) -> list[Past]:
    some: list[Past] = []
    size = 0
    for record in records:
        some.append((record, Mark(record.timestamp_ms)))
        size += len(record.payload)
        if len(some) >= FILE_RECORDS or size >= FILE_SIZE:
            break
    return some
