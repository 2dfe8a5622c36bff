"""``monstermq rebuild``: makes a table anew from the log, and puts it in the place of the old one.

The new table has a watermark of its own, so projectors go on with the old one meanwhile, and what
is broken off goes on where it was. It begins with what is older than the log; then it takes the
log.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, TextIO

from monstermq.invocations import Rebuild
from monstermq.log_parts import (
    SHADOW_SUFFIX,
    View,
    check_kept_log,
    chosen,
    folded,
    log_settings,
    name_of,
)
from monstermq.reaching import reached_bus, reached_database
from monstermq.terminal import Steps, Terminal, run_tool
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.errors import BusUnavailable, StartupError, StoreConflict, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.retries import pause
from monstermq_shared.stores.changes import StoredLogState, Tenure
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.shadows import Shadow, Shadows, opened
from monstermq_shared.stores.sql import table_name
from monstermq_shared.views.catalogue import ArchiveView
from monstermq_shared.views.committing import commit_until_done
from monstermq_shared.views.log_fold import Batch, LogFold
from monstermq_shared.views.view_set import ViewSet

NEAR = 2_000
"""Records that a swap may have to wait for."""

SWAP_TRIES = 6
"""How often a swap is tried that has to wait for whoever reads the table: ten seconds each time."""

SWAPS = "swaps"

AT_ONCE = 2
"""Partitions that are folded at the same time: one is folded while the other is committed."""


def rebuild(invocation: Rebuild, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Make a table anew from the log.

    Raises:
        ConfigError: The configuration is wrong, or has no bus on Kafka, or no such table.
        StartupError, StoreError: Kafka or PostgreSQL cannot be used, or retention has overtaken it.
        StoreConflict: Another process rebuilds the same table.
    """
    config = load_config(invocation.config, environ).config
    check_kept_log(config)
    (view,) = chosen(config, [invocation.table])
    terminal = Terminal(output, as_json=invocation.as_json)
    return run_tool(_rebuild(config, view, terminal, invocation))


async def _rebuild(
    config: BrokerConfig, view: View, terminal: Terminal, invocation: Rebuild
) -> ExitCode:
    table = table_name(view.store)
    shadow = Shadow(
        table=table,
        shadow=table_name(view.store + SHADOW_SUFFIX),
        projection=view.projection.name,
        shadow_projection=view.projection.name + SHADOW_SUFFIX,
        is_archive=isinstance(view, ArchiveView),
    )
    async with reached_bus(config) as bus:
        async with reached_database(config) as database:
            await database.belong_to(bus.generation)
        async with opened(postgres_connection(config), shadow) as shadows:
            try:
                rebuilding = _Rebuilding(config, view, bus, shadows)
                return await rebuilding.run(terminal, invocation)
            except BusUnavailable as exc:
                raise StartupError(str(exc), exit_code=ExitCode.BUS_UNREACHABLE) from exc
            except StoreUnavailable as exc:
                raise StartupError(str(exc), exit_code=ExitCode.STORE_UNREACHABLE) from exc


@dataclass(slots=True)
class _Part:
    """One partition of the new table."""

    tenure: Tenure
    fold: LogFold


