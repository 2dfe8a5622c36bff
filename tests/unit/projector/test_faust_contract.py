"""Every internal of Faust that the projector's transport stands on is as it was when that was made.

A failure here means: read what has changed in Faust, and what of ``monstermq_projector`` it breaks.
"""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import faust
import pytest
from faust.app.base import BootStrategy
from faust.tables.recovery import Recovery
from faust.transport.base import Transport as BaseTransport
from faust.transport.conductor import ConductorCompiler
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.threads import QueueServiceThread

from monstermq_projector.application import ChunkApp, ChunkBootStrategy
from monstermq_projector.chunks import ChunkScheduler, ChunkSchema, message_of
from monstermq_projector.transport import ChunkConsumer, ChunkConsumerThread, ChunkTransport

OVERRIDDEN = [
    (ChunkConsumerThread, AIOKafkaConsumerThread, "_create_worker_consumer"),
    (ChunkConsumer, Consumer, "_new_consumer_thread"),
    (ChunkConsumer, Consumer, "_to_message"),
    (ChunkConsumer, Consumer, "on_partitions_revoked"),
    (ChunkConsumer, Consumer, "on_partitions_assigned"),
    (ChunkConsumer, Consumer, "seek_to_committed"),
    (ChunkConsumer, Consumer, "force_commit"),
    (ChunkConsumer, Consumer, "verify_event_path"),
    (ChunkApp, faust.App, "_new_transport"),
    (ChunkApp, faust.App, "_create_directories"),
]
"""Ours, the class it replaces a method of, the method."""

CALLED = [
    (AIOKafkaConsumerThread.seek_wait, ["partitions"]),
    (AIOKafkaConsumerThread.call_thread, ["fun"]),
    (AIOKafkaConsumerThread._ensure_consumer, []),
    (Consumer.pause_partitions, ["tps"]),
    (Consumer.resume_partitions, ["tps"]),
    (Consumer.assignment, []),
    (Consumer.highwaters, []),
    (Consumer.earliest_offsets, []),
    (BaseTransport.__init__, ["url", "app"]),
]
"""What is called, with the arguments that are needed."""

RELIED_ON = [
    # Our scheduler and our message are the way from a fetch to the agent, in one piece.
    (BaseConsumer.getmany, "self.scheduler.iterate(records)"),
    (BaseConsumer.getmany, "yield tp, to_message(tp, record)"),
    (BaseConsumer.__init__, "self.app.conf.ConsumerScheduler()"),
    # A partition that is held is not asked for.
    (BaseConsumer._wait_next_records, "active_partitions=active_partitions"),
    # A partition's offsets may go back only by a seek, which says so here.
    (BaseConsumer._drain_messages, "if r_offset is None or offset >= r_offset"),
    (AIOKafkaConsumerThread._seek_wait, "self.consumer._read_offset[tp] = offset"),
    # Positions are set after every rebalance, behind everything that could set others.
    (BaseConsumer.perform_seek, "await self.seek_to_committed()"),
    (Recovery._resume_streams, "consumer.perform_seek()"),
    (Recovery._resume_streams, "consumer.resume_partitions("),
    (Recovery._restart_recovery.fun, "if not self.tables"),
    (BaseConsumer.getmany, "await self.perform_seek()"),
    # What waits in the stream is thrown away when partitions are revoked.
    (faust.App._on_partitions_revoked, "self.flow_control.clear"),
    (faust.App._on_rebalance_when_stopped, "self.consumer.close()"),
    # Nothing is committed but by us.
    (BaseConsumer.commit, "self.force_commit("),
    (ConductorCompiler.build, "await chan.decode(message, propagate=True)"),
    (AIOKafkaConsumerThread._create_consumer, "self._create_worker_consumer(transport)"),
    (BootStrategy._should_enable_kafka_producer, "self.enable_kafka_producer"),
    (BootStrategy._should_enable_web, "self.enable_web"),
    (faust.App.on_first_start, "self._create_directories()"),
    (QueueServiceThread.call_thread, "self.method_queue.call"),
]
"""A function, and what its source must say."""


def named(at: object) -> str:
    """Return an id that is the same in each process."""
    return str(getattr(at, "__qualname__", at))[:80]


class Target:
    """Nobody."""


class Last:
    """A record, as aiokafka gives it."""

    offset, timestamp, timestamp_type = 41, 1_000, 0


def app() -> ChunkApp:
    arguments = {"session_timeout_ms": 6_000}
    return ChunkApp("group", "topic", Target(), arguments)  # type: ignore[arg-type]


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_version_is_the_one_all_this_was_looked_up_in() -> None:
    assert version("faust-streaming") == "0.15.3"


@pytest.mark.parametrize(("ours", "base", "name"), OVERRIDDEN, ids=named)
def test_what_is_replaced_is_there_and_is_called_in_the_same_way(
    ours: type, base: type, name: str
) -> None:
    replaced, replacing = getattr(base, name), getattr(ours, name)
    assert issubclass(ours, base)
    assert replacing is not replaced
    assert parameters(replacing) == parameters(replaced)
    assert inspect.iscoroutinefunction(inspect.unwrap(replacing)) == inspect.iscoroutinefunction(
        inspect.unwrap(replaced)
    )


@pytest.mark.parametrize(("function", "needed"), CALLED, ids=named)
def test_what_is_called_takes_what_it_is_given(
    function: Callable[..., Any], needed: list[str]
) -> None:
    assert set(needed) <= set(parameters(function))


@pytest.mark.parametrize(("function", "text"), RELIED_ON, ids=named)
def test_what_is_relied_on_is_still_done(function: Callable[..., Any], text: str) -> None:
    source = " ".join(inspect.getsource(inspect.unwrap(function)).split())
    assert text in source


def test_the_transport_makes_our_consumer() -> None:
    assert Transport.Consumer is Consumer
    assert ChunkTransport.Consumer is ChunkConsumer
    assert isinstance(app()._new_transport(), ChunkTransport)


def test_the_application_is_set_up_as_it_must_be() -> None:
    conf: Any = app().conf
    assert conf.ConsumerScheduler is ChunkScheduler
    assert not conf.web_enabled
    assert not conf.worker_redirect_stdouts
    assert not conf.stream_wait_empty
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader
    assert conf.table_standby_replicas == 0
    assert conf.stream_recovery_delay == 0
    assert conf.id == "group"
    assert app().boot_strategy.__class__ is ChunkBootStrategy


def test_a_message_stands_for_a_chunk() -> None:
    assert parameters(ConsumerMessage.__init__)[:14] == [
        "self",
        *("topic", "partition", "offset", "timestamp", "timestamp_type", "headers", "key"),
        *("value", "checksum", "serialized_key_size", "serialized_value_size", "tp"),
        "time_in",
    ]


def test_a_message_is_handed_on_as_it_is() -> None:
    message = message_of(TP("topic", 3), [Last(), Last()], 7)
    assert (message.topic, message.partition, message.offset) == ("topic", 3, 41)
    assert ChunkSchema().loads_value(app(), message) is message.value
