"""What is done with a partition, by the part of the projector that does it."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from monstermq_projector.measures import Measures
from monstermq_projector.parts import Part
from monstermq_projector.queues import PartitionQueues, QueueDesk
from monstermq_projector.sessions_appends import FactAppends
from monstermq_projector.sessions_rounds import rounds_by
from monstermq_projector.sessions_wills import Wills
from monstermq_projector.sessions_work import SessionsDesk, SessionsWork
from monstermq_shared.bus.facts import Gap
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.bus.kafka.entries import KafkaEntry
from monstermq_shared.bus.ports import Entry
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import BrokerConfig
from monstermq_shared.config.fields import ProjectorKind
from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.queue_limits import QueueBounds
from monstermq_shared.sessions.distributed.queues.cuts import CutTable
from monstermq_shared.sessions.distributed.session_asks import Ask
from monstermq_shared.stores.changes import Quarantined
from monstermq_shared.stores.queues import KeepsQueues
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.log_fold import LogSettings
from monstermq_shared.views.log_lanes import Lanes
from monstermq_shared.views.log_work import Desk, Work
from monstermq_shared.views.view_set import ViewSet

MakeWork = Callable[[int], tuple[Partition, Work[Any]]]
"""A partition's number -> how stores know it, and its work, begun afresh."""


def works_of(
    config: BrokerConfig, part: Part, bus: KafkaBus, desk: Desk, measures: Measures
) -> MakeWork:
    """Return what makes the work of a part.

    Args:
        config: The configuration.
        part: The part.
        bus: Where facts and wills are appended.
        desk: What all partitions share.
        measures: Where it is counted.
    """
    log = LogSettings(
        log_id=desk.log_id,
        lateness_ms=config.kafka.bus.lateness_s * 1000,
        describe=describe,
    )
    if part.kind is ProjectorKind.VIEWS:
        views = ViewSet.of(Catalogue(config), part.store_type)
        queues = measures.queues = _queue_desk(config, part, bus, desk)
        return lambda number: _views(log, views, desk, measures, number, queues)
    sessions = _sessions_desk(config, bus, desk)
    measures.wills, measures.appends = sessions.wills.counts, sessions.facts.counts
    measures.sessions = sessions.counts

    def make(number: int) -> tuple[Partition, Work[Any]]:
        partition = Partition(desk.log_id + SESSIONS_SUFFIX, number)
        work = SessionsWork(log, partition, desk, sessions)
        work.folds, work.counts = measures.folds, measures.commits
        return partition, work

    return make


def _sessions_desk(config: BrokerConfig, bus: KafkaBus, desk: Desk) -> SessionsDesk:
    clock = SystemClock()
    facts = FactAppends(bus.messages, bus.sessions, clock, desk.log_outage)
    bounds = QueueBounds(config.queue.max_messages, config.queue.max_bytes)
    partition_of = bus.sessions.partition_of
    return SessionsDesk(
        wills=Wills(bus.messages, clock, desk.log_outage),
        facts=facts,
        clock=clock,
        partitions=bus.messages.partitions,
        lease_s=float(config.kafka.bus.lease_s),
        rounds_of=rounds_by(desk.database, desk.log_id, facts, bounds, partition_of),
    )


def _queue_desk(config: BrokerConfig, part: Part, bus: KafkaBus, desk: Desk) -> QueueDesk | None:
    database = desk.database
    if part.store_type is not config.session_store_type or not isinstance(database, KeepsQueues):
        return None
    facts = FactAppends(bus.messages, bus.sessions, SystemClock(), desk.log_outage)

    async def tell_gap(partition: int, to: int) -> None:
        asks = [Ask(None, Gap(partition=partition, to=to))]
        await asyncio.gather(
            *(facts.resolve(number, asks) for number in range(bus.sessions.partitions))
        )

    return QueueDesk(
        database=database,
        new_table=partial(
            CutTable,
            bus.messages.partitions,
            bus.messages.partition_of,
            topic_levels_max=config.limits.topic_levels,
            route_cache_max=config.limits.routing_cache_entries,
        ),
        partitions=bus.messages.partitions,
        lateness_ms=config.kafka.bus.lateness_s * 1000,
        bounds=QueueBounds(config.queue.max_messages, config.queue.max_bytes),
        tell_gap=tell_gap,
    )


def _views(
    log: LogSettings,
    views: ViewSet,
    desk: Desk,
    measures: Measures,
    number: int,
    queues: QueueDesk | None,
) -> tuple[Partition, Lanes]:
    partition = Partition(desk.log_id, number)
    lanes = Lanes(
        views=views,
        queues=None if queues is None else PartitionQueues(queues),
        log=log,
        database=desk.database,
        partition=partition,
        outage=desk.outage,
        counts=measures.commits,
        folds=measures.folds,
    )
    return partition, lanes


def describe(entry: Entry, reason: str) -> Quarantined:
    """Return what is kept of an entry that is no record."""
    assert isinstance(entry, KafkaEntry)
    return Quarantined(
        offset=entry.offset,
        time_ms=entry.time_ms,
        reason=reason,
        key=entry.raw_key,
        value=entry.value,
        headers=entry.headers,
    )
