"""What a configuration may not say of Kafka, and what is allowed there and may still surprise."""

from collections.abc import Iterator

from monstermq_shared.config.fields import ProjectorKind, QueuePolicy, StoreType, yaml_name
from monstermq_shared.config.kafka import (
    SESSIONS_SUFFIX,
    TOPIC_LENGTH_MAX,
    KafkaBus,
    KafkaSecurity,
    SaslMechanism,
    SecurityProtocol,
    folded,
    record_bytes_max,
)
from monstermq_shared.config.kafka_names import CONSUMER, PRODUCER
from monstermq_shared.config.limits import KIB
from monstermq_shared.config.sections import (
    ArchiveGroup,
    BrokerConfig,
    enabled_groups,
    main_topic_of,
)
from monstermq_shared.config.templates import Template

_HOUR_S = 3_600
_REQUEST_BYTES_MAX = 100 * KIB * KIB


def kafka_problems(config: BrokerConfig) -> Iterator[str]:
    """Yield a line for each contradiction, with the key and the fix."""
    bus = config.kafka.bus
    yield from PRODUCER.problems(bus.producer_config)
    yield from CONSUMER.problems(bus.consumer_config)
    yield from _login_problems(config.kafka.security)
    yield from _certificate_problems(config.kafka.security)
    yield from _copies_problems(config)
    yield from _time_problems(bus)
    yield from _size_problems(config)
    yield from _topic_problems(config)
    yield from _ingress_problems(config)
    if config.edge.processes > 1 and not bus.enabled:
        yield (
            f"Edge.Processes is {config.edge.processes}, and Kafka.Bus.Enabled is false: on the "
            "internal bus one process has all clients; set Kafka.Bus.Enabled to true, or write 1"
        )
    kinds = config.projector.kinds
    if len(set(kinds)) < len(kinds):
        yield f"Projector.Kinds says the same twice: write each of {', '.join(ProjectorKind)} once"


def kafka_warnings(config: BrokerConfig) -> Iterator[str]:
    """Yield what is allowed and may still surprise, one sentence each."""
    bus = config.kafka.bus
    yield from _template_warnings(config)
    if not bus.enabled:
        return
    for path, group in enabled_groups(config):
        if group.last_val_type is StoreType.MEMORY:
            yield (
                f"{path}.LastValType is MEMORY: each process that answers for its last values "
                "folds them by itself, from what Kafka still has"
            )
    if PRODUCER.arguments(bus.producer_config).get("acks") == 1:
        yield (
            "Kafka.Bus.ProducerConfig: acks is 1: an acknowledged message is lost if the server "
            "that took it dies before another has copied it; leave acks out for all"
        )
    if config.queue.policy is QueuePolicy.DROP_NEWEST:
        yield (
            "Queue.Policy is DROP_NEWEST: on the Kafka bus the oldest messages of a full queue go "
            "all the same, because a log takes a message for all its readers or for none"
        )
    size = record_bytes_max(config.max_message_size_kb)
    if size > _REQUEST_BYTES_MAX:
        yield (
            f"MaxMessageSizeKb is {config.max_message_size_kb}, so a record may have {size} bytes: "
            f"Kafka's servers take requests of {_REQUEST_BYTES_MAX} unless their "
            "socket.request.max.bytes says more, and a larger message would be sent for ever"
        )
    security = config.kafka.security
    plain = security.mechanism is SaslMechanism.PLAIN
    if plain and security.protocol is SecurityProtocol.SASL_PLAINTEXT:
        yield (
            "Kafka.Security: PLAIN over SASL_PLAINTEXT sends the password in clear; use SASL_SSL, "
            "or SCRAM-SHA-512"
        )


def _template_warnings(config: BrokerConfig) -> Iterator[str]:
    for path, group in enabled_groups(config):
        topic = group.kafka_topic
        if topic is not None and topic.startswith("{") and Template.parse(topic).names:
            yield (
                f"{path}.KafkaTopic is {topic}: clients choose by their topics to which topic of "
                "the whole Kafka cluster is written; begin it with a name, such as "
                f"{group.name}.{topic}"
            )


def _login_problems(security: KafkaSecurity) -> Iterator[str]:
    where = "Kafka.Security"
    if security.protocol.logs_in:
        for key, value in (("User", security.user), ("Pass", security.password)):
            if value is None:
                yield f"{where}.{key} is missing: Protocol {security.protocol} logs in with it"
        return
    for key, name in (("User", "user"), ("Pass", "password"), ("Mechanism", "mechanism")):
        if name in security.model_fields_set:
            yield (
                f"{where}.{key} means nothing with Protocol {security.protocol}, which does not "
                "log in: use SASL_SSL or SASL_PLAINTEXT, or leave it out"
            )


def _certificate_problems(security: KafkaSecurity) -> Iterator[str]:
    where = "Kafka.Security"
    files = {
        "CaFile": security.ca_file,
        "CertFile": security.cert_file,
        "KeyFile": security.key_file,
        "KeyPassword": security.key_password,
    }
    written = {key: value for key, value in files.items() if value is not None}
    if not security.protocol.encrypts:
        for key in written:
            yield (
                f"{where}.{key} means nothing with Protocol {security.protocol}, which is not "
                "TLS: use SSL or SASL_SSL, or leave it out"
            )
        return
    for key in ("KeyFile", "KeyPassword"):
        if key in written and "CertFile" not in written:
            yield f"{where}.{key} needs {where}.CertFile"
    for key, value in written.items():
        if isinstance(value, str) and value.lower().endswith((".jks", ".p12", ".pfx")):
            yield (
                f"{where}.{key} must be PEM: keytool -importkeystore makes PKCS#12 of JKS, and "
                "openssl pkcs12 -nodes makes PEM of that"
            )


