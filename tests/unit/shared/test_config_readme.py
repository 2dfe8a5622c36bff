"""Every YAML block of the original's README that is a configuration, word for word."""

from pathlib import Path

import pytest

from monstermq_shared.config import BrokerConfig, StoreType, load_config

WHOLE = {
    "docker compose": """\
TCP: 1883
WS: 9000
TCPS: 8883
WSS: 9001
MaxMessageSizeKb: 512

SessionStoreType: POSTGRES
RetainedStoreType: POSTGRES

QueuedMessagesEnabled: true

ArchiveGroups:
  - Name: MCP
    Enabled: true
    TopicFilter: [ "#" ]
    RetainedOnly: false
    LastValType: POSTGRES
    ArchiveType: POSTGRES

Postgres:
  Url: jdbc:postgresql://postgres:5432/monster
  User: system
  Pass: manager

MCP:
  Enabled: true
  Port: 3000
""",
    "sqlite": """\
TCP: 1883
WS: 8080
MaxMessageSizeKb: 8

SessionStoreType: SQLITE
RetainedStoreType: SQLITE
QueuedMessagesEnabled: true

ArchiveGroups:
  - Name: MCP
    Enabled: true
    TopicFilter: [ "#" ]
    RetainedOnly: false
    LastValType: SQLITE
    ArchiveType: SQLITE

SQLite:
  Path: "monstermq.db"

MCP:
  Enabled: true
  Port: 3000
""",
    "storage": """\
SessionStoreType: POSTGRES     # POSTGRES, CRATEDB, MONGODB, SQLITE
RetainedStoreType: POSTGRES    # MEMORY, HAZELCAST, POSTGRES, CRATEDB, SQLITE
QueuedMessagesEnabled: true    # Enable QoS>0 message queuing
""",
    "config-kafka-bus.yaml": """\
# config-kafka-bus.yaml
TCP: 1883
WS: 8080

# Use Kafka as the internal message bus
Kafka:
  Servers: kafka1:9092,kafka2:9092,kafka3:9092
  Bus:
    Enabled: true               # Enable Kafka bus mode
    Topic: monstermq-stream     # All messages flow here

# Storage configuration
SessionStoreType: POSTGRES
RetainedStoreType: POSTGRES

# No need for ArchiveGroups - everything is in Kafka!
# But you can still add them for additional filtering if needed
""",
    "hazelcast": """\
# Cluster-aware configuration (config-hazelcast.yaml)
SessionStoreType: POSTGRES      # Required: Central database for sessions
RetainedStoreType: HAZELCAST   # Distributed retained messages

# Database configuration (required for clustering)
Postgres:
  Url: jdbc:postgresql://shared-db-server:5432/monster
  User: system
  Pass: manager
""",
}

