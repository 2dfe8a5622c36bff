"""The two topics of a bus: made as the protocol needs them, and refused if they are otherwise.

What is there is never changed: a partition count has a meaning (keys are mapped to it), and the
rest is the operator's.
"""

import logging
from collections.abc import Iterator, Mapping

from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidReplicationFactorError,
    InvalidRequestError,
    PolicyViolationError,
)

from monstermq_shared.config.kafka import SESSIONS_SUFFIX, KafkaBus
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin, NewTopicSpec, TopicFacts
from monstermq_shared.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)

SESSIONS_PARTITIONS = 12
"""Partitions of the sessions log; the same everywhere, so that nobody has to agree on it."""

_HOUR_MS = 3_600_000
_FOR_EVER = "-1"


def sessions_topic(topic: str) -> str:
    """Return the topic of the sessions log of a bus."""
    return topic + SESSIONS_SUFFIX


def partitions_of(bus: KafkaBus) -> dict[str, int]:
    """Return the topics of a bus, and how many partitions each has."""
    return {bus.topic: bus.partitions, sessions_topic(bus.topic): SESSIONS_PARTITIONS}


async def ensure_topics(admin: Admin, settings: KafkaSettings) -> None:
    """Make the topics that are missing, and check those that are there.

    Raises:
        StartupError: They cannot be made, or are not what they have to be; the message says what
            differs, and names the settings.
    """
    bus = settings.section.bus
    partitions = partitions_of(bus)
    there = await admin.topics(partitions)
    configs = _configs(settings)
    missing = [
        NewTopicSpec(name=name, partitions=count, replication=bus.replication, configs=configs)
        for name, count in partitions.items()
        if name not in there
    ]
    if missing:
        await _create(admin, missing, bus)
        # Somebody else may have made them otherwise, or the service changed what we asked for.
        there = await admin.topics(partitions, made=partitions)
    for facts in there.values():
        logger.info(
            "topic %s: %d partitions, replication %d, min.insync.replicas %s, retention.ms %s",
            facts.name,
            facts.partitions,
            facts.replication,
            facts.configs.get("min.insync.replicas"),
            facts.configs.get("retention.ms"),
        )
    problems = [
        f"topic {name}: {problem}"
        for name, count in partitions.items()
        for problem in _problems(there.get(name), count, settings)
    ]
    if problems:
        raise StartupError(
            f"Kafka at {admin.where} has topics that are not as the bus needs them, and they are "
            f"never changed from here: {'; '.join(problems)}. Change the configuration, or the "
            "topics with kafka-configs.sh, or use another Kafka.Bus.Topic",
            exit_code=ExitCode.BUS_MISMATCH,
        )


async def _create(admin: Admin, missing: list[NewTopicSpec], bus: KafkaBus) -> None:
    try:
        await admin.create(missing)
    except StartupError as exc:
        if isinstance(exc.__cause__, InvalidReplicationFactorError):
            raise StartupError(
                f"{exc}; set Kafka.Bus.Replication to what the cluster has",
                exit_code=ExitCode.BUS_MISMATCH,
            ) from exc
        refusals = (
            InvalidConfigurationError,
            InvalidReplicationFactorError,
            InvalidRequestError,
            PolicyViolationError,
        )
        if not isinstance(exc.__cause__, refusals):
            raise
        raise StartupError(
            f"{exc}; the bus asks for message.timestamp.before.max.ms and "
            f"message.timestamp.after.max.ms of {bus.lateness_s * 1000} (Kafka.Bus.LatenessS is "
            f"{bus.lateness_s}), which needs Kafka 3.6 or newer: if this service allows other "
            "values only, set LatenessS to one of them, or make the topics by hand",
            exit_code=ExitCode.BUS_MISMATCH,
        ) from exc


def _configs(settings: KafkaSettings) -> dict[str, str]:
    """Return Kafka's own settings of both topics."""
    bus = settings.section.bus
    lateness_ms = str(bus.lateness_s * 1000)
    hours = bus.retention_hours
    configs = {
        # Not compacted: a fact that does not count would displace one that does.
        "cleanup.policy": "delete",
        "retention.ms": str(hours * _HOUR_MS) if hours else _FOR_EVER,
        "retention.bytes": _FOR_EVER,
        # R7: with these, and only with these, is it known how late an append can land.
        "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": lateness_ms,
        "message.timestamp.after.max.ms": lateness_ms,
        "max.message.bytes": str(settings.record_size_max),
        # K1: what was acknowledged stays.
        "unclean.leader.election.enable": "false",
    }
    if bus.min_insync_replicas is not None:
        configs["min.insync.replicas"] = str(bus.min_insync_replicas)
    return configs


def _problems(facts: TopicFacts | None, partitions: int, settings: KafkaSettings) -> Iterator[str]:
    """Yield what is wrong with a topic."""
    if facts is None:
        yield "was made, and is not there"
        return
    bus = settings.section.bus
    if facts.partitions != partitions:
        yield _other_count(facts, partitions, bus)
    if bus.replication is not None and facts.replication != bus.replication:
        yield (
            f"it has {facts.replication} copies of a partition and Kafka.Bus.Replication is "
            f"{bus.replication}"
        )
    if not facts.configs:
        yield (
            "Kafka.Security.User may not see its settings: give it the ACL DescribeConfigs on the "
            "topic"
        )
        return
    yield from _config_problems(facts.configs, settings)


def _other_count(facts: TopicFacts, partitions: int, bus: KafkaBus) -> str:
    has = f"it has {facts.partitions} partitions"
    if facts.name == bus.topic:
        return (
            f"{has} and Kafka.Bus.Partitions is {partitions}: that never changes in place; write "
            f"{facts.partitions} there, or use another Kafka.Bus.Topic"
        )
    return f"{has} and not {partitions}: delete it, or use another Kafka.Bus.Topic"


def _config_problems(found: Mapping[str, str], settings: KafkaSettings) -> Iterator[str]:
    bus = settings.section.bus
    keys = {
        "message.timestamp.before.max.ms": "Kafka.Bus.LatenessS",
        "message.timestamp.after.max.ms": "Kafka.Bus.LatenessS",
    }
    if "retention_hours" in bus.model_fields_set:
        keys["retention.ms"] = "Kafka.Bus.RetentionHours"
    if bus.min_insync_replicas is not None:
        keys["min.insync.replicas"] = "Kafka.Bus.MinInsyncReplicas"
    wanted = _configs(settings)
    always = ("cleanup.policy", "message.timestamp.type", "unclean.leader.election.enable")
    for name in (*always, *keys):
        has = found.get(name)
        if has == wanted[name]:
            continue
        if has is None:
            yield f"it has no {name}: Kafka 3.6 or newer is needed"
        else:
            key = f", as {keys[name]} says" if name in keys else ""
            yield f"{name} is {has} and has to be {wanted[name]}{key}"
    yield from _bound_problems(found, settings)


def _bound_problems(found: Mapping[str, str], settings: KafkaSettings) -> Iterator[str]:
    size = int(found.get("max.message.bytes", 0))
    if size < settings.record_size_max:
        yield (
            f"max.message.bytes is {size} and has to be {settings.record_size_max} at least, which "
            "a record of MaxMessageSizeKb may have"
        )
    retention_ms = int(found.get("retention.ms", _FOR_EVER))
    lateness_ms = settings.section.bus.lateness_s * 1000
    if 0 <= retention_ms <= 2 * lateness_ms:  # K3
        yield (
            f"retention.ms is {retention_ms} and has to be more than {2 * lateness_ms}, which is "
            "twice Kafka.Bus.LatenessS"
        )
