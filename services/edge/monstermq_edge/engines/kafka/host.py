"""The distributed engine's host: a Kafka bus and the databases that are read, around one engine."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar, cast

from monstermq_edge.engines.kafka.databases import EdgeDatabases, open_edge_databases
from monstermq_edge.engines.kafka.following import Following
from monstermq_edge.engines.kafka.gauges import host_gauges
from monstermq_edge.engines.kafka.kafka_trouble import KafkaTrouble
from monstermq_edge.engines.kafka.kept_reads import MARKS_S, KeptReads
from monstermq_edge.engines.kafka.settings import engine_settings
from monstermq_edge.engines.lane import Lane
from monstermq_edge.engines.ports import ClientReading, Fail, SystemValues
from monstermq_shared.budget import Budget
from monstermq_shared.bus.kafka.bus import open_kafka_bus
from monstermq_shared.clock import Clock
from monstermq_shared.config import BrokerConfig
from monstermq_shared.counters import Counters
from monstermq_shared.errors import (
    BusUnavailable,
    MonsterError,
    StoreUnavailable,
)
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.messages import MessageRun
from monstermq_shared.retries import pause
from monstermq_shared.sessions.distributed.engine import DistributedEngine
from monstermq_shared.sessions.distributed.ports import Ticket
from monstermq_shared.sessions.retained import RetainedRead
from monstermq_shared.sessions.system_watchers import SystemWatchers
from monstermq_shared.stores.outages import Outage

logger = logging.getLogger(__name__)

T = TypeVar("T")

BEATS_PER_LEASE = 6
"""How often in the time of a lease the engine looks at the clock; at least once a second."""


PROJECTOR_S = 4.0
"""What a projector takes, beyond ``Projector.SessionTimeoutS``, until it goes on for another."""


class KafkaHost:
    """Everything behind the session port of one edge on Kafka; see ``ports.Host``.

    Attributes:
        bus: Set by ``open``.
        engine: Set by ``open``.

    Args:
        config: What to build.
        clock: Both clocks.
        counters: What is counted.
        budget: What is left for this turn of the event loop.
        system_values: Reads the ``$SYS`` tree.
        fail: Told of an error after which the process must stop.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        clock: Clock,
        counters: Counters,
        budget: Budget,
        system_values: SystemValues,
        fail: Fail,
    ) -> None:
        self._config = config
        self._clock = clock
        self._counters = counters
        self._budget = budget
        self._system_values = system_values
        self._fail = fail
        self._touch: Callable[[], None] = _nothing
        self._opening = Outage("start", MonsterError)
        self._databases: EdgeDatabases | None = None
        self._lane: Lane[RetainedRead] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: asyncio.Task[None] | None = None
        self._live: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broken = False
        # Of both logs: the partitions that are read no more, and were told (R6).
        self._told_stopped: tuple[dict[int, str], dict[int, str]] = ({}, {})
        self._followings: list[Following] = []
        self._kept: KeptReads | None = None
        # Set when something was appended.
        self._progress = asyncio.Event()

    # -- from start to stop ----------------------------------------------------------------------

    async def open(self) -> None:
        """See ``Host.open``."""
        self.bus = bus = await open_kafka_bus(KafkaSettings.from_config(self._config))
        logger.info("bus %s, run %s", bus.generation, bus.run.hex())
        self.engine = DistributedEngine(
            bus.messages,
            bus.sessions,
            engine_settings(self._config),
            self._counters,
            system_values=self._system_values,
            budget=self._budget,
        )
        for log in (bus.messages, bus.sessions):
            log.on_appended = self._appended
            log.on_refused = self._refused
        bus.messages.on_room = self.engine.room
        self._trouble = KafkaTrouble((bus.messages, bus.sessions))
        self.gauges = host_gauges(self.engine, bus, self._config, self._queue_lag, self._unfollowed)

    def _appended(self, tickets: list[object]) -> None:
        self.engine.appended(cast("list[Ticket]", tickets))
        self._progress.set()

    def _refused(self, tickets: list[object], _: MonsterError) -> None:
        self.engine.refused(cast("list[Ticket]", tickets))
        self._progress.set()

    def start(self, touch: Callable[[], None]) -> None:
        """See ``Host.start``."""
        self._touch = touch
        self._spawn(self.bus.watch(), "sending")
        self._spawn(self._trouble.watch(), "watching")
        self._spawn(self._begin(), "start")

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        self._tasks.append(asyncio.create_task(self._guarded(work, name), name=name))

    async def _guarded(self, work: Awaitable[None], name: str) -> None:
        """Let an error end the start, or the process: nothing goes on without any of the tasks."""
        try:
            await work
        except MonsterError as exc:
            self._give_up(exc)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told and ends the process
            self._fault(name, exc)

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fault(task.get_name(), error)

    def _fault(self, name: str, error: BaseException) -> None:
        """A bug of ours: what it has left undone nobody does, so the process ends."""
        logger.critical("%s failed", name, exc_info=error)
        self._give_up(MonsterError(f"a fault in the broker ended its {name}"))

    def _give_up(self, error: MonsterError) -> None:
        self._broken = True
        if self._live.done():
            self._fail(error)
        else:
            self._live.set_exception(error)

    async def _begin(self) -> None:
        """Wait for the databases, then follow both logs (E1)."""
        self._databases = databases = await self._until_there(self._open_databases)
        begin = await self._until_there(
            lambda: databases.begin(self.bus.messages, self.bus.sessions)
        )
        self._opening.passed("start")
        engine = self.engine
        engine.begin(begin.engine)
        outage = databases.retained_outage
        self._lane = lane = Lane("retained reads", outage, self._is_over, self._read_page)
        for task in lane.tasks(self._touch, self._fail):
            task.add_done_callback(self._lane_ended)
            self._tasks.append(task)
        self._spawn(self._follow_marks(databases, outage), "marks")
        self._spawn(self._beat(), "leases")
        if self._config.kafka.bus.protocol_version > 1:
            stands_s = self._config.projector.session_timeout_s + PROJECTOR_S
            self._kept = KeptReads(
                engine, databases, databases.sessions_outage, self._touch, stands_s
            )
            for name, work in self._kept.tasks():
                self._spawn(work, name)
        bus = self.bus
        messages = Following(bus.messages, engine.messages_read, engine.reading, self._touch)
        facts = Following(bus.sessions, engine.facts_read, engine.connections, self._touch)
        self._followings = [messages, facts]
        self._spawn(messages.run(begin.engine.reading, begin.known_messages), "messages")
        self._spawn(facts.run(begin.engine.sessions, begin.known_sessions), "facts")

    async def _open_databases(self) -> EdgeDatabases:
        return await open_edge_databases(self._config, self.bus.generation)

    async def _until_there(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until what it needs is there: an edge that starts before the database waits (E1)."""
        failures = 0
        while True:
            try:
                return await attempt()
            except (StoreUnavailable, BusUnavailable) as exc:
                self._opening.failed("start", exc)
                await pause(failures)
                failures += 1

    async def live(self) -> None:
        """See ``Host.live``."""
        await asyncio.shield(self._live)

    async def drain(self, *, within_s: float) -> bool:
        """See ``Host.drain``: until Kafka has all that was appended."""
        bus = self.bus
        self.engine.connections.hands_over = self.engine.connections.others_live(
            float(self._config.kafka.bus.lease_s)
        )
        self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while bus.messages.backlog_size or bus.sessions.backlog_size:
                    self._progress.clear()
                    await self._progress.wait()
        return not (bus.messages.backlog_size or bus.sessions.backlog_size)

    async def stop(self) -> None:
        """See ``Host.stop``."""
        tasks, self._tasks = self._tasks, []
        if self._asking is not None:
            tasks.append(self._asking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._live.done() and not self._live.cancelled():
            self._live.exception()  # it was told, or nobody waits any more
        await self.bus.close()
        if self._databases is not None:
            await self._databases.close()

    # -- the loop turn ---------------------------------------------------------------------------

    def end_turn(self) -> bool:
        """See ``Host.end_turn``."""
        if self._broken:
            return False
        try:
            return self._end_turn()
        except Exception as exc:  # noqa: BLE001 - the next turn would fail at the same record
            self._fault("turn", exc)
            return False

    def _end_turn(self) -> bool:
        engine = self.engine
        more = engine.work()
        self._flush()
        if self._lane is not None:
            for read in engine.take_reads():
                self._lane.asked.put_nowait(read)
        if len(engine.stalls):
            self._look_at_stalls()
        elif not self._live.done():
            self._live.set_result(None)
        if self._kept is not None:
            self._kept.collect()
        for following in self._followings:
            following.end_turn()
        return more

    def _flush(self) -> None:
        self.bus.messages.flush()
        self.bus.sessions.flush()

    def _look_at_stalls(self) -> None:
        if (self._asking is None or self._asking.done()) and self.engine.stalls.asks_ends():
            self._asking = asyncio.create_task(self._guarded(self._ask_ends(), "ends"))

    async def _ask_ends(self) -> None:
        failures = 0
        while True:
            try:
                messages = await self.bus.messages.end_positions()
                sessions = await self.bus.sessions.end_positions()
            except BusUnavailable as exc:
                logger.info("%s", exc)
                await pause(failures)
                failures += 1
            else:
                self.engine.ends(messages, sessions)
                self._touch()
                return

    def tick(self, now_s: float, wall_ms: int, *, clock_was_set: bool) -> None:
        """See ``Host.tick``; what else is timed here has a beat of its own."""
        for told, stopped in zip(
            self._told_stopped,
            (self.engine.reading.stopped, self.engine.connections.stopped),
            strict=True,
        ):
            for partition in stopped.keys() - told.keys():
                told[partition] = stopped[partition]
                log = self.bus.messages if told is self._told_stopped[0] else self.bus.sessions
                logger.error("%s, partition %d %s", log.topic, partition, stopped[partition])

    async def _beat(self) -> None:
        beat_s = min(self._config.kafka.bus.lease_s / BEATS_PER_LEASE, 1.0)
        while True:
            self.engine.tick(self._clock.monotonic(), self._clock.wall_ms())
            self._touch()
            await asyncio.sleep(beat_s)

    # -- what is read ----------------------------------------------------------------------------

    async def _follow_marks(self, databases: EdgeDatabases, outage: Outage) -> None:
        while True:
            self.engine.reflected(await outage.repeat("position reads", databases.reflected))
            self._touch()
            await asyncio.sleep(MARKS_S)

    def _is_over(self, read: RetainedRead) -> bool:
        if self.engine.needs(read):
            return False
        self.engine.retained_page(read, [], {})
        return True

    async def _read_page(self, read: RetainedRead) -> None:
        databases = self._databases
        assert databases is not None
        page = await databases.page(read.topic_filter, after=read.after, limit=read.limit)
        self.engine.retained_page(read, page.records, page.reflected)

    def _queue_lag(self) -> int | None:
        if self._kept is None:
            return None
        reflected = self._kept.reflected
        behind = (
            read - reflected.get(p, read) for p, read in self.engine.reading.positions.items()
        )
        return sum(lag for lag in behind if lag > 0)

    def _unfollowed(self) -> dict[str, float]:
        return {} if self._kept is None else self._kept.unfollowed

    # -- what the edge asks ----------------------------------------------------------------------

    @property
    def port(self) -> DistributedEngine:
        """See ``Host.port``."""
        return self.engine

    def readiness(self) -> list[str]:
        """See ``Host.readiness``."""
        reasons = self._trouble.reasons
        if self._opening.reasons:
            reasons.append(self._opening.told)
        elif self._databases is not None:
            outages = self._databases.outages.values()
            reasons += [outage.told for outage in outages if outage.reasons]
        return reasons + self.engine.unready()

    def concerns(self) -> list[str]:
        """See ``Host.concerns``."""
        return [] if self._kept is None else self._kept.concerns

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
        return self.engine.connections.sessions.keys()

    def client(self, client_id: str) -> ClientReading | None:
        """See ``Host.client``."""
        session = self.engine.connections.sessions.get(client_id)
        if session is None:
            return None
        return ClientReading(
            session.link, len(session.open_ids or ()), len(session.in_flight), 0, 0
        )


def _nothing() -> None:
    """Nothing is to be done."""
