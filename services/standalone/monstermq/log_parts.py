"""Reads a part of a bus on Kafka for whoever folds it again, and says what is missing there."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import Entry
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import BusGap, ConfigError, StartupError, UnknownFact
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.changes import Quarantined
from monstermq_shared.views.catalogue import ArchiveView, Catalogue, MessageView
from monstermq_shared.views.log_fold import Batch, LogFold, LogSettings

View = MessageView | ArchiveView

SHADOW_SUFFIX = "_new"
"""What the names of a table that is made anew, and of its projection, end with."""

RETAINED_TABLE, LAST_VALUES, ARCHIVE = "retained", "lastval", "archive"


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


async def folded(
    log: KafkaLog, partition: int, fold: LogFold, upto: int
) -> AsyncGenerator[Batch, None]:
    """Yield batches of a partition until a fold has come to an offset.

    Raises:
        StartupError: Retention has overtaken it, or there stands what this release cannot read.
    """
    while fold.next_offset < upto:
        try:
            async for batch in _read(log, partition, fold, upto):
                yield batch
        except BusGap as gap:
            await _pass_hole(log, fold, gap)
        except UnknownFact as exc:
            raise StartupError(
                f"position {partition}:{fold.next_offset} cannot be read: {exc}",
                exit_code=ExitCode.FAILURE,
            ) from exc
    yield fold.flush()


async def _read(log: KafkaLog, partition: int, fold: LogFold, upto: int) -> AsyncIterator[Batch]:
    reader = log.read({partition: fold.next_offset})
    try:
        async for read in reader:
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


def _below(entries: Sequence[Entry], upto: int) -> Sequence[Entry]:
    if not entries or entries[-1].offset < upto:
        return entries
    return [entry for entry in entries if entry.offset < upto]


async def _pass_hole(log: KafkaLog, fold: LogFold, gap: BusGap) -> None:
    """Go on behind a hole that a stranger's transaction has left; refuse what is a loss."""
    firsts = await log.first_positions()
    if firsts[gap.partition] > gap.expected:
        raise StartupError(
            f"retention has taken the records from {gap.partition}:{gap.expected} to "
            f"{gap.partition}:{firsts[gap.partition] - 1} while they were read, and nothing was "
            "changed; raise Kafka.Bus.RetentionHours, or call this again for what is left",
            exit_code=ExitCode.FAILURE,
        )
    if gap.lost is None:
        raise StartupError(
            f"partition {gap.partition} ends below {gap.expected}: the topic was made again",
            exit_code=ExitCode.STORE_OF_ANOTHER_LOG,
        )
    fold.skip_to(gap.found)
