"""Where an edge begins to read both logs, and what it must know of what stands below (E1)."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from monstermq_shared.bus.runs import Runs
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import BusUnavailable, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.settings import LogBegin
from monstermq_shared.stores.changes import StoredLogState
from monstermq_shared.stores.ports import Database, KeepsLogState, OwnedByLog
from monstermq_shared.stores.queues import KeepsQueues
from monstermq_shared.views.catalogue import QUEUES, RETAINED_VIEW, SESSIONS, Catalogue
from monstermq_shared.views.log_loading import another_log, refuse_other_log

LOADED_MAX = 2_000
"""Clients that are taken from rows before the event loop has its turn: about a millisecond."""

NEVER_MS = 250_000_000_000_000
"""A time after all that there is: almost the year 9900."""

K = TypeVar("K")
V = TypeVar("V")


@runtime_checkable
class SharedDatabase(Database, KeepsLogState, KeepsQueues, OwnedByLog, Protocol):
    """A database that an edge can read beside the workers that write it."""


class ReadLog(Protocol):
    """A log, as far as its positions go."""

    async def end_positions(self) -> Mapping[int, int]:
        """See ``LogPort.end_positions``."""
        ...

    async def first_positions(self) -> Mapping[int, int]:
        """Return for every partition the offset from which on everything is there."""
        ...


class Begin(NamedTuple):
    """Where an edge begins to read.

    Attributes:
        engine: What its engine is told.
        known_messages: Partition -> what stands below, for R1.
        known_sessions: The same of the sessions log.
    """

    engine: LogBegin
    known_messages: Mapping[int, Runs]
    known_sessions: Mapping[int, Runs]


class Begins:
    """Finds it, in databases that are open.

    Args:
        opened: By their types.
        config: Says which is for what.
        generation: Of the bus.
    """

    def __init__(
        self, opened: Mapping[StoreType, SharedDatabase], config: BrokerConfig, generation: str
    ) -> None:
        self._opened = opened
        self._generation = generation
        self._lateness_ms = config.kafka.bus.lateness_s * 1000
        self._of_retained = config.retained_store_type
        self._of_sessions = config.session_store_type
        self._views = _views_by_database(config, opened)
        # Without kept sessions nobody may be there who makes their rows.
        self._keeps = config.kafka.bus.protocol_version > 1

    async def find(self, messages: ReadLog, sessions: ReadLog) -> Begin:
        """Say where reading begins, and make the first marks if nobody has (E1, P1).

        Raises:
            StoreUnavailable, BusUnavailable: Not now.
            StartupError: The rows are of another log.
        """
        # Projectors may come later than what is served, so all views have their first marks now.
        starts, firsts = await messages.end_positions(), await messages.first_positions()
        for store_type, names in self._views.items():
            await self._begin_marks(store_type, names, "", starts)
        session_starts = await sessions.first_positions()
        await self._begin_marks(self._of_sessions, [SESSIONS], SESSIONS_SUFFIX, session_starts)
        views = await self._states(self._of_retained, RETAINED_VIEW, "", starts)
        fences, inbound = FenceTable(len(views), self._lateness_ms), InboundIds()
        queues = await self._queues(firsts, views, fences, inbound)
        facts = await self._states(self._of_sessions, SESSIONS, SESSIONS_SUFFIX, session_starts)
        # Asked after the marks were read: projectors go on meanwhile.
        firsts, ends = await messages.first_positions(), await messages.end_positions()
        session_firsts = await sessions.first_positions()
        self._check("the rows of what is retained", _reflected(views), firsts, ends)
        self._check("the queues", _reflected(queues), firsts, ends)
        begin = LogBegin(
            messages=_reflected(views),
            queues=_reflected(views) | _reflected(queues),
            sessions={
                number: max(upto, session_firsts[number])
                for number, upto in _reflected(facts).items()
            },
            fences=fences,
            inbound=inbound,
        )
        lowest = {number: _lowest(view, queues.get(number)) for number, view in views.items()}
        return Begin(begin, self._runs(lowest), self._runs(facts))

    async def _begin_marks(
        self, store_type: StoreType, names: Sequence[str], suffix: str, starts: Mapping[int, int]
    ) -> None:
        """Make first marks where there are none (P1)."""
        await self._opened[store_type].begin_marks(
            self._generation,
            {
                Partition(self._generation + suffix, number): dict.fromkeys(names, start)
                for number, start in starts.items()
            },
        )

    async def _states(
        self, store_type: StoreType, projection: str, suffix: str, partitions: Iterable[int]
    ) -> dict[int, StoredLogState]:
        """Return what is kept of a projection in each partition."""
        states = {}
        for number in partitions:
            place = Partition(self._generation + suffix, number)
            kept = await self._opened[store_type].log_states(place, [projection])
            states[number] = kept[projection]
            refuse_other_log(self._generation, place, {projection: states[number]})
        return states

    async def _queues(
        self,
        firsts: Mapping[int, int],
        views: Mapping[int, StoredLogState],
        fences: FenceTable,
        inbound: InboundIds,
    ) -> dict[int, StoredLogState]:
        """Return what is kept with the queues of each partition; load its fences and open ids.

        Each partition is read as of one moment (R5). Fences are those of whoever is lowest, with
        which reading begins (R3): of a million clients they take gigabytes before they are loaded,
        so those of one partition are here at a time.

        Raises:
            StoreUnavailable: A standby has taken over meanwhile.
        """
        if not self._keeps:
            for number, view in views.items():
                await _load(fences.load, number, view.fences)
            return {}
        await self._begin_marks(self._of_sessions, [QUEUES], "", firsts)
        states = {}
        database = self._opened[self._of_sessions]
        marks = await database.positions(self._generation)
        for number, view in views.items():
            place = Partition(self._generation, number)
            is_behind = marks[QUEUES, number] < view.mark.reflected
            since_ms = await self._fences_since_ms(place) if is_behind else NEVER_MS
            kept = await database.edge_queues(place, since_ms=since_ms)
            refuse_other_log(self._generation, place, {QUEUES: kept.state})
            is_lowest = _lowest(view, kept.state) is kept.state
            if is_lowest and not is_behind:
                raise StoreUnavailable(f"the queues of partition {number} lack what they had")
            await _load(fences.load, number, kept.fences if is_lowest else view.fences)
            await _load(inbound.load, number, kept.open_ids)
            states[number] = kept.state
        return states

    async def _fences_since_ms(self, place: Partition) -> int:
        """Return how old fences may be: 2 L of record time, which the runs have seen (R7)."""
        state = (await self._opened[self._of_sessions].log_states(place, [QUEUES]))[QUEUES]
        newest_ms = Runs.load(state.runs, self._lateness_ms).newest_ms
        return max(newest_ms - 2 * self._lateness_ms, 0)

    def _check(
        self,
        what: str,
        reflected: Mapping[int, int],
        firsts: Mapping[int, int],
        ends: Mapping[int, int],
    ) -> None:
        for number, upto in reflected.items():
            if upto > ends[number]:
                raise another_log(
                    Partition(self._generation, number),
                    f"it ends at {ends[number]}, and {what} reflect it up to {upto}",
                )
            if upto < firsts[number]:
                raise BusUnavailable(
                    f"partition {number} can be read from offset {firsts[number]}, and {what} "
                    f"reflect it up to {upto}: a projector has to pass over the gap"
                )

    def _runs(self, states: Mapping[int, StoredLogState]) -> dict[int, Runs]:
        load, lateness_ms = Runs.load, self._lateness_ms
        return {number: load(state.runs, lateness_ms) for number, state in states.items()}


async def _load(
    load: Callable[[int, Mapping[K, V]], None], number: int, rows: Mapping[K, V]
) -> None:
    """Load rows of a partition some at a time, with turns of the event loop in between."""
    left = iter(rows.items())
    while some := dict(islice(left, LOADED_MAX)):
        load(number, some)
        await asyncio.sleep(0)


def _lowest(view: StoredLogState, queues: StoredLogState | None) -> StoredLogState:
    """Return the state that reading begins with: what it says of R1 and R3 is as of there."""
    if queues is None or view.mark.reflected <= queues.mark.reflected:
        return view
    return queues


def _reflected(states: Mapping[int, StoredLogState]) -> dict[int, int]:
    return {number: state.mark.reflected for number, state in states.items()}


def _views_by_database(
    config: BrokerConfig, opened: Mapping[StoreType, SharedDatabase]
) -> dict[StoreType, list[str]]:
    """Return the views of each opened database; Kafka's have their marks beside the sessions."""
    found: dict[StoreType, list[str]] = {}
    for view in Catalogue(config).views:
        is_kafka = view.store_type is StoreType.KAFKA
        store_type = config.session_store_type if is_kafka else view.store_type
        if store_type in opened:
            found.setdefault(store_type, []).append(view.projection.name)
    return found