class _Rebuilding:
    """Makes one table anew.

    Args:
        config: The configuration.
        view: Of what it is.
        bus: The log.
        shadows: The room for it.
    """

    def __init__(self, config: BrokerConfig, view: View, bus: KafkaBus, shadows: Shadows) -> None:
        self._config = config
        self._bus = bus
        self._shadows = shadows
        self._view = view
        self._new = _renamed(view)
        self._set = ViewSet.of_views([self._new])
        self._log = log_settings(config, bus.generation)
        self._outage = Outage(f"rebuild {name_of(view)}, PostgreSQL")
        self._log_outage = Outage(f"rebuild {name_of(view)}, Kafka", BusUnavailable)
        self._parts: dict[int, _Part] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self._kept = 0
        self._records = 0

    async def run(self, terminal: Terminal, invocation: Rebuild) -> ExitCode:
        """Do it, and tell what was done."""
        name = name_of(self._view)
        await self._shadows.refuse_dependents()
        if invocation.discard:
            there = await self._shadows.is_there()
            await self._shadows.discard()
            done = "what was begun was dropped" if there else "nothing was begun"
            terminal.tell(f"{name}: {done}", {"table": name, "discarded": there})
            return ExitCode.OK
        firsts = await self._bus.messages.first_positions()
        goes_on = not invocation.anew and await self._goes_on(firsts)
        if goes_on:
            terminal.note("an earlier rebuild of this table goes on where it was")
        else:
            await self._shadows.discard()
        database = await self._open()
        try:
            await self._fill(database, terminal, {} if goes_on else firsts)
            await self._swap(database)
        finally:
            await database.close()
        terminal.tell(
            f"{name}: made anew of {self._records} records of the log"
            + ("" if goes_on else f"; {self._kept} rows are older than the log and were kept"),
            {
                "table": name,
                "records": self._records,
                "kept": self._kept,
                "generation": self._bus.generation,
            },
        )
        return ExitCode.OK

    async def _open(self) -> PostgresDatabase:
        """Open the database with both tables, which makes those that are not there."""
        stores = (self._view.store, self._new.store)
        is_archive = isinstance(self._view, ArchiveView)
        database = await PostgresDatabase.open(
            postgres_connection(self._config),
            session_store=False,
            message_stores=() if is_archive else stores,
            archive_stores=stores if is_archive else (),
            exclusive=False,
        )
        reader = self._config.postgres.read_user
        if reader is not None and self._view.group is not None:
            await database.let_read(reader, [table_name(self._new.store)])
        return database

    async def _goes_on(self, firsts: Mapping[int, int]) -> bool:
        """Whether something was begun that the log still has all of."""
        if not await self._shadows.is_there():
            return False
        async with reached_database(self._config) as database:
            for number, first in firsts.items():
                state = await self._state(database, number)
                if state is None or state.mark.reflected < first:
                    return False
        return True

    async def _state(self, database: PostgresDatabase, number: int) -> StoredLogState | None:
        name = self._new.projection.name
        states = await database.log_states(Partition(self._bus.generation, number), [name])
        return states.get(name)

    # -- filling ---------------------------------------------------------------------------------

    async def _fill(
        self, database: PostgresDatabase, terminal: Terminal, firsts: Mapping[int, int]
    ) -> None:
        """Copy what is older, unless that was done before, and take the log up to its end."""
        name, generation = self._new.projection.name, self._bus.generation
        if firsts:
            number = await database.generation_number(generation)
            with terminal.progress("copies what is older than the log", None, "rows") as steps:
                async for rows in self._shadows.copy_older(number, firsts):
                    self._kept += rows
                    steps.advance(rows)
            starts = {Partition(generation, p): {name: at} for p, at in firsts.items()}
            await database.begin_marks(generation, starts)
        for partition in range(self._bus.messages.partitions):
            self._parts[partition] = await self._begin(database, partition)
        with terminal.progress("takes the log", None) as steps:
            before: int | None = None
            while True:
                ends = await self._log_outage.repeat(
                    "requests", self._bus.messages.end_positions, _nothing
                )
                left = sum(ends[p] - part.fold.next_offset for p, part in self._parts.items())
                if before is not None and (left <= NEAR or 2 * left > before):
                    # With much traffic it comes no nearer.
                    return
                steps.expect(self._records + left)
                await self._take(database, ends, steps)
                before = left

    async def _begin(self, database: PostgresDatabase, number: int) -> _Part:
        partition = Partition(self._bus.generation, number)
        tenure = await database.begin(partition, [self._new.projection.name])
        state = await self._state(database, number)
        assert state is not None, "its mark was just begun"
        return _Part(tenure, LogFold(self._log, self._set, state.mark.reflected, state))

    async def _take(
        self, database: PostgresDatabase, ends: Mapping[int, int], steps: Steps | None = None
    ) -> None:
        """Take the log up to some offsets, in all partitions."""
        tasks = [
            asyncio.create_task(self._take_part(database, number, upto, steps))
            for number, upto in ends.items()
            if upto > self._parts[number].fold.next_offset
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_part(
        self, database: PostgresDatabase, number: int, upto: int, steps: Steps | None
    ) -> None:
        part = self._parts[number]
        before = part.fold.next_offset
        async with (
            self._free,
            aclosing(folded(self._bus.messages, number, part.fold, upto)) as batches,
        ):
            async for batch in batches:
                await self._commit(database, part, batch)
                self._records += batch.upto - before
                if steps is not None:
                    steps.advance(batch.upto - before)
                before = batch.upto

    async def _commit(self, database: PostgresDatabase, part: _Part, batch: Batch) -> None:
        commit = self._set.fold(batch.records, batch.upto)
        commit.log = batch.state
        try:
            await commit_until_done(database, part.tenure, commit, self._outage, _nothing)
        except StoreConflict as exc:
            raise StoreConflict(
                f"another process has begun to rebuild {name_of(self._view)}, and this one stops: "
                f"{exc}"
            ) from exc

    # -- the swap --------------------------------------------------------------------------------

    async def _swap(self, database: PostgresDatabase) -> None:
        """Put the new table in the place of the old one, as soon as nobody reads that for long."""
        number = await database.generation_number(self._bus.generation)
        for attempt in range(SWAP_TRIES):
            try:
                async with self._shadows.swapping(number) as reflected:
                    # Nobody commits the old one now: it stays where it is.
                    await self._take(
                        database, {p: at for p, at in reflected.items() if p in self._parts}
                    )
            except StoreUnavailable as exc:
                if attempt == SWAP_TRIES - 1:
                    raise
                self._outage.failed(SWAPS, exc)
                await pause(attempt)
            else:
                return


def _renamed(view: View) -> View:
    """Return the same view, of another store and with a mark of its own."""
    projection: Any = copy(view.projection)  # of the kind that the view takes
    projection.name += SHADOW_SUFFIX
    return replace(view, store=view.store + SHADOW_SUFFIX, projection=projection)


def _nothing() -> None:
    """Count nothing: who looks sees what fails."""
