"""One part of a projector: everything is built here, started in order, and stopped again."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError

from monstermq_projector.application import ChunkApp
from monstermq_projector.following import Following
from monstermq_projector.groups import consumer_arguments, group_of
from monstermq_projector.lags import StormGlass, Watchdog
from monstermq_projector.measures import Measures, registry_of
from monstermq_projector.page import PAGE
from monstermq_projector.parts import Part
from monstermq_projector.retention import Retention, purges_of
from monstermq_projector.works import MakeWork, works_of
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.fields import ProjectorKind
from monstermq_shared.counters import Counters
from monstermq_shared.errors import BusUnavailable, ConfigError, MonsterError, StoreError
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.operation.health import OperationServer, Place, Readiness
from monstermq_shared.retries import telling_when_late
from monstermq_shared.stores.needed import NOTHING, StoresNeeded
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import Database, KeepsLogState, OwnedByLog, Summarized
from monstermq_shared.stores.registry import open_database
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.log_follower import LogFollower
from monstermq_shared.views.log_loading import SharedDatabase
from monstermq_shared.views.log_work import Desk

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between looks at the log's ends."""

STOOD_STILL_S = 5.0
"""After so long between two looks the process, or Kafka, has stood still: nothing else is to blame
for what has not come meanwhile."""

TELL_S = 5.0
"""Between commits to Kafka of how far we are, for tools that watch a group's lag."""

REBALANCE_S_MAX = 120.0
"""How long a group may take to deal out the partitions, before the process gives up."""

STOP_S = 10.0
"""How long a stop waits for Faust."""

REST_S = 2.0
"""How much longer a partition that was given up rests than a group needs to find out who lives."""


