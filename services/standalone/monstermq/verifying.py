"""``monstermq verify``: folds the log again, in memory, and compares the tables with that.

Partition by partition, each up to where its rows reflect the log at one moment. Memory grows with
the topics of one partition, and by one bit for each record of an archive; not with the log.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TextIO

from monstermq.invocations import Verify
from monstermq.log_parts import (
    Overtaken,
    View,
    check_kept_log,
    chosen,
    folded,
    log_settings,
    name_of,
    refuse_another_log,
)
from monstermq.reaching import reached_bus, reached_database
from monstermq.terminal import Steps, Terminal, run_tool
from monstermq.verified_tables import (
    ArchiveTable,
    Findings,
    MessageTable,
    Site,
    Table,
    no_longer_kept,
)
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.errors import BusUnavailable, StartupError, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres.comparing import ArchivePart, Comparing, Reflected, Snapshot
from monstermq_shared.stores.postgres.log_states import of_another_log
from monstermq_shared.stores.postgres.rows import Place
from monstermq_shared.stores.sql import table_name
from monstermq_shared.views.catalogue import ArchiveView
from monstermq_shared.views.log_fold import Batch, LogFold
from monstermq_shared.views.view_set import ViewSet

Marks = Mapping[tuple[str, int], Reflected]


def verify(invocation: Verify, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Compare tables with the log, and tell each difference.

    Returns:
        ``FAILURE`` if there is one.

    Raises:
        ConfigError: The configuration is wrong, or has no bus on Kafka, or no such table.
        StartupError, StoreError: Kafka or PostgreSQL cannot be used.
    """
    config = load_config(invocation.config, environ).config
    check_kept_log(config)
    views = chosen(config, invocation.tables)
    terminal = Terminal(output, as_json=invocation.as_json)
    return run_tool(_verify(config, views, terminal, invocation.limit))


async def _verify(
    config: BrokerConfig, views: Sequence[View], terminal: Terminal, limit: int
) -> ExitCode:
    async with reached_bus(config) as bus, reached_database(config) as database:
        owner = await database.owner()
        if owner is not None and owner != bus.generation:
            raise of_another_log(database.where, owner, bus.generation)
        comparing = Comparing(postgres_connection(config))
        site = Site(
            comparing=comparing,
            partition_of=bus.messages.partition_of,
            limit=limit,
            doubtful_ms=2 * bus.messages.lateness_ms,
            terminal=terminal,
        )
        try:
            names = [view.projection.name for view in views]
            await refuse_another_log(bus.messages, database, bus.generation, names)
            await _Verification(config, views, bus, site).run()
        except BusUnavailable as exc:
            raise StartupError(str(exc), exit_code=ExitCode.BUS_UNREACHABLE) from exc
        except StoreUnavailable as exc:
            raise StartupError(str(exc), exit_code=ExitCode.STORE_UNREACHABLE) from exc
        finally:
            await comparing.close()
    return ExitCode.FAILURE if site.differences else ExitCode.OK


