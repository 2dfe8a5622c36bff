"""The configuration: models, loading, checks. Everything public is named here.

A service calls ``load_config`` once and passes values down; nothing below reads the environment.
"""

from monstermq_shared.config.durations import format_duration, parse_duration
from monstermq_shared.config.fields import (
    LOG_LEVEL_NAMES,
    Compression,
    LogFormat,
    PayloadFormat,
    ProjectorKind,
    QueuePolicy,
    StoreType,
    format_log_level,
    parse_log_level,
)
from monstermq_shared.config.kafka import (
    Kafka,
    KafkaArchive,
    KafkaBus,
    KafkaIngress,
    KafkaSecurity,
    SaslMechanism,
    SecurityProtocol,
    parse_servers,
    record_bytes_max,
)
from monstermq_shared.config.kafka_names import CONSUMER, PRODUCER
from monstermq_shared.config.limits import KIB, Limits
from monstermq_shared.config.loading import LoadedConfig, embedded_default, load_config
from monstermq_shared.config.mcp import Mcp
from monstermq_shared.config.runnable import check_runnable, unsupported
from monstermq_shared.config.sections import (
    ArchiveGroup,
    BrokerConfig,
    CrateDB,
    Edge,
    Log,
    Metrics,
    MongoDB,
    Postgres,
    Projector,
    Queue,
    Sparkplug,
    SQLite,
    Sys,
    Tls,
    WebSocket,
    enabled_groups,
    main_topic_of,
)

__all__ = [
    "CONSUMER",
    "KIB",
    "LOG_LEVEL_NAMES",
    "PRODUCER",
    "ArchiveGroup",
    "BrokerConfig",
    "Compression",
    "CrateDB",
    "Edge",
    "Kafka",
    "KafkaArchive",
    "KafkaBus",
    "KafkaIngress",
    "KafkaSecurity",
    "Limits",
    "LoadedConfig",
    "Log",
    "LogFormat",
    "Mcp",
    "Metrics",
    "MongoDB",
    "PayloadFormat",
    "Postgres",
    "Projector",
    "ProjectorKind",
    "Queue",
    "QueuePolicy",
    "SQLite",
    "SaslMechanism",
    "SecurityProtocol",
    "Sparkplug",
    "StoreType",
    "Sys",
    "Tls",
    "WebSocket",
    "check_runnable",
    "embedded_default",
    "enabled_groups",
    "format_duration",
    "format_log_level",
    "load_config",
    "main_topic_of",
    "parse_duration",
    "parse_log_level",
    "parse_servers",
    "record_bytes_max",
    "unsupported",
]
