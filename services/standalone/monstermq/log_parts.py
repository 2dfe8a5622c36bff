"""Reads a part of a bus on Kafka for whoever folds it again, and says what is missing there."""

import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from monstermq.reaching import entry_within
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import Entry, LogReader, RecordBatch
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import BusGap, ConfigError, StartupError, UnknownFact
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.retries import telling_when_late
from monstermq_shared.stores.changes import Quarantined
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.views.catalogue import ArchiveView, Catalogue, MessageView
from monstermq_shared.views.log_fold import Batch, LogFold, LogSettings, id_of
from monstermq_shared.views.log_loading import another_log

logger = logging.getLogger(__name__)

View = MessageView | ArchiveView

SHADOW_SUFFIX = "_new"
"""What the names of a table that is made anew, and of its projection, end with."""

NAME_LENGTH_MAX = 63
"""Characters of a table's name."""

RETAINED_TABLE, LAST_VALUES, ARCHIVE = "retained", "lastval", "archive"


ENTRY_S = 30.0
"""How long a single entry may take to come."""


def log_settings(config: BrokerConfig, generation: str) -> LogSettings:
    """Return what a fold has to know of the log."""
    return LogSettings(
        log_id=generation,
        lateness_ms=config.kafka.bus.lateness_s * 1000,
        describe=_only_where,
    )


def _only_where(entry: Entry, reason: str) -> Quarantined:
    """What is no record was put aside by a projector."""
    return Quarantined(
        offset=entry.offset, time_ms=entry.time_ms, reason=reason, key=b"", value=b""
    )


def shadow_store(store: str) -> str:
    """Return the name of the store that a store is made anew in."""
    if len(store) + len(SHADOW_SUFFIX) > NAME_LENGTH_MAX:
        digest = hashlib.sha256(store.encode()).hexdigest()[:12]
        store = f"{store[: NAME_LENGTH_MAX - len(SHADOW_SUFFIX) - len(digest) - 1]}_{digest}"
    return store + SHADOW_SUFFIX


def name_of(view: View) -> str:
    """Return what a command line calls a view."""
    if view.group is None:
        return RETAINED_TABLE
    kind = ARCHIVE if isinstance(view, ArchiveView) else LAST_VALUES
    return f"{kind}:{view.group.name}"


def tables_of(config: BrokerConfig) -> dict[str, View]:
    """Return name -> view of all that a projector keeps in PostgreSQL."""
    views = Catalogue(config).views
    return {name_of(view): view for view in views if view.store_type is StoreType.POSTGRES}


def check_kept_log(config: BrokerConfig) -> None:
    """Refuse a configuration whose log cannot be read again.

    Raises:
        ConfigError: So it is.
    """
    if not config.kafka.bus.enabled:
        raise ConfigError(
            "this command folds the log again, and the internal bus keeps none: its tables are all "
            "there is (Kafka.Bus.Enabled is false); name another configuration with -config FILE"
        )


def chosen(config: BrokerConfig, names: Iterable[str]) -> list[View]:
    """Return the views of these names, all that are in PostgreSQL if there are none.

    Raises:
        ConfigError: There is none of that name, or it is somewhere else.
    """
    there = tables_of(config)
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in there:
            raise ConfigError(_no_table(config, name, there))
    return [there[name] for name in wanted or there]


def _no_table(config: BrokerConfig, name: str, there: Iterable[str]) -> str:
    elsewhere = {name_of(view): view.store_type for view in Catalogue(config).views}
    if name in elsewhere:
        return (
            f"{name} is kept in {elsewhere[name]}, and this command is about tables of a bus on "
            "Kafka, which are in PostgreSQL"
        )
    known = ", ".join(there) or "none"
    return (
        f"{name[:80]!r} is no table of this configuration; there is: {known} (an archive group's "
        "name as in ArchiveGroups, and Enabled)"
    )