class _Verification:
    """Compares some views with the log.

    Args:
        config: The configuration.
        views: Which.
        bus: The log.
        site: The tables, and where it is told.
    """

    def __init__(
        self, config: BrokerConfig, views: Sequence[View], bus: KafkaBus, site: Site
    ) -> None:
        self._site = site
        self._bus = bus
        self._views = views
        self._log = log_settings(config, bus.generation)
        self._names = [view.projection.name for view in views]
        self._set = ViewSet.of_views(views)
        self._tables = {view.store: table_name(view.store) for view in views}
        now_ms = SystemClock().wall_ms()
        self._kept_from = {view.store: no_longer_kept(view, now_ms) for view in views}
        self._findings = {view.store: Findings(name_of(view)) for view in views}
        self._archives: dict[str, list[ArchiveTable]] = {}

    async def run(self) -> None:
        """Compare all partitions, and tell what was found."""
        marks = await self._look()
        messages = self._bus.messages
        firsts = await messages.first_positions()
        total = sum(max(0, at - firsts[p]) for p, at in _lowest(marks).items() if p in firsts)
        with self._site.terminal.progress("compares with the log", total) as steps:
            for partition in range(messages.partitions):
                # Retention goes on while others are compared.
                first = (await messages.first_positions())[partition]
                await self._compare(partition, first, marks, steps)
            await self._count_archives()
        self._tell()

    async def _look(self) -> Marks:
        """Return how far everything is, with a beginning for each that has none noted."""
        generation = self._bus.generation
        async with self._site.comparing.snapshot([]) as snapshot:
            self._site.number = await snapshot.generation(generation)
            marks = dict(await snapshot.reflected(generation, self._names))
            for view in self._views:
                await self._guess_beginnings(snapshot, view, marks)
        return marks

    async def _guess_beginnings(
        self, snapshot: Snapshot, view: View, marks: dict[tuple[str, int], Reflected]
    ) -> None:
        """A row below where a projection began there cannot be; its first row is a good guess."""
        name = view.projection.name
        unknown = [p for (n, p), at in marks.items() if n == name and at.began is None]
        if not unknown or self._site.number is None:
            return
        firsts = await snapshot.first_rows(self._tables[view.store], self._site.number)
        for partition in unknown:
            upto = marks[name, partition].upto
            marks[name, partition] = Reflected(upto, firsts.get(partition, upto))
        self._findings[view.store].guessed = True

    async def _compare(self, partition: int, first: int, marks: Marks, steps: Steps) -> None:
        tables = self._tables_of(partition, first, marks)
        if not tables:
            return
        fold = LogFold(self._log, self._set, first)
        done = min(table.upto for table in tables)
        try:
            await self._fold(fold, partition, done, tables, steps)
            messages = [table for table in tables if isinstance(table, MessageTable)]
            held = [table.name for table in messages]
            async with self._site.comparing.snapshot(held) as snapshot:
                # Now the moment that counts, and what has come until then.
                now = await snapshot.reflected(self._bus.generation, self._names)
                for table in tables:
                    table.upto = now[table.projection, partition].upto
                upto = max(table.upto for table in tables)
                await self._fold(fold, partition, upto, tables, steps)
                for table in messages:
                    await table.compare(snapshot)
            for table in tables:
                await table.settle()
        finally:
            for table in tables:
                table.close()

    def _tables_of(self, partition: int, first: int, marks: Marks) -> list[Table]:
        found: list[Table] = []
        for view in self._views:
            at = marks.get((view.projection.name, partition))
            if at is None or self._site.number is None:
                continue
            self._findings[view.store].begun = True
            table = (ArchiveTable if isinstance(view, ArchiveView) else MessageTable)(
                view,
                self._tables[view.store],
                Place(self._site.number, partition),
                self._site,
                self._findings[view.store],
            )
            table.begin(max(first, at.began or 0), at.upto, self._kept_from[view.store])
            if first:
                table.cut(0, first)
            found.append(table)
            if isinstance(table, ArchiveTable):
                self._archives.setdefault(view.store, []).append(table)
        return found

    async def _fold(
        self, fold: LogFold, partition: int, upto: int, tables: Iterable[Table], steps: Steps
    ) -> None:
        while fold.next_offset < upto:
            before = fold.next_offset
            try:
                async with aclosing(folded(self._bus.messages, partition, fold, upto)) as batches:
                    async for batch in batches:
                        await _take(batch, tables)
                        steps.advance(batch.upto - before)
                        before = batch.upto
            except Overtaken as gap:
                await _take(fold.flush(), tables)
                for table in tables:
                    table.pass_over(gap.expected, gap.found)
                fold.skip_to(gap.found)

    async def _count_archives(self) -> None:
        """Look for rows that should not be there: each archive is read once, for all partitions."""
        for store, tables in self._archives.items():
            number, since_ms = tables[0].place.generation, self._kept_from[store]
            parts = [ArchivePart(at.place.partition, at.first, at.upto) for at in tables]
            async with self._site.comparing.snapshot([self._tables[store]]) as snapshot:
                counts = await snapshot.archive_counts(self._tables[store], number, parts, since_ms)
                self._findings[store].older_rows += sum(at.older for at in counts.values())
                for table in tables:
                    counted = counts.get(table.place.partition)
                    await table.find_surplus(snapshot, 0 if counted is None else counted.rows)

    def _tell(self) -> None:
        for findings in self._findings.values():
            self._site.terminal.tell(findings.text, findings.members)


async def _take(batch: Batch, tables: Iterable[Table]) -> None:
    for table in tables:
        await table.take(batch.records)


def _lowest(marks: Marks) -> Mapping[int, int]:
    """Return partition -> up to where all views reflect it."""
    lowest: dict[int, int] = {}
    for (_, partition), at in marks.items():
        lowest[partition] = min(at.upto, lowest.get(partition, at.upto))
    return lowest