class Projector:
    """A running part.

    Attributes:
        failed: Set, with an error as its result, when the process must end.
    """

    def __init__(self, config: BrokerConfig, part: Part, version: str) -> None:
        self.failed: asyncio.Future[MonsterError] = asyncio.get_running_loop().create_future()
        self._config = config
        self._part = part
        self._version = version
        self._settings = KafkaSettings.from_config(config)
        self._measures = Measures()
        self._outage = Outage(str(part.store_type))
        self._log_outage = Outage("Kafka", BusUnavailable)
        self._unready: str | None = "the projector is starting"
        self._watchdog = Watchdog()
        self._storm_glass = StormGlass()
        self._member = ""
        self._settled_s = 0.0
        self._strangers_told = 0
        self._ending = contextlib.AsyncExitStack()

    @property
    def port(self) -> int:
        """Where /health, /ready and /metrics are; 0: nowhere."""
        return 0 if self._operation is None else self._operation.port

    async def start(self, place: Place | None, instance: str | None) -> None:
        """Open Kafka and the database, and begin to read.

        Args:
            place: Where it is answered for; None: nowhere.
            instance: See ``groups.instance_of``.

        Raises:
            StartupError, ConfigError, StoreError: It cannot; nothing is left open or running.
        """
        try:
            await self._start(place, instance)
        except BaseException:
            await self._ending.aclose()
            raise
        self._unready = None

    async def _start(self, place: Place | None, instance: str | None) -> None:
        ending = self._ending
        bus = await open_kafka_bus(self._settings)
        ending.push_async_callback(bus.close)
        database = await self._open_database(bus.generation)
        log = self._log_of(bus)
        self.following = Following(log, self._fail)
        await self._start_operation(place)
        self._desk = self._new_desk(bus, database)
        make_work = works_of(self._config, self._part, bus, self._desk, self._measures)
        self.following.make_follower = partial(_new_follower, self._desk, make_work)
        if self._measures.queues is not None:
            self.following.forget = self._measures.queues.forget
        ending.push_async_callback(self.following.close)
        group = group_of(self._part, bus.generation, await _place_of(database))
        arguments = consumer_arguments(self._config, self._part, instance)
        self._app = ChunkApp(group, log.topic, self.following, arguments)
        self._member = arguments.get("group_instance_id", "")
        logger.info("the group is %s, this is %s", group, self._member or "new")
        ending.push_async_callback(self._stop_app)
        await self._app.start()
        self._settled_s = asyncio.get_running_loop().time()
        self._begin_background(bus, log, database)

    def _begin_background(self, bus: KafkaBus, log: KafkaLog, database: SharedDatabase) -> None:
        works = {
            "looks": self._look(log),
            "looks at tenures": self._look_at_tenures(database),
            "sending": bus.watch(),
            "Faust": self._await_crash(),
        }
        if self._part.kind is ProjectorKind.VIEWS:
            purges = purges_of(Catalogue(self._config), database, self._part.store_type)
            self._measures.retention = Retention(purges, lambda: 0 in self.following.followers)
            works["purges"] = self._measures.retention.run()
        tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
        for task in tasks:
            task.add_done_callback(self._background_ended)
        self._ending.push_async_callback(_cancel, *tasks)

    async def _open_database(self, generation: str) -> SharedDatabase:
        store_type, catalogue = self._part.store_type, Catalogue(self._config)
        marks: Database | None = None
        if store_type is StoreType.KAFKA:
            marks = await self._open_one(catalogue.session_store_type, NOTHING, generation)
        needed = catalogue.needed(store_type)
        database = await self._open_one(store_type, needed, generation, marks=marks)
        if not isinstance(database, KeepsLogState):
            raise ConfigError(f"{store_type} cannot be shared by processes: use POSTGRES")
        return database

    async def _open_one(
        self,
        store_type: StoreType,
        needed: StoresNeeded,
        generation: str,
        *,
        marks: Database | None = None,
    ) -> Database:
        database = await open_database(store_type, self._config, needed, marks=marks)
        self._ending.push_async_callback(database.close)
        if isinstance(database, OwnedByLog):
            await database.belong_to(generation)
        return database

    def _log_of(self, bus: KafkaBus) -> KafkaLog:
        return bus.messages if self._part.kind is ProjectorKind.VIEWS else bus.sessions

    def _new_desk(self, bus: KafkaBus, database: SharedDatabase) -> Desk:
        return Desk(
            name=f"{self._part.kind.value.lower()} in {self._part.store_type}",
            log_id=bus.generation,
            database=database,
            source=self.following,
            fail=self._fail,
            outage=self._outage,
            log_outage=self._log_outage,
            retry_s=self._config.projector.session_timeout_s + REST_S,
            gaps=self._measures.gaps,
        )

    async def _start_operation(self, place: Place | None) -> None:
        self._operation: OperationServer | None = None
        if place is not None:
            self._operation = OperationServer(
                place,
                registry_of(self._measures, self.following, self._version),
                lambda: Readiness(self.readiness()),
                page=PAGE,
                counters=Counters(),
            )
            self._ending.push_async_callback(self._operation.stop)
            await self._operation.start()

    # -- while it runs ---------------------------------------------------------------------------

    def readiness(self) -> list[str]:
        """Return what does not work, and why."""
        reasons = [] if self._unready is None else [self._unready]
        if self._unready is None and not self.following.assignments:
            reasons.append("the group has not dealt out the partitions yet")
        if self._outage.reason is not None:
            reasons.append(f"{self._outage.told}{self._told_lag()}")
        if self._log_outage.reason is not None:
            reasons.append(self._log_outage.told)
        return reasons + sorted(set(self.following.stopped()))

    def _tell_strangers(self) -> None:
        count = self._measures.folds.quarantined
        if count > self._strangers_told:
            logger.warning(
                "%d records that are not MonsterMQ's are in quarantine: monstermq quarantine list "
                "tells why",
                count - self._strangers_told,
            )
            self._strangers_told = count

    def _told_lag(self) -> str:
        lags = self._measures.lags
        count = max(lags.records.values(), default=0)
        age_s = max(lags.seconds.values(), default=0.0)
        return f"; {count} records ({age_s:.0f} s) behind" if count else ""

    async def _look(self, log: KafkaLog) -> None:
        """Look at the log's ends every ``LOOK_S``: for lags, for the watchdog, for leases."""
        loop = asyncio.get_running_loop()
        told_s = seen_s = loop.time()
        while True:
            await asyncio.sleep(LOOK_S)
            ends = self._desk.ends
            try:
                with telling_when_late(self._kafka_is_late):
                    found = await log.end_positions()
            except BusUnavailable as exc:
                self._log_outage.failed("requests", exc)
                ends.clear()
                self._settled_s = loop.time()
                await log.refuse_if_lost()
                continue
            self._log_outage.passed("requests")
            now_s = loop.time()
            self._desk.answered(found, now_s)
            if now_s - seen_s > STOOD_STILL_S:
                self._watchdog.forget()
                self._settled_s = now_s
            seen_s = now_s
            followers = self.following.followers
            self._measures.lags.look(followers, ends, now_s)
            self._watch(self._watchdog.stuck(followers, ends, now_s), now_s)
            if now_s - told_s >= TELL_S:
                told_s = now_s
                self._tell_strangers()
                await self._tell_tools()

    async def _look_at_tenures(self, database: SharedDatabase) -> None:
        """Ask every ``LOOK_S`` who has what we do (P5); one answer is for all partitions."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            generations = {at.partition.generation for at in self.following.followers.values()}
            for generation in generations:
                asked_s = loop.time()
                # Whoever has something to commit tells what is wrong with the database.
                with contextlib.suppress(StoreError):
                    self._desk.held(await database.versions(generation), asked_s)

    def _kafka_is_late(self, why: str) -> None:
        """What was the end is of no use to anybody until there is an answer."""
        self._log_outage.late("requests", why)
        self._desk.ends.clear()

    def _watch(self, stuck: Sequence[int], now_s: float) -> None:
        if stuck:
            numbers = ", ".join(map(str, stuck))
            self._fail(MonsterError(f"nothing comes of partitions {numbers}, and there is more"))
        if self._storm_glass.is_storm(self.following.assignments, now_s):
            self._fail(
                MonsterError(
                    f"the partitions are dealt out again and again: another process comes as "
                    f"{self._member} too. Give one of the two machines another host name, or its "
                    "projector another Projector.Port"
                )
            )
        if self.following.followers or not self._app.rebalancing:
            self._settled_s = now_s
        elif now_s - self._settled_s >= REBALANCE_S_MAX:
            self._fail(MonsterError("the consumer group does not come to an end of its rebalance"))

    async def _tell_tools(self) -> None:
        offsets = {
            number: min(marks.values())
            for number, marks in self.following.reflected().items()
            if marks
        }
        if not offsets:
            return
        # Nothing depends on it.
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._app.reading.commit_for_tools(offsets)

    async def _await_crash(self) -> None:
        """Faust's services end when one of them fails."""
        await self._app.wait_until_stopped()
        reason = self._app.crash_reason
        raise MonsterError(f"Faust has stopped: {reason or 'without a reason'}")

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, MonsterError):
            self._fail(error)
        elif error is not None:
            logger.critical("%s failed", task.get_name(), exc_info=error)
            self._fail(MonsterError(f"a fault in the projector ended its {task.get_name()}"))

    def _fail(self, error: MonsterError) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    # -- the end ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Read no more, and close. What was not committed is read again by whoever is next."""
        self._unready = "the projector is stopping"
        await self._ending.aclose()

    async def _stop_app(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._app.stop()
        except TimeoutError:
            logger.warning("Faust has not stopped within %g s, and is left alone", STOP_S)


def _new_follower(desk: Desk, make_work: MakeWork, number: int) -> LogFollower[Any]:
    partition, work = make_work(number)
    return LogFollower(desk, partition, work)


async def _place_of(database: Database) -> str:
    return (await database.summary()).place if isinstance(database, Summarized) else ""


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