FRAGMENTS = {
    "network ports": """\
TCP: 1883           # MQTT TCP port (0=disabled)
TCPS: 8883          # MQTT TLS port (0=disabled)
WS: 9000            # MQTT WebSocket port (0=disabled)
WSS: 9001           # MQTT WebSocket TLS port (0=disabled)
MaxMessageSizeKb: 512
""",
    "archive groups": """\
ArchiveGroups:
  - Name: "production"
    Enabled: true
    TopicFilter: [ "sensors/#", "devices/#" ]
    RetainedOnly: false
    LastValType: POSTGRES      # Current value storage
    ArchiveType: POSTGRES      # Historical message storage

  - Name: MCP                  # Required for MCP server
    Enabled: true
    TopicFilter: [ "#" ]
    RetainedOnly: false
    LastValType: POSTGRES      # Required for MCP
    ArchiveType: POSTGRES      # Optional for MCP
""",
    "postgres": """\
Postgres:
  Url: jdbc:postgresql://localhost:5432/monster
  User: system
  Pass: manager
""",
    "sqlite section": """\
SQLite:
  Path: "monstermq.db"  # File path (created automatically)
""",
    "cratedb": """\
CrateDB:
  Url: jdbc:postgresql://cratedb:5432/monster
  User: crate
  Pass: ""
""",
    "mongodb": """\
MongoDB:
  Url: mongodb://system:manager@mongodb:27017
  Database: monster
""",
    "clustering": """\
# Run with: java ... -cluster
# Automatic Hazelcast clustering
# Nodes discover each other automatically
""",
    "kafka archive": """\
Kafka:
  Servers: kafka:9092          # Kafka broker addresses

# Stream specific topics to different Kafka topics
ArchiveGroups:
  - Name: sensors
    TopicFilter: [ "sensors/#" ]
    ArchiveType: KAFKA          # Stream to Kafka topic "sensors"

  - Name: events
    TopicFilter: [ "events/#", "alerts/#" ]
    ArchiveType: KAFKA          # Stream to Kafka topic "events"
""",
    "kafka bus": """\
Kafka:
  Servers: kafka:9092
  Bus:
    Enabled: true               # \N{LARGE RED CIRCLE} KAFKA AS MESSAGE BUS
    Topic: monster-bus          # All MQTT messages flow through this topic
""",
    "kafka throughput": """\
# Optimize for throughput (higher latency acceptable)
Kafka:
  Bus:
    Enabled: true
    Topic: monstermq-stream
    ProducerConfig:           # Optional Kafka producer tuning
      batch.size: 65536      # Larger batches
      linger.ms: 10          # Wait up to 10ms to batch
      compression.type: lz4   # Fast compression
""",
    "kafka latency": """\
# Optimize for latency (lower throughput)
Kafka:
  Bus:
    Enabled: true
    Topic: monstermq-stream
    ProducerConfig:
      batch.size: 0          # No batching
      linger.ms: 0           # Send immediately
      acks: 1                # Don't wait for all replicas
""",
    "extensions": """\
SparkplugMetricExpansion:
  Enabled: true          # Expand SparkplugB messages

MCP:
  Enabled: true
  Port: 3000            # Model Context Protocol server
""",
    "tls": """\
   TCPS: 8883     # MQTT over TLS
   WSS: 9001      # MQTT over WebSocket TLS

""",
}
# What a fragment leaves to the rest of its file.
REST = {
    "SessionStoreType": "SessionStoreType: POSTGRES\n",
    "RetainedStoreType": "RetainedStoreType: POSTGRES\n",
}


def load(text: str, folder: Path) -> BrokerConfig:
    file = folder / "config.yaml"
    file.write_text(text)
    return load_config(file, {}).config


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_configuration_loads_as_it_is(name: str, tmp_path: Path) -> None:
    load(WHOLE[name], tmp_path)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragment_loads_in_a_file_that_names_its_stores(name: str, tmp_path: Path) -> None:
    indent = " " * (len(FRAGMENTS[name]) - len(FRAGMENTS[name].lstrip()))
    load(FRAGMENTS[name] + "".join(f"{indent}{line}" for line in REST.values()), tmp_path)


def test_the_docker_compose_configuration_means_what_it_says(tmp_path: Path) -> None:
    config = load(WHOLE["docker compose"], tmp_path)
    assert (config.tcp, config.ws, config.tcps, config.wss) == (1883, 9000, 8883, 9001)
    assert config.session_store_type is config.retained_store_type is StoreType.POSTGRES
    assert (config.postgres.user, config.postgres.password.get_secret_value()) == (
        "system",
        "manager",
    )
    assert config.postgres.url == "jdbc:postgresql://postgres:5432/monster"
    assert (config.mcp.enabled, config.mcp.port) == (True, 3000)
    (group,) = config.archive_groups
    assert group.archive_type is group.last_val_type is StoreType.POSTGRES


def test_kafka_settings_keep_their_kafka_names_and_types(tmp_path: Path) -> None:
    config = load(FRAGMENTS["kafka throughput"] + "".join(REST.values()), tmp_path)
    assert config.kafka.bus.producer_config == {
        "batch.size": 65536,
        "linger.ms": 10,
        "compression.type": "lz4",
    }


def test_a_kafka_bus_with_tls_ports_and_memory_values_loads_as_the_original_ships_it(
    tmp_path: Path,
) -> None:
    group = "ArchiveGroups: [{Name: critical, LastValType: MEMORY, ArchiveType: KAFKA}]\n"
    text = WHOLE["config-kafka-bus.yaml"] + "TPCS: 8883\n" + group
    assert load(text, tmp_path).tcps == 8883
