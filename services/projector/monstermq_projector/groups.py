"""The consumer group of a part: with whom it shares the partitions, and under what name."""

import hashlib
import re
import socket
from typing import Any

from monstermq_projector.parts import Part
from monstermq_shared.config import BrokerConfig
from monstermq_shared.kafka.settings import KafkaSettings, Options

HEARTBEATS = 4
"""Signs of life in the time after which silence counts."""

REBALANCE_MS = 10_000
"""How long the others wait for a worker to come back when the partitions are dealt anew."""

POLL_MS_MAX = 20 * 24 * 3_600_000
"""A worker that waits for its database fetches nothing, and must keep its partitions: it is the
heartbeat that says whether it lives."""

FETCH_SIZE_MAX = 1024 * 1024
"""Bytes of a partition in one answer, unless ``ConsumerConfig`` says otherwise: about as much as a
commit takes."""


def group_of(part: Part, generation: str, place: str) -> str:
    """Return the name of the group, which says whose log and whose rows these are.

    Args:
        part: What is done.
        generation: Of the log.
        place: Of the database, such as host, port and name.
    """
    database = hashlib.sha256(place.encode()).hexdigest()[:8]
    return f"monstermq.{generation.removeprefix('kafka:')}.{part.name}.{database}".replace(":", ".")


def instance_of(config: BrokerConfig, *, of_monstermq: bool) -> str | None:
    """Return a name that this process has also after a restart, and no other one has.

    With it a worker that is started again at once finds its partitions as it left them. It is the
    host, and the address and port there that only one process can have; without a port there is
    none.

    Args:
        config: The configuration.
        of_monstermq: Whether the ``monstermq`` command answers for it, or a projector by itself.
    """
    metrics, projector = config.metrics, config.projector
    port = (metrics.port if metrics.enabled else 0) if of_monstermq else projector.port
    address = metrics.bind_address if of_monstermq else projector.bind_address
    # Kafka takes what a topic's name may have.
    name = re.sub(r"[^A-Za-z0-9._-]", ".", f"{socket.gethostname()}-{address}-{port}")
    return name if port else None


def consumer_arguments(config: BrokerConfig, part: Part, instance: str | None) -> Options:
    """Return the arguments of aiokafka's consumer, but the group's name and positions."""
    settings = KafkaSettings.from_config(config)
    given = settings.section.bus.consumer_config
    session_ms = config.projector.session_timeout_s * 1000
    arguments: dict[str, Any] = settings.consumer_options()
    defaults = {
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": session_ms // HEARTBEATS,
        "rebalance_timeout_ms": REBALANCE_MS,
        "max_poll_interval_ms": POLL_MS_MAX,
    }
    arguments = {**defaults, **arguments}
    if "max.partition.fetch.bytes" not in given:
        arguments["max_partition_fetch_bytes"] = FETCH_SIZE_MAX
    if instance is not None:
        arguments["group_instance_id"] = f"{instance}-{part.name}"
    # Faust reads without a bound in records; the one in bytes is enough.
    arguments["max_poll_records"] = None
    return arguments