class Overtaken(StartupError):
    """Retention has taken records before they were read.

    Args:
        partition: Of what.
        expected: The first of them.
        found: From which on everything is there.
    """

    def __init__(self, partition: int, expected: int, found: int) -> None:
        super().__init__(
            f"retention has taken the records from {partition}:{expected} to "
            f"{partition}:{found - 1} while they were read, and nothing was changed; raise "
            "Kafka.Bus.RetentionHours, or call this again for what is left",
            exit_code=ExitCode.FAILURE,
        )
        self.expected = expected
        self.found = found


async def refuse_another_log(
    log: KafkaLog, database: PostgresDatabase, generation: str, projections: Sequence[str]
) -> None:
    """Refuse a log that is not the one which marks are of: its topic was made again (P1).

    Raises:
        StartupError: It is not, or Kafka does not answer.
    """
    firsts, ends = await log.first_positions(), await log.end_positions()
    below: dict[int, dict[int, str]] = {}
    for number, end in ends.items():
        partition = Partition(generation, number)
        for name, state in (await database.log_states(partition, projections)).items():
            reflected = state.mark.reflected
            if reflected > end:
                raise another_log(
                    partition, f"it ends at {end}, and {name} reflects it to {reflected}"
                )
            if state.last_id is not None and reflected > firsts[number]:
                below.setdefault(number, {})[reflected - 1] = state.last_id
    for number, known in below.items():
        for offset, expected in known.items():
            found = await _id_at(log, number, offset)
            if found not in {None, expected}:
                why = f"at {offset} stands {found}, and stood {expected}"
                raise another_log(Partition(generation, number), why)


async def _id_at(log: KafkaLog, partition: int, offset: int) -> str | None:
    """Return what tells an entry from others; None if it went meanwhile."""
    try:
        entry = await entry_within(log, partition, offset, ENTRY_S)
    except TimeoutError as exc:
        raise StartupError(
            f"position {partition}:{offset} cannot be read: Kafka does not answer",
            exit_code=ExitCode.BUS_UNREACHABLE,
        ) from exc
    return id_of(entry) if entry is not None and entry.offset == offset else None


async def folded(
    log: KafkaLog, partition: int, fold: LogFold, upto: int
) -> AsyncGenerator[Batch, None]:
    """Yield batches of a partition until a fold has come to an offset.

    Raises:
        Overtaken: Retention was faster.
        StartupError: There stands what this release cannot read.
    """
    if fold.next_offset < upto:
        try:
            async for batch in _read(log, partition, fold, upto):
                yield batch
        except BusGap as gap:
            raise _loss(gap) from gap
        except UnknownFact as exc:
            raise StartupError(
                f"position {partition}:{fold.next_offset} cannot be read: {exc}",
                exit_code=ExitCode.FAILURE,
            ) from exc
    yield fold.flush()


async def _read(log: KafkaLog, partition: int, fold: LogFold, upto: int) -> AsyncIterator[Batch]:
    reader = log.read({partition: fold.next_offset})
    try:
        async for read in _told_when_late(reader):
            for batch in fold.fold(_below(read.entries, upto)):
                yield batch
            reached = min(read.upto, upto)
            if fold.next_offset < reached:
                # What was there before ends here.
                fold.skip_to(reached)
            if read.upto >= upto:
                return
    finally:
        await reader.aclose()


async def _told_when_late(reader: LogReader) -> AsyncIterator[RecordBatch]:
    """Yield what a reader does, and say so when nothing comes: it waits for Kafka in silence."""
    while True:
        with telling_when_late(_tell_late):
            try:
                batch = await anext(reader)
            except StopAsyncIteration:
                return
        yield batch


def _tell_late(why: str) -> None:
    logger.warning("nothing comes from Kafka, which is waited for: %s", why)


def _below(entries: Sequence[Entry], upto: int) -> Sequence[Entry]:
    if not entries or entries[-1].offset < upto:
        return entries
    return [entry for entry in entries if entry.offset < upto]


def _loss(gap: BusGap) -> StartupError:
    if gap.lost is None:
        return StartupError(
            f"partition {gap.partition} ends below {gap.expected}: the topic was made again",
            exit_code=ExitCode.STORE_OF_ANOTHER_LOG,
        )
    return Overtaken(gap.partition, gap.expected, gap.found)
