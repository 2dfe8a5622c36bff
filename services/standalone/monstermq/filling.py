"""Fills a table that is made anew: with what is older than the log, and then with the log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from monstermq.doubts import Doubt, UsedArchive
from monstermq.log_parts import Overtaken, View, folded, log_settings, name_of
from monstermq.terminal import Steps, Terminal
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.config import BrokerConfig
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.errors import BusUnavailable, StartupError, StoreConflict, StoreFull
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.records import Record
from monstermq_shared.retries import telling_when_late
from monstermq_shared.stores.changes import Tenure
from monstermq_shared.stores.outages import COMMITS, Outage
from monstermq_shared.stores.postgres.comparing import Comparing
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.rows import Place
from monstermq_shared.stores.postgres.shadows import OldRows, Shadows, Slice
from monstermq_shared.stores.sql import table_name
from monstermq_shared.views.catalogue import ArchiveView
from monstermq_shared.views.log_fold import Batch, LogFold
from monstermq_shared.views.view_set import ViewSet

NEAR = 2_000
"""Records that a swap may have to wait for, however slow that is."""

HELD_S = 5.0
"""And for how long it may, as fast as it was before: projectors wait meanwhile."""

WORSE_MAX = 3
"""So often in a row more may be left than before; then it never comes near the end."""

REQUESTS = "requests"

AT_ONCE = 2
"""Partitions that are folded at the same time: one is folded while the other is committed."""

T = TypeVar("T")


class NoRoom(Exception):
    """The database is full, most likely by what is made here."""


class TooFar(Exception):
    """The table in use has come so far that a swap would hold projectors for long."""


class Views(NamedTuple):
    """A view, and the one that is filled: of another store and with a mark of its own."""

    used: View
    new: View


@dataclass(slots=True)
class _Part:
    """One partition of the new table."""

    place: Place
    tenure: Tenure
    fold: LogFold
    doubt: Doubt


class Filling:
    """Fills the new table, and waits for Kafka and PostgreSQL while they are away.

    Args:
        config: The configuration.
        views: Whose tables these are.
        bus: The log.
        database: With both tables.
        shadows: The room for the new one.
        terminal: Where it is told.

    Attributes:
        outage: PostgreSQL's.
        number: What rows call the log.
        kept: Rows that were copied.
        records: Records of the log that were taken.
        is_swapping: Others wait for us.
    """

    def __init__(
        self,
        config: BrokerConfig,
        views: Views,
        bus: KafkaBus,
        database: PostgresDatabase,
        shadows: Shadows,
        terminal: Terminal,
    ) -> None:
        name = name_of(views.used)
        self.outage = Outage(f"rebuild {name}, PostgreSQL")
        self.number = 0
        self.kept = 0
        self.records = 0
        self.is_swapping = False
        self._name = name
        self._views = views
        self._bus = bus
        self._database = database
        self._shadows = shadows
        self._terminal = terminal
        self._set = ViewSet.of_views([views.new])
        self._log = log_settings(config, bus.generation)
        self._log_outage = Outage(f"rebuild {name}, Kafka", BusUnavailable)
        self._parts: dict[int, _Part] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self._rate = 0.0
        self._used = UsedArchive(
            Comparing(postgres_connection(config)),
            table_name(views.used.store),
            views.used.projection.name,
            bus.generation,
        )

    async def close(self) -> None:
        """Close the connections of its own."""
        await self._used.close()

    async def asked(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Ask PostgreSQL, again and again while it is away.

        Raises:
            NoRoom: It is full. To wait would be to hold projectors by what was written here.
        """

        async def once() -> T:
            try:
                with telling_when_late(partial(self.outage.late, what)):
                    return await attempt()
            except StoreFull as exc:
                raise NoRoom(str(exc)) from exc

        return await self.outage.repeat(what, once)

    async def fill(self, firsts: Mapping[int, int]) -> None:
        """Copy what is older than the log, and take the log nearly up to its end.

        Args:
            firsts: Partition -> where the log begins; empty where the copy was made before.

        Raises:
            NoRoom: See ``asked``.
            StartupError: More comes than is taken, or retention was faster than all.
            StoreConflict: Another process does the same.
        """
        generation = self._bus.generation
        self.number = await self.asked(
            REQUESTS, lambda: self._database.generation_number(generation)
        )
        name = self._views.new.projection.name
        if firsts:
            old = OldRows(generation=self.number, firsts={}, ends=firsts, others=True)
            await self._copy(old, "copies what is older than the log")
            starts = {Partition(generation, p): {name: at} for p, at in firsts.items()}
            await self.asked(REQUESTS, lambda: self._database.begin_marks(generation, starts))
        begins = await self.asked(REQUESTS, lambda: self._used.begins(name))
        for number in range(self._bus.messages.partitions):
            self._parts[number] = await self.asked(
                REQUESTS, partial(self._begin, number, begins[number])
            )
        with self._terminal.progress("takes the log", None) as steps:
            await self.catch_up(steps)

    async def _copy(self, old: OldRows, what: str) -> None:
        copied: Slice | None = None
        with self._terminal.progress(what, None, "rows") as steps:
            while True:
                key = None if copied is None else copied.key
                copied = await self.asked(COMMITS, partial(self._shadows.copy, old, key))
                if copied is None:
                    return
                self.kept += copied.rows
                steps.advance(copied.rows)

    async def _begin(self, number: int, began: int) -> _Part:
        name, partition = self._views.new.projection.name, Partition(self._bus.generation, number)
        tenure = await self._database.begin(partition, [name])
        state = (await self._database.log_states(partition, [name])).get(name)
        assert state is not None, "its mark was just begun"
        doubt = Doubt(2 * self._bus.messages.lateness_ms)
        if began:
            doubt.cut(0, began)
        fold = LogFold(self._log, self._set, state.mark.reflected, state)
        return _Part(Place(self.number, number), tenure, fold, doubt)

    async def catch_up(self, steps: Steps | None = None) -> None:
        """Take the log until only so much is left that a swap may wait for it.

        Raises:
            StartupError: More comes than is taken.
        """
        loop = asyncio.get_running_loop()
        before: int | None = None
        worse = 0
        while True:
            ends = await self._log_outage.repeat(REQUESTS, self._bus.messages.end_positions)
            left = self.left(ends)
            if not left or (before is not None and left <= self.near):
                return
            worse = worse + 1 if before is not None and left >= before else 0
            if worse == WORSE_MAX:
                raise StartupError(
                    f"{self._name}: records come faster than they are taken, {self._rate:.0f} a "
                    "second; the table in use is as it was, and the same command goes on when "
                    "there is less traffic",
                    exit_code=ExitCode.FAILURE,
                )
            if steps is not None:
                steps.expect(self.records + left)
            begun_s = loop.time()
            await self.take(ends, steps)
            self._rate = left / (loop.time() - begun_s)
            before = left

    @property
    def near(self) -> float:
        """So many records may be left for a swap."""
        return max(NEAR, self._rate * HELD_S)

    def left(self, ends: Mapping[int, int]) -> int:
        """Return how many records there are below some offsets that were not taken."""
        return sum(max(0, at - self._parts[p].fold.next_offset) for p, at in ends.items())

    async def take(self, ends: Mapping[int, int], steps: Steps | None = None) -> None:
        """Take the log up to some offsets, in all partitions."""
        tasks = [
            asyncio.create_task(self._take_part(number, upto, steps))
            for number, upto in ends.items()
            if upto > self._parts[number].fold.next_offset
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_part(self, number: int, upto: int, steps: Steps | None) -> None:
        part = self._parts[number]
        async with self._free:
            while part.fold.next_offset < upto:
                try:
                    await self._take_batches(number, upto, steps)
                except Overtaken as gap:
                    if self.is_swapping:
                        raise TooFar from gap
                    await self._commit(part, part.fold.flush())
                    await self._copy_taken(number, gap)
                    part.fold.skip_to(gap.found)
                    part.doubt.cut(gap.expected, gap.found)
                    await self._commit(part, part.fold.flush())

    async def _take_batches(self, number: int, upto: int, steps: Steps | None) -> None:
        part = self._parts[number]
        before = part.fold.next_offset
        async with aclosing(folded(self._bus.messages, number, part.fold, upto)) as batches:
            async for batch in batches:
                await self._commit(part, batch)
                self.records += batch.upto - before
                if steps is not None:
                    steps.advance(batch.upto - before)
                before = batch.upto

    async def _commit(self, part: _Part, batch: Batch) -> None:
        commit = self._set.fold(await self._counting(part, batch.records), batch.upto)
        commit.log = batch.state
        try:
            await self.asked(COMMITS, lambda: self._database.commit(part.tenure, commit))
        except StoreConflict as exc:
            raise StoreConflict(
                f"another process has begun to rebuild {self._name}, and this one stops: {exc}"
            ) from exc

    async def _counting(self, part: _Part, records: Sequence[Record]) -> Sequence[Record]:
        """Return records without those that only a projector has known to be doubles."""
        part.doubt.take(records)
        doubtful = part.doubt.doubtful(records)
        if not doubtful or not isinstance(self._views.used, ArchiveView):
            return records
        doubles = await self.asked(
            REQUESTS, lambda: self._used.doubles(part.place, doubtful, part.doubt)
        )
        return [record for record in records if record.offset not in doubles]

    async def _copy_taken(self, number: int, gap: Overtaken) -> None:
        """Copy what retention has taken from the log, but not from the table in use.

        Raises:
            Overtaken: It is not there either.
        """
        name, partition = self._views.used.projection.name, Partition(self._bus.generation, number)
        states = await self.asked(REQUESTS, lambda: self._database.log_states(partition, [name]))
        if name not in states or states[name].mark.reflected < gap.found:
            raise gap
        self._terminal.note(
            f"retention has taken {number}:{gap.expected} to {number}:{gap.found - 1} before they "
            "were read: what the table in use has of them is kept"
        )
        old = OldRows(
            generation=self.number,
            firsts={number: gap.expected},
            ends={number: gap.found},
            others=False,
        )
        await self._copy(old, "copies what retention has taken")
        if not isinstance(self._views.used, ArchiveView):
            await self.asked(COMMITS, lambda: self._shadows.drop_cleared(self.number, number))
