"""The local engine's host: databases, driver, followers and maintenance around one engine."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from monstermq_edge.engines.local.databases import Databases, open_databases
from monstermq_edge.engines.local.driver import EngineDriver
from monstermq_edge.engines.local.followers import Followers
from monstermq_edge.engines.local.interests import Interests
from monstermq_edge.engines.local.maintenance import Maintenance, Upkeep
from monstermq_edge.engines.local.pages import PageReader
from monstermq_edge.engines.local.settings import engine_settings
from monstermq_edge.engines.local.turns import TurnCommitter
from monstermq_edge.engines.ports import ClientReading, Fail, HostGauges, SystemValues
from monstermq_edge.faults import Faults
from monstermq_shared.budget import Budget
from monstermq_shared.bus.internal import InternalBus, InternalLog
from monstermq_shared.clock import Clock, WallHistory
from monstermq_shared.config import KIB, BrokerConfig, StoreType
from monstermq_shared.counters import Counters
from monstermq_shared.errors import MonsterError
from monstermq_shared.messages import MessageRun
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.local import LocalEngine
from monstermq_shared.sessions.local.appending import RecordAppender
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.views import EngineViews
from monstermq_shared.sessions.session import OPEN_ID_SIZE
from monstermq_shared.sessions.system_watchers import SystemWatchers
from monstermq_shared.stores.outages import COMMITS
from monstermq_shared.views.catalogue import SESSIONS, Catalogue
from monstermq_shared.views.view_set import ViewSet

logger = logging.getLogger(__name__)


def reading_of(session: Session) -> ClientReading:
    """Return what a session holds."""
    queued, size = 0, 0
    if isinstance(session, PersistentSession):
        queued, size = session.queued, session.queued_size
    received = len(session.open_ids or ())
    return ClientReading(session.link, received, len(session.in_flight), queued, size)


class LocalHost:
    """Everything behind the session port of one process on the internal bus; see ``ports.Host``.

    Attributes:
        databases: Set by ``open``.
        engine: Set by ``open``.
        bus: Set by ``open``.

    Args:
        config: What to build.
        clock: Both clocks.
        history: What the wall clock was set by.
        counters: What is counted.
        budget: What is left for this turn of the event loop.
        faults: Where bugs are noted that end one job.
        system_values: Reads the ``$SYS`` tree.
        fail: Told of an error after which the process must stop.
    """

    def __init__(  # noqa: PLR0913 - what a process has once
        self,
        config: BrokerConfig,
        *,
        clock: Clock,
        history: WallHistory,
        counters: Counters,
        budget: Budget,
        faults: Faults,
        system_values: SystemValues,
        fail: Fail,
    ) -> None:
        self._config = config
        self._clock = clock
        self._history = history
        self._counters = counters
        self._budget = budget
        self._faults = faults
        self._system_values = system_values
        self._fail = fail
        self._catalogue = Catalogue(config)
        self._followers = Followers(self._catalogue, config.limits.view_backlog_kb * KIB)
        self._ending = contextlib.AsyncExitStack()

    # -- from start to stop ----------------------------------------------------------------------

    async def open(self) -> None:
        """See ``Host.open``."""
        try:
            await self._open()
        except BaseException:
            await self._ending.aclose()
            raise

    async def _open(self) -> None:
        self.databases = databases = await self._open_databases()
        self._ending.push_async_callback(databases.close)
        await databases.log_summaries()
        await databases.begin_boot()
        partition = Partition(databases.log.generation, 0)
        committer = await self._begin(databases, partition)
        self._build_engine(databases)
        committer.delay_s = self._commit_delay_s()
        retained = self._catalogue.messages[0]
        self._pages = PageReader(
            self.engine,
            (databases.primary.sessions, databases.outages[databases.primary_type]),
            (databases.message_store(retained), databases.outages[retained.store_type]),
            partition,
        )
        self._driver = EngineDriver(
            self.engine,
            committer,
            self._pages,
            clock=self._clock,
            counters=self._counters,
            fail=self._fail,
        )
        self._upkeep = Upkeep(self._catalogue, databases)
        self._maintenance = Maintenance(
            self._upkeep, self.engine, self._clock, self._history, self._counters, self._faults
        )
        self.gauges = self._gauges()
        await self._restore(databases, partition)

    async def _open_databases(self) -> Databases:
        """Open them; threads do some of it, so if the start is given up, wait and close them."""
        opening = asyncio.ensure_future(open_databases(self._config, self._catalogue))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(MonsterError):
                await (await opening).close()
            raise

    async def _begin(self, databases: Databases, partition: Partition) -> TurnCommitter:
        """Begin all tenures."""
        primary = ViewSet.of(self._catalogue, databases.primary_type)
        memory = ViewSet.of(self._catalogue, StoreType.MEMORY)
        tenure = await databases.primary.begin(partition, [SESSIONS, *primary.names])
        await self._followers.begin(databases, partition)
        memory_tenure = await databases.memory.begin(partition, memory.names)
        self._interests = Interests(
            primary, memory, [(at.backlog, at.views) for at in self._followers.followed]
        )
        self._projections = [*primary.names, *memory.names]
        return TurnCommitter(
            databases.primary,
            tenure,
            primary,
            (databases.memory, memory_tenure, memory),
            self._counters,
            databases.outages[databases.primary_type],
        )

    def _build_engine(self, databases: Databases) -> None:
        log = InternalLog(databases.log.boot)
        self.engine = LocalEngine(
            log,
            engine_settings(self._config),
            EngineViews(
                self._interests.interest,
                [at.backlog for at in self._followers.followed],
                self._followers.retained,
            ),
            self._counters,
            self._system_values,
            self._budget,
        )
        self.bus = InternalBus(
            log,
            RecordAppender(self.engine),
            self._touch,
            generation=databases.log.generation,
        )

    def _commit_delay_s(self) -> float:
        """How long changes that nobody waits for may wait: only a file gains by large commits."""
        in_file = self._catalogue.session_store_type is StoreType.SQLITE
        return self._config.sqlite.commit_delay_ms / 1000 if in_file else 0.0

    async def _restore(self, databases: Databases, partition: Partition) -> None:
        engine, clock = self.engine, self._clock
        engine.tick(clock.monotonic(), clock.wall_ms())
        wall_ms = clock.wall_ms()
        problems: list[str] = []
        async with databases.primary.sessions.load(partition) as snapshot:
            async for page in snapshot.pages():
                problems += engine.restore(page, wall_ms)
                await asyncio.sleep(0)
        problems += engine.restored(wall_ms)
        for problem in problems:
            logger.warning("%s", problem)

    def start(self, touch: Callable[[], None]) -> None:
        """See ``Host.start``."""
        self._ending.push_async_callback(self.bus.close)
        self._ending.push_async_callback(self._stop_following)
        self._ending.push_async_callback(self._driver.stop)
        self._driver.start(touch)
        self._followers.start(self.engine.retained_shown, self._fail)
        self._driver.end_turn()
        self._ending.push_async_callback(self._maintenance.stop)
        self._maintenance.start(
            self._config.archive_groups,
            min_free_size=self._config.sqlite.min_free_mb * KIB * KIB,
            failed=self._fail,
        )

    async def live(self) -> None:
        """See ``Host.live``: at once."""

    def _touch(self) -> None:
        self._driver.touch()

    def end_turn(self) -> bool:
        """See ``Host.end_turn``."""
        return self._driver.end_turn()

    def tick(self, now_s: float, wall_ms: int, *, clock_was_set: bool) -> None:
        """See ``Host.tick``."""
        if clock_was_set:
            self.engine.expiry.clock_was_set()
        self.engine.tick(now_s, wall_ms)
        self._followers.count(self._counters)

    async def drain(self, *, within_s: float) -> bool:
        """See ``Host.drain``."""
        await self._maintenance.stop()
        began = self._clock.monotonic()
        clean = await self._driver.drain(within_s=within_s)
        left_s = max(within_s - (self._clock.monotonic() - began), 0.0)
        return await self._followers.drain(within_s=left_s) and clean

    async def _stop_following(self) -> None:
        """After the last commit: what a turn still has never reaches the views elsewhere."""
        is_settled = self.engine.journal.is_settled
        await self._followers.stop(self.databases.log.boot + 1 if is_settled else None)

    async def stop(self) -> None:
        """See ``Host.stop``."""
        await self._ending.aclose()

    # -- what there is ---------------------------------------------------------------------------

    @property
    def port(self) -> LocalEngine:
        """What connections ask."""
        return self.engine

    def readiness(self) -> list[str]:
        """See ``Host.readiness``."""
        reasons: list[str] = []
        lost = self.databases.primary.lost
        if lost is not None:
            reasons.append(lost)
        else:
            reasons += self._refused()
        reasons += self._followers.readiness()
        failing = self._maintenance.failing
        return reasons + [f"{job} fails: {fault}" for job, fault in failing.items()]

    def concerns(self) -> list[str]:
        """See ``Host.concerns``."""
        return []

    def _refused(self) -> list[str]:
        """Return what the session store's database refuses: that it takes no commits, or else."""
        outage = self.databases.outages[self.databases.primary_type]
        reasons = outage.reasons
        if COMMITS in reasons:
            return [f"the database does not take commits: {reasons[COMMITS]}"]
        return [outage.told] if reasons else []

    @property
    def system_watchers(self) -> SystemWatchers:
        """See ``Host.system_watchers``."""
        return self.engine.system_watchers

    def publish_system(self, run: MessageRun) -> int:
        """See ``Host.publish_system``."""
        return self.engine.publish_system(run)

    @property
    def client_ids(self) -> Collection[str]:
        """See ``Host.client_ids``."""
        return self.engine.sessions.keys()

    def client(self, client_id: str) -> ClientReading | None:
        """See ``Host.client``."""
        session = self.engine.sessions.get(client_id)
        return None if session is None else reading_of(session)

    def _gauges(self) -> HostGauges:
        engine, taps = self.engine, self.bus.messages
        return HostGauges(
            clients_connected=lambda: engine.connected,
            sessions=lambda: len(engine.sessions),
            subscriptions=lambda: len(engine.router),
            retained_messages=lambda: self._upkeep.retained_count,
            open_id_size=OPEN_ID_SIZE,
            commit_backlog_bytes=lambda: engine.journal.backlog_size,
            commit_backlog_bound_bytes=lambda: engine.settings.hold.backlog_size_max,
            tap_readers=lambda: taps.readers,
            tap_bytes=lambda: taps.kept.size,
            tap_dropped=lambda: taps.kept.dropped,
            routing_cache_entries=lambda: engine.router.cached,
            database_bytes=lambda: self._upkeep.database_size,
            topics_noted=lambda: self._upkeep.topics_noted,
            projection_lag_records=self._lag_records,
            projection_lag_s=self._lag_s,
            view_backlog_bytes=self._followers.backlogs,
            kept_sessions_waiting=lambda: 0.0,
            partitions_unfollowed=dict,
            view_backlog_bound_bytes=lambda: self._config.limits.view_backlog_kb * KIB,
        )

    def _lag_records(self) -> dict[str, float]:
        waiting = self.engine.journal.backlog_records
        lags = dict.fromkeys(self._projections, float(waiting))
        for at in self._followers.followed:
            lags.update(dict.fromkeys(at.views.names, float(waiting + at.backlog.count)))
        return lags

    def _lag_s(self) -> dict[str, float]:
        wall_ms = self._clock.wall_ms()
        waiting_s = self.engine.journal.backlog_age_s(wall_ms)
        lags = dict.fromkeys(self._projections, waiting_s)
        for at in self._followers.followed:
            lags.update(dict.fromkeys(at.views.names, max(waiting_s, at.backlog.age_s(wall_ms))))
        return lags
