"""The Faust application of a projector: one consumer group on one topic, nothing else of Faust."""

from collections.abc import Mapping
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.types import StreamT
from yarl import URL

from monstermq_projector.chunks import Chunk, ChunkScheduler, ChunkSchema, ChunkTarget
from monstermq_projector.transport import ChunkConsumer, ChunkTransport, faust_log

STREAM_CHUNKS_MAX = 16
"""Chunks that wait between the fetcher and the agent; beyond that a partition is not fetched."""


class ChunkBootStrategy(BootStrategy):
    """Starts a consumer: no producer, because facts are appended by our bus adapter; no web."""

    enable_kafka_producer = False
    enable_web = False


class ChunkApp(faust.App):
    """Reads a topic in a group, and hands all of it to a target.

    Attributes:
        bus_topic: The topic.
        target: Who takes the chunks.
        consumer_arguments: For aiokafka's consumer, but group and positions.
    """

    BootStrategy = ChunkBootStrategy
    logger = faust_log

    def __init__(
        self,
        group: str,
        topic: str,
        target: ChunkTarget,
        consumer_arguments: Mapping[str, Any],
    ) -> None:
        """Prepare an application that has no tables, no web and no folder of its own.

        Args:
            group: The consumer group.
            topic: What it reads.
            target: Who takes the chunks.
            consumer_arguments: See above.
        """
        self.bus_topic = topic
        self.target = target
        self.consumer_arguments = consumer_arguments
        session_s = consumer_arguments["session_timeout_ms"] / 1000.0
        super().__init__(
            group,
            broker="kafka://",
            store="memory://",
            ConsumerScheduler=ChunkScheduler,
            web_enabled=False,
            worker_redirect_stdouts=False,
            autodiscover=False,
            stream_buffer_maxsize=STREAM_CHUNKS_MAX,
            stream_wait_empty=False,
            stream_recovery_delay=0,
            stream_publish_on_commit=False,
            table_standby_replicas=0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            broker_session_timeout=session_s,
            broker_request_timeout=max(session_s, 40.0),
            # It counts acknowledgements, and there are none.
            broker_commit_interval=3600.0,
        )
        channel = self.topic(topic, schema=ChunkSchema(), acks=False)
        self.agent(channel, name="projector")(self._deliver)

    async def _deliver(self, stream: StreamT[Any]) -> None:
        async for event in stream.events():
            await self.target.deliver(Chunk(event.message.partition, event.value))

    def _new_transport(self) -> ChunkTransport:
        return ChunkTransport([URL("kafka://")], self)

    def _create_directories(self) -> None:
        """Make none: nothing is kept in files."""

    @property
    def reading(self) -> ChunkConsumer:
        """The consumer."""
        consumer = self.consumer
        assert isinstance(consumer, ChunkConsumer)
        return consumer
