"""``monstermq rebuild``: makes a table anew from the log, and puts it in the place of the old one.

The new table has a watermark of its own, so projectors go on with the old one meanwhile, and what
is broken off goes on where it was. It begins with what is older than the log; then it takes the
log.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TextIO

from monstermq.filling import REQUESTS, Filling, NoRoom, TooFar, Views
from monstermq.invocations import Rebuild
from monstermq.log_parts import (
    SHADOW_SUFFIX,
    View,
    check_kept_log,
    chosen,
    name_of,
    refuse_another_log,
    shadow_store,
)
from monstermq.reaching import reached_bus, reached_database
from monstermq.terminal import Terminal, run_tool
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.errors import (
    BusUnavailable,
    StartupError,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.retries import pause
from monstermq_shared.stores.outages import COMMITS
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.shadows import Shadow, Shadows, opened
from monstermq_shared.stores.sql import table_name
from monstermq_shared.views.catalogue import ArchiveView

SWAP_TRIES = 6
"""How often a swap is tried that has to wait for whoever reads the table: ten seconds each time."""

SWAPS = "swaps"


def rebuild(invocation: Rebuild, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Make a table anew from the log.

    Raises:
        ConfigError: The configuration is wrong, or has no bus on Kafka, or no such table.
        StartupError, StoreError: Kafka or PostgreSQL cannot be used, or has no room.
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
        shadow=table_name(shadow_store(view.store)),
        projection=view.projection.name,
        shadow_projection=view.projection.name + SHADOW_SUFFIX,
        is_archive=isinstance(view, ArchiveView),
    )
    async with (
        reached_bus(config) as bus,
        opened(postgres_connection(config), shadow) as shadows,
    ):
        rebuilding = _Rebuilding(config, view, bus, shadows, terminal)
        try:
            if invocation.discard:
                return await rebuilding.discard()
            return await rebuilding.run(anew=invocation.anew)
        except NoRoom as exc:
            raise await rebuilding.given_up(exc) from exc
        except BusUnavailable as exc:
            raise StartupError(str(exc), exit_code=ExitCode.BUS_UNREACHABLE) from exc
        except StoreUnavailable as exc:
            raise StartupError(str(exc), exit_code=ExitCode.STORE_UNREACHABLE) from exc
        except asyncio.CancelledError:
            terminal.note(
                f"stopped: {table} is as it was; the same command goes on, and with --discard what "
                "was begun is dropped"
            )
            raise


class _Rebuilding:
    """Makes one table anew.

    Args:
        config: The configuration.
        view: Of what it is.
        bus: The log.
        shadows: The room for it.
        terminal: Where it is told.
    """

    def __init__(
        self,
        config: BrokerConfig,
        view: View,
        bus: KafkaBus,
        shadows: Shadows,
        terminal: Terminal,
    ) -> None:
        self._config = config
        self._bus = bus
        self._shadows = shadows
        self._terminal = terminal
        self._name = name_of(view)
        self._views = Views(view, _renamed(view))

    async def discard(self) -> ExitCode:
        """Drop what was begun."""
        there = await self._shadows.is_there()
        await self._shadows.discard()
        done = "what was begun was dropped" if there else "nothing was begun"
        self._terminal.tell(f"{self._name}: {done}", {"table": self._name, "discarded": there})
        return ExitCode.OK

    async def given_up(self, why: NoRoom) -> StartupError:
        """Give back the room that was taken, for projectors need it; return what is to be told."""
        try:
            await self._shadows.discard()
            done = "what was begun was dropped"
        except StoreError as exc:
            done = f"what was begun takes room until --discard drops it ({exc})"
        return StartupError(
            f"{why}; {done}, and {table_name(self._views.used.store)} is as it was. The new table "
            "needs as much room beside it, until it takes its place",
            exit_code=ExitCode.STORE_FULL,
        )

    async def run(self, *, anew: bool) -> ExitCode:
        """Do it, and tell what was done."""
        await self._shadows.refuse_dependents()
        goes_on = await self._prepare(anew=anew)
        firsts: Mapping[int, int] = {}
        if goes_on:
            self._terminal.note("an earlier rebuild of this table goes on where it was")
        else:
            await self._shadows.discard()
            firsts = await self._bus.messages.first_positions()
        database = await self._open()
        filling = Filling(
            self._config, self._views, self._bus, database, self._shadows, self._terminal
        )
        try:
            await filling.fill(firsts)
            await self._swap(filling)
        finally:
            await filling.close()
            await database.close()
        self._terminal.tell(
            f"{self._name}: made anew of {filling.records} records of the log"
            + ("" if goes_on else f"; {filling.kept} rows are older than the log and were kept"),
            {
                "table": self._name,
                "records": filling.records,
                "kept": filling.kept,
                "generation": self._bus.generation,
            },
        )
        return ExitCode.OK

    async def _prepare(self, *, anew: bool) -> bool:
        """Refuse a log that the table is not of; return whether something goes on."""
        log, generation = self._bus.messages, self._bus.generation
        new = self._views.new.projection.name
        names = (self._views.used.projection.name, new)
        async with reached_database(self._config) as database:
            await database.belong_to(generation)
            await refuse_another_log(log, database, generation, names)
            if anew or not await self._shadows.is_there():
                return False
            for number, first in (await log.first_positions()).items():
                states = await database.log_states(Partition(generation, number), names)
                # What retention has taken meanwhile may be in the table in use.
                reach = max((at.mark.reflected for at in states.values()), default=0)
                if new not in states or reach < first:
                    return False
        return True

    async def _open(self) -> PostgresDatabase:
        """Open the database with both tables, which makes those that are not there."""
        stores = (self._views.used.store, self._views.new.store)
        is_archive = isinstance(self._views.used, ArchiveView)
        database = await PostgresDatabase.open(
            postgres_connection(self._config),
            session_store=False,
            message_stores=() if is_archive else stores,
            archive_stores=stores if is_archive else (),
            exclusive=False,
        )
        reader = self._config.postgres.read_user
        if reader is not None and self._views.used.group is not None:
            await database.let_read(reader, [table_name(self._views.new.store)])
        return database

    async def _swap(self, filling: Filling) -> None:
        """Put the new table in the place of the old one, as soon as nobody reads that for long."""
        shadows, outage = self._shadows, filling.outage
        await filling.asked(COMMITS, shadows.analyze)
        await filling.asked(REQUESTS, shadows.refuse_dependents)
        tries = failures = 0
        while True:
            await filling.catch_up()
            try:
                await self._swap_once(filling)
            except TooFar:
                continue
            except StoreFull as exc:
                raise NoRoom(str(exc)) from exc
            except StoreUnavailable as exc:
                # Who holds the table is waited for only for so long; a server that is away, as long
                # as it is.
                tries += shadows.is_connected
                if tries == SWAP_TRIES:
                    raise
                outage.failed(SWAPS, exc)
                await pause(failures)
                failures += 1
                if not await filling.asked(REQUESTS, shadows.is_there):
                    # Only the answer was lost.
                    return
            else:
                outage.passed(SWAPS)
                return

    async def _swap_once(self, filling: Filling) -> None:
        filling.is_swapping = True
        try:
            async with self._shadows.swapping(filling.number) as reflected:
                # Nobody commits the old one now: it stays where it is.
                log = range(self._bus.messages.partitions)
                ends = {number: at for number, at in reflected.items() if number in log}
                if filling.left(ends) > filling.near:
                    raise TooFar
                await filling.take(ends)
        finally:
            filling.is_swapping = False


def _renamed(view: View) -> View:
    """Return the same view, of another store and with a mark of its own."""
    name = view.projection.name + SHADOW_SUFFIX
    projection: Any = view.projection.named(name)  # of the kind that the view takes
    return replace(view, store=shadow_store(view.store), projection=projection)
