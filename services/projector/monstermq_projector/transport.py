"""Faust's Kafka transport, changed to carry chunks and to begin where the database says.

What Faust would do on its own, and is replaced here: one message a record; starting from offsets
committed to Kafka, or silently from the log's start; committing acknowledgements (it acknowledges
also what failed). ``tests/unit/projector/test_faust_contract.py`` names every internal this stands
on.
"""

import logging
from collections.abc import Collection, Mapping
from typing import Any, cast

import aiokafka
import uvloop
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
    ensure_aiokafka_TP,
)
from faust.types import TP
from faust.types.transports import TPorTopicSet
from faust.types.tuples import ConsumerMessage

from monstermq_projector.chunks import ChunkSettings, ChunkTarget, message_of
from monstermq_shared.kafka.parsing import read_any_header_name

faust_log = logging.getLogger("faust.monstermq")
"""Where Faust's own services write; kept at warnings, as libraries are."""


class ChunkConsumerThread(AIOKafkaConsumerThread):
    """Makes the aiokafka consumer, with the arguments of the application."""

    logger = faust_log

    def _create_worker_consumer(self, transport: Transport) -> aiokafka.AIOKafkaConsumer:
        arguments = cast("ChunkSettings", self.app).consumer_arguments
        read_any_header_name()
        return aiokafka.AIOKafkaConsumer(
            group_id=self.app.conf.id,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            # Positions are always set; where one is out of range, the chunk's first offset tells.
            auto_offset_reset="earliest",
            **arguments,
        )

    async def commit_for_tools(self, offsets: Mapping[TP, int]) -> None:
        """Commit offsets to Kafka, for whoever watches a group's lag; nothing reads them here.

        Raises:
            aiokafka.errors.KafkaError: It did not work; nothing depends on it.
        """
        positions = {ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items()}
        await self.call_thread(self._ensure_consumer().commit, positions)


class ChunkConsumer(Consumer):
    """A consumer of one topic whose messages are chunks, and whose positions are the database's."""

    logger = faust_log

    @property
    def _target(self) -> ChunkTarget:
        return cast("ChunkSettings", self.app).target

    def _new_consumer_thread(self) -> ChunkConsumerThread:
        return ChunkConsumerThread(
            self, loop=self.loop, beacon=self.beacon, thread_loop=uvloop.new_event_loop()
        )

    def _to_message(self, tp: TP, record: list[Any]) -> ConsumerMessage:
        return message_of(tp, record, self.app.consumer_generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Tell the target, before anything waits."""
        self._target.revoked()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Tell the target, which begins to load at once."""
        self._target.assigned({tp.partition for tp in assigned}, self)
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to where the database says; partitions for which it does not yet are held.

        Called after every rebalance, and whenever fetched records were thrown away.
        """
        known = await self._target.positions()
        assignment = self.assignment()
        offsets = {tp: known[tp.partition] for tp in assignment if tp.partition in known}
        self.pause_partitions(assignment - offsets.keys())
        if offsets:
            await self._thread.seek_wait(offsets)
        return offsets

    async def read_from(self, partition: int, offset: int) -> None:
        """See ``Reading.read_from``."""
        tp = self._tp(partition)
        if tp in self.assignment():
            await self._thread.seek_wait({tp: offset})
            self.resume_partitions([tp])

    def hold(self, partition: int) -> None:
        """See ``Reading.hold``."""
        self.pause_partitions([self._tp(partition)])

    def _tp(self, partition: int) -> TP:
        return TP(cast("ChunkSettings", self.app).bus_topic, partition)

    async def end_offsets(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Return the next offset of each partition, as Kafka says now."""
        tps = [self._tp(partition) for partition in partitions]
        return {tp.partition: offset for tp, offset in (await self.highwaters(*tps)).items()}

    async def first_offsets(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Return the first offset that each partition still has."""
        tps = [self._tp(partition) for partition in partitions]
        return {tp.partition: offset for tp, offset in (await self.earliest_offsets(*tps)).items()}

    async def commit_for_tools(self, offsets: Mapping[int, int]) -> None:
        """See ``ChunkConsumerThread.commit_for_tools``."""
        thread = self._thread
        assert isinstance(thread, ChunkConsumerThread)
        await thread.commit_for_tools({self._tp(at): offset for at, offset in offsets.items()})

    async def force_commit(
        self, topics: TPorTopicSet | None = None, start_new_transaction: bool = True
    ) -> bool:
        """Commit nothing: how far we are is in the database."""
        return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Look for nothing: the watchdog knows what a database that is away looks like."""


class ChunkTransport(Transport):
    """The transport with that consumer."""

    Consumer = ChunkConsumer