def _copies_problems(config: BrokerConfig) -> Iterator[str]:
    bus = config.kafka.bus
    if bus.min_insync_replicas is None:
        return
    if bus.replication is None:
        yield "Kafka.Bus.MinInsyncReplicas needs Kafka.Bus.Replication, which may not be less"
    elif bus.min_insync_replicas > bus.replication:
        yield (
            f"Kafka.Bus.MinInsyncReplicas is {bus.min_insync_replicas}, more than the "
            f"{bus.replication} of Kafka.Bus.Replication: nothing could be written"
        )


def _time_problems(bus: KafkaBus) -> Iterator[str]:
    if bus.retention_hours and bus.retention_hours * _HOUR_S <= 2 * bus.lateness_s:
        yield (
            f"Kafka.Bus.RetentionHours is {bus.retention_hours}, no more than twice "
            f"Kafka.Bus.LatenessS ({bus.lateness_s}): keep records longer, or use a smaller "
            "LatenessS"
        )
    if bus.lease_s >= bus.lateness_s:
        yield (
            f"Kafka.Bus.LeaseS is {bus.lease_s}, not less than Kafka.Bus.LatenessS "
            f"({bus.lateness_s}): make it less"
        )


def _size_problems(config: BrokerConfig) -> Iterator[str]:
    """Yield where the largest message would not fit."""
    bus = config.kafka.bus
    needed = record_bytes_max(config.max_message_size_kb)
    why = f"less than the {needed} bytes that a record of MaxMessageSizeKb may have"
    waiting_kb = bus.in_flight_kb_per_partition
    if bus.enabled and waiting_kb * KIB < needed:
        yield (
            f"Kafka.Bus.InFlightKbPerPartition is {waiting_kb}, {why}: "
            f"write {-(-needed // KIB)} or more"
        )
    if not list(PRODUCER.problems(bus.producer_config)):
        size = PRODUCER.arguments(bus.producer_config).get("max_request_size", needed)
        if isinstance(size, int) and size < needed:
            yield f"{PRODUCER.path}: max.request.size is {size}, {why}: leave it out"


def topics_in_use(config: BrokerConfig) -> set[str]:
    """Return the Kafka topics that the broker has by name; no message may make up one of them."""
    ingress = {at.topic for at in config.kafka.ingress}
    letters = {at.dead_letter_topic for at in config.kafka.ingress if at.dead_letter_topic}
    return _written(config) | ingress | letters


def _written(config: BrokerConfig) -> set[str]:
    """Return the topics of the archive groups and of the bus."""
    groups = (group for _, group in enabled_groups(config))
    archives = {main_topic_of(at) for at in groups if at.archive_type is StoreType.KAFKA}
    return archives | {*_topics_of_bus(config.kafka.bus)}


def _topics_of_bus(bus: KafkaBus) -> tuple[str, ...]:
    return (bus.topic, bus.topic + SESSIONS_SUFFIX) if bus.enabled else ()


def _topic_problems(config: BrokerConfig) -> Iterator[str]:
    """Yield where an archive group's topic is one of the bus, or none that Kafka would take."""
    bus = config.kafka.bus
    taken = {folded(name) for name in _topics_of_bus(bus)}
    for path, group in enabled_groups(config):
        if group.archive_type is not StoreType.KAFKA:
            yield from _meaningless(path, group)
            continue
        topic = main_topic_of(group)
        key = "Name" if topic == group.name else "KafkaTopic"
        if topic.startswith("__"):
            yield (
                f"{path}.{key} {topic} cannot be a topic, which ArchiveType KAFKA makes of "
                "it: topics that begin with __ are Kafka's own; rename the group, or write another "
                "KafkaTopic"
            )
        elif topic in {".", ".."} or len(topic) > TOPIC_LENGTH_MAX:
            yield (
                f"{path}.KafkaTopic cannot be a topic: write 1 to {TOPIC_LENGTH_MAX} characters, "
                "and not only dots"
            )
        if folded(topic) in taken:
            yield (
                f"{path}.{key} {topic} is the name of a topic of the bus (Kafka.Bus.Topic "
                f"{bus.topic}), to which ArchiveType KAFKA would write: rename the group, or write "
                "another KafkaTopic"
            )


def _ingress_problems(config: BrokerConfig) -> Iterator[str]:
    """Yield where the broker would read what it writes itself, or the same twice as one group."""
    written = {*map(folded, _written(config))}
    letters = {folded(at.dead_letter_topic or "") for at in config.kafka.ingress}
    seen: set[tuple[str, str | None]] = set()
    for index, ingress in enumerate(config.kafka.ingress):
        path = f"Kafka.Ingress[{index}]"
        if folded(ingress.topic) in written | letters:
            yield (
                f"{path}.Topic {ingress.topic} is a topic that this broker writes to: its messages "
                "would come again and again; read another one"
            )
        if folded(ingress.dead_letter_topic or "") in written:
            yield (
                f"{path}.DeadLetterTopic {ingress.dead_letter_topic} is a topic of the bus or of "
                "an archive group: write another one"
            )
        if (ingress.topic, ingress.group) in seen:
            yield (
                f"{path} has the Topic and the Group of another one, so each record would go to "
                "one of the two: give it a Group of its own"
            )
        seen.add((ingress.topic, ingress.group))


_KAFKA_ONLY = ("payload_format", "kafka_topic", "kafka_key", "kafka_compression")


def _meaningless(path: str, group: ArchiveGroup) -> Iterator[str]:
    for name in _KAFKA_ONLY:
        if name in group.model_fields_set:
            yield (
                f"{path}.{yaml_name(name)} means nothing with ArchiveType {group.archive_type}: "
                "use ArchiveType KAFKA, or leave it out"
            )
