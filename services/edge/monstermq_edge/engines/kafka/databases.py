"""The databases an edge reads: what is retained, and how far the workers have come (E1)."""

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from monstermq_shared.bus.runs import Runs
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import (
    BusUnavailable,
    ConfigError,
    MonsterError,
    StartupError,
    StoreUnavailable,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.settings import LogBegin
from monstermq_shared.stores.changes import StoredLogState
from monstermq_shared.stores.needed import StoresNeeded
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import (
    Database,
    KeepsLogState,
    OwnedByLog,
    ReflectedPage,
    ReflectedReader,
)
from monstermq_shared.stores.registry import open_database
from monstermq_shared.views.catalogue import RETAINED, RETAINED_VIEW, SESSIONS, Catalogue
from monstermq_shared.views.log_loading import another_log, refuse_other_log

logger = logging.getLogger(__name__)


@runtime_checkable
class _Shared(Database, KeepsLogState, OwnedByLog, Protocol):
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


class EdgeDatabases:
    """The databases, opened.

    Attributes:
        outages: What fails of each of them.

    Args:
        opened: By their types.
        config: Says which is for what.
        generation: Of the bus.
    """

    def __init__(
        self, opened: Mapping[StoreType, _Shared], config: BrokerConfig, generation: str
    ) -> None:
        self.outages = {store_type: Outage(str(store_type)) for store_type in opened}
        self._opened = opened
        self._generation = generation
        self._lateness_ms = config.kafka.bus.lateness_s * 1000
        self._of_retained = config.retained_store_type
        self._of_sessions = config.session_store_type
        self._views = _views_by_database(config, opened)
        reader = self._retained.message_store(RETAINED)
        assert isinstance(reader, ReflectedReader)
        self._reader: ReflectedReader = reader

    @property
    def _retained(self) -> _Shared:
        return self._opened[self._of_retained]

    @property
    def retained_outage(self) -> Outage:
        """What fails of the database with what is retained."""
        return self.outages[self._of_retained]

    async def page(self, topic_filter: str, *, after: str, limit: int) -> ReflectedPage:
        """Return a page of what is retained, with what it reflects (R5, V2)."""
        view = (RETAINED_VIEW, self._generation)
        return await self._reader.find_reflected(view, topic_filter, after=after, limit=limit)

    async def reflected(self) -> dict[int, int]:
        """Return up to where the table of what is retained shows each partition."""
        positions = await self._retained.positions(self._generation)
        return {at: upto for (view, at), upto in positions.items() if view == RETAINED_VIEW}

    async def close(self) -> None:
        """Close them."""
        await _close(self._opened.values())

    # -- where to begin --------------------------------------------------------------------------

    async def begin(self, messages: ReadLog, sessions: ReadLog) -> Begin:
        """Say where reading begins, and make the first marks if nobody has (E1, P1).

        Raises:
            StoreUnavailable, BusUnavailable: Not now.
            StartupError: The rows are of another log.
        """
        # Projectors may come later than what is served, so all views have their first marks now.
        starts = await messages.end_positions()
        for store_type, names in self._views.items():
            await self._begin_marks(store_type, names, "", starts)
        session_starts = await sessions.first_positions()
        await self._begin_marks(self._of_sessions, [SESSIONS], SESSIONS_SUFFIX, session_starts)
        views = await self._states(self._of_retained, RETAINED_VIEW, "", starts)
        facts = await self._states(self._of_sessions, SESSIONS, SESSIONS_SUFFIX, session_starts)
        # Asked after the marks were read: projectors go on meanwhile.
        firsts, ends = await messages.first_positions(), await messages.end_positions()
        session_firsts = await sessions.first_positions()
        for number, state in views.items():
            upto = state.mark.reflected
            if upto > ends[number]:
                raise another_log(
                    Partition(self._generation, number),
                    f"it ends at {ends[number]}, and what is retained reflects it up to {upto}",
                )
            if upto < firsts[number]:
                raise BusUnavailable(
                    f"partition {number} can be read from offset {firsts[number]}, and what is "
                    f"retained reflects it up to {upto}: a projector has to pass over the gap"
                )
        reflected = {number: state.mark.reflected for number, state in views.items()}
        begin = LogBegin(
            messages=reflected,
            queues=reflected,
            sessions={
                number: max(state.mark.reflected, session_firsts[number])
                for number, state in facts.items()
            },
            fences=self._fences(views),
            inbound=InboundIds(),
        )
        return Begin(begin, self._runs(views), self._runs(facts))

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
            kept = await self._opened[store_type].log_states(place)
            states[number] = kept[projection]
            refuse_other_log(self._generation, place, {projection: states[number]})
        return states

    def _fences(self, states: Mapping[int, StoredLogState]) -> FenceTable:
        fences = FenceTable(len(states), self._lateness_ms)
        for number, state in states.items():
            fences.load(number, state.fences)
        return fences

    def _runs(self, states: Mapping[int, StoredLogState]) -> dict[int, Runs]:
        load, lateness_ms = Runs.load, self._lateness_ms
        return {number: load(state.runs, lateness_ms) for number, state in states.items()}


def _views_by_database(
    config: BrokerConfig, opened: Mapping[StoreType, _Shared]
) -> dict[StoreType, list[str]]:
    """Return the views of each opened database; Kafka's have their marks beside the sessions."""
    found: dict[StoreType, list[str]] = {}
    for view in Catalogue(config).views:
        is_kafka = view.store_type is StoreType.KAFKA
        store_type = config.session_store_type if is_kafka else view.store_type
        if store_type in opened:
            found.setdefault(store_type, []).append(view.projection.name)
    return found


async def open_edge_databases(config: BrokerConfig, generation: str) -> EdgeDatabases:
    """Open what an edge reads.

    Raises:
        StoreUnavailable: It cannot be reached now.
        StartupError, ConfigError, StoreError: It cannot be used; none is left open.
    """
    opened: dict[StoreType, _Shared] = {}
    try:
        for store_type in dict.fromkeys((config.retained_store_type, config.session_store_type)):
            opened[store_type] = await _open(config, store_type)
            await opened[store_type].belong_to(generation)
    except BaseException:
        await _close(opened.values())
        raise
    return EdgeDatabases(opened, config, generation)


async def _open(config: BrokerConfig, store_type: StoreType) -> _Shared:
    needed = StoresNeeded(
        session_store=store_type is config.session_store_type,
        message_stores=(RETAINED,) if store_type is config.retained_store_type else (),
        archive_stores=(),
    )
    try:
        database = await open_database(store_type, config, needed)
    except StartupError as exc:
        if exc.exit_code != ExitCode.STORE_UNREACHABLE:
            raise
        # An edge that starts while the database is down waits for it (E1).
        raise StoreUnavailable(str(exc)) from exc
    if not isinstance(database, _Shared):
        await database.close()
        raise ConfigError(
            f"{store_type} cannot be shared by the processes of a Kafka bus; use POSTGRES for "
            "SessionStoreType and RetainedStoreType"
        )
    return database


async def _close(databases: Iterable[Database]) -> None:
    for database in databases:
        with contextlib.suppress(MonsterError):
            await database.close()
