"""The configuration as models: the original's YAML keys, and what this broker adds to them.

pydantic-settings merges what the environment and the file say into one ``BrokerConfig``.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from monstermq_shared.config.durations import Duration
from monstermq_shared.config.fields import (
    Address,
    ArchiveStoreType,
    Compressed,
    Compression,
    FileName,
    Flag,
    Format,
    Kind,
    LastValueStore,
    LogFormat,
    LogLevel,
    PayloadForm,
    PayloadFormat,
    Policy,
    Port,
    ProjectorKind,
    QueuePolicy,
    RetainedStore,
    Section,
    SessionStore,
    StoreType,
    Text,
    WebOrigin,
    matching,
    parse_log_level,
)
from monstermq_shared.config.kafka import Kafka
from monstermq_shared.config.limits import MAX_MESSAGE_SIZE_KB, Limits
from monstermq_shared.config.mcp import Mcp
from monstermq_shared.config.templates import MessageTemplate, Template, TopicTemplate

ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - the original's behaviour; loading warns about it
LOCALHOST = "localhost"

# The argument that takes the layers to the sources: their hook sees no other way in.
_LAYERS = "layers"


class Postgres(Section):
    """The PostgreSQL connection."""

    url: Text = Field(default="jdbc:postgresql://localhost:5432/postgres", repr=False)
    """Where it is, as a JDBC or PostgreSQL URL; a user or password in it counts first."""
    user: Text = "system"
    """The role to log in as."""
    password: SecretStr = SecretStr("manager")
    """Its password."""
    read_user: Text | None = None
    """The role that runs SQL of others; `monstermq db init` makes it. Absent: no SQL."""
    read_pass: SecretStr = SecretStr("")
    """Its password."""


class CrateDB(Section):
    """The CrateDB connection, over the PostgreSQL wire protocol."""

    url: Text = Field(default="jdbc:postgresql://localhost:5432/doc", repr=False)
    """Where it is, as a JDBC or PostgreSQL URL."""
    user: Text = "crate"
    """The user to log in as."""
    password: SecretStr = SecretStr("")
    """Its password."""


class MongoDB(Section):
    """The MongoDB connection."""

    url: Text = Field(default="mongodb://localhost:27017", repr=False)
    """Where it is, with user and password if it asks for them."""
    database: Text = "monster"
    """The database's name."""


class SQLite(Section):
    """The SQLite database."""

    path: FileName = "monstermq.db"
    """The database file, relative to the working directory; `:memory:` keeps nothing."""
    min_free_mb: Annotated[int, Field(strict=True, ge=0, le=2**30)] = 1_024
    """MiB of its disk to keep free by deleting the oldest history; 0: the disk may become full."""
    commit_delay_ms: Annotated[int, Field(strict=True, ge=0, le=60_000)] = 250
    """Milliseconds that changes which no acknowledgement waits for are gathered; 0: none."""

    @property
    def in_memory(self) -> bool:
        """Whether nothing of it survives the process."""
        return self.path == ":memory:"


class ArchiveGroup(Section):
    """Messages that are kept together: their last values, their history, or both."""

    name: Annotated[
        str,
        *matching(
            "^[A-Za-z_][A-Za-z0-9_-]{0,62}$",
            "must be 1 to 63 letters, digits, _ or -, and begin with a letter or _",
        ),
    ]
    """Letters, digits, `_` and `-`; tables are called `<name>lastval` and `<name>archive`."""
    enabled: Flag = True
    """Off: the group does not exist, its tables are left alone."""
    topic_filter: tuple[Text, ...] = ()
    """A message belongs to the group if one of these matches; empty matches everything."""
    retained_only: Flag = False
    """Only messages published with the retain flag."""
    last_val_type: LastValueStore = StoreType.NONE
    """What keeps the newest message of each topic."""
    archive_type: ArchiveStoreType = StoreType.NONE
    """What keeps every message."""
    last_val_retention: Duration | None = None
    """How long the value of a topic without news is kept; absent: for ever."""
    archive_retention: Duration | None = None
    """How long messages are kept; absent: for ever."""
    purge_interval: Duration = timedelta(minutes=10)
    """How often what is older than its retention is deleted."""
    payload_format: PayloadForm = PayloadFormat.RECORD
    """With ArchiveType KAFKA: RECORD is JSON, RAW the payload's bytes with `mqtt.` headers."""
    kafka_topic: TopicTemplate | None = None
    """The Kafka topic, as `plant.{2}`; absent: the group's name. See docs/kafka.md."""
    kafka_key: MessageTemplate | None = None
    """The Kafka record's key, as `{1}/{2}` or `{clientId}`; absent: the MQTT topic."""
    kafka_compression: Compressed = Compression.NONE
    """How batches to Kafka are compressed."""


class Sparkplug(Section):
    """Sparkplug B."""

    enabled: Flag = False
    """Publish every metric of spBv1.0 messages below spBv1.0e."""


class Tls(Section):
    """Certificates of TCPS and WSS. Read again on SIGHUP."""

    cert_file: FileName | None = None
    """The server's certificate chain, PEM; relative to the working directory, as all below."""
    key_file: FileName | None = None
    """Its private key, PEM; may be in CertFile too."""
    key_store: FileName | None = None
    """Instead of the two: certificate and key in one PKCS#12 file (`.p12`, `.pfx`)."""
    key_store_password: SecretStr | None = None
    """The password of KeyStore, or of an encrypted KeyFile (or key in CertFile)."""
    client_ca_file: FileName | None = None
    """Authorities, PEM, that sign client certificates; with it clients may show one."""
    require_client_cert: Flag = False
    """Refuse clients that show no certificate; needs ClientCaFile."""


class WebSocket(Section):
    """MQTT over WebSocket, for WS and WSS."""

    path: (
        Annotated[str, *matching(r"^/[^\s?#]*$", "must begin with / and have no space, ? or #")]
        | None
    ) = None
    """The one request path that is served; absent: `/`, `/mqtt` and `/mqtt/`."""
    origins: tuple[WebOrigin, ...] = ()
    """Web pages that may connect, beside this machine's own: `https://a.example`; `*` is any."""


class Queue(Section):
    """What is kept for a persistent session while it is offline or slow."""

    max_messages: Annotated[int, Field(strict=True, ge=1, le=2**40)] = 1_000_000
    """Messages per session."""
    max_bytes: Annotated[int, Field(strict=True, ge=1, le=2**60)] = 1_073_741_824
    """Bytes per session: of topics, publishers and payloads."""
    policy: Policy = QueuePolicy.DROP_OLDEST
    """What gives way when a queue is full; counted."""
    session_expiry: Duration | None = None
    """How long a session outlives its connection, in time that passed; absent: for ever."""


class Edge(Section):
    """The processes that serve MQTT clients."""

    processes: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """How many share the MQTT ports, one core each; more than 1 needs `Kafka.Bus.Enabled`."""


class Projector(Section):
    """The service that turns the Kafka bus into rows."""

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = tuple(ProjectorKind)
    """What this one does: VIEWS are the messages' tables, SESSIONS what clients left behind."""
    port: Port = 9465
    """The port of its /health, /ready and /metrics; 0 is off."""
    bind_address: Address = LOCALHOST
    """The interface it listens on; `localhost` is 127.0.0.1 and ::1."""
    session_timeout_s: Annotated[int, Field(strict=True, ge=1, le=300)] = 6
    """Seconds of silence after which others take its partitions; Kafka allows 6 and more."""


class Metrics(Section):
    """The small HTTP server with /health, /ready and /metrics."""

    enabled: Flag = True
    """Serve them."""
    port: Port = 9464
    """Its port; 0 is off."""
    bind_address: Address = LOCALHOST
    """The interface it listens on; `localhost` is 127.0.0.1 and ::1."""


class Sys(Section):
    """What the broker publishes about itself."""

    enabled: Flag = True
    """Publish them."""
    interval_s: Annotated[int, Field(strict=True, ge=1, le=3_600)] = 10
    """Seconds between updates."""


class Log(Section):
    """What is logged, to standard error."""

    level: LogLevel = Field(default=parse_log_level("INFO"), json_schema_extra={"default": "INFO"})
    """The least important entries to log; `-log` overrides it."""
    format: Format = LogFormat.TEXT
    """One line of text, or one JSON object, per entry."""


class BrokerConfig(BaseSettings, Section):
    """Everything one configuration file says."""

    # As in every other section; BaseSettings begins otherwise.
    model_config = SettingsConfigDict(case_sensitive=True, validate_default=False)

    tcp: Port = 1883
    """Port of plain MQTT; 0 is off."""
    ws: Port = 0
    """Port of MQTT over WebSocket; 0 is off."""
    tcps: Port = 0
    """Port of MQTT over TLS; 0 is off."""
    wss: Port = 0
    """Port of MQTT over secure WebSocket; 0 is off."""
    bind_address: Address = ALL_INTERFACES
    """Where the four ports listen; `::` is all of IPv6 and IPv4, `localhost` both of loopback."""
    max_message_size_kb: Annotated[int, Field(strict=True, ge=1, le=262_143)] = MAX_MESSAGE_SIZE_KB
    """The largest MQTT packet, in units of 1024 bytes; a larger one closes its connection."""
    queued_messages_enabled: Flag = True
    """Keep QoS 1 and 2 messages for sessions that are offline; off: they are lost to them."""
    session_store_type: SessionStore
    """What keeps sessions, subscriptions and queued messages."""
    retained_store_type: RetainedStore = StoreType.MEMORY
    """What keeps retained messages; MEMORY loses them at a restart."""
    archive_groups: tuple[ArchiveGroup, ...] = ()
    """Which messages are kept, where and for how long."""
    postgres: Postgres = Postgres()
    """The PostgreSQL connection, for stores of type POSTGRES."""
    cratedb: CrateDB = CrateDB()
    """The CrateDB connection, for stores of type CRATEDB."""
    mongodb: MongoDB = MongoDB()
    """The MongoDB connection, for stores of type MONGODB."""
    sqlite: SQLite = SQLite()
    """The SQLite database, for stores of type SQLITE."""
    kafka: Kafka = Kafka()
    """The Kafka cluster, for archives of type KAFKA and for the bus."""
    edge: Edge = Edge()
    """What serves MQTT clients."""
    projector: Projector = Projector()
    """What turns the Kafka bus into rows."""
    sparkplug_metric_expansion: Sparkplug = Sparkplug()
    """Sparkplug B metrics as topics of their own."""
    mcp: Mcp = Mcp()
    """The Model Context Protocol server."""
    tls: Tls = Tls()
    """Certificates of TCPS and WSS."""
    websocket: WebSocket = WebSocket()
    """MQTT over WebSocket."""
    limits: Limits = Limits()
    """Bounds for clients."""
    queue: Queue = Queue()
    """Bounds for the messages a session is owed."""
    metrics: Metrics = Metrics()
    """Health and metrics over HTTP."""
    sys: Sys = Sys()
    """The $SYS topics."""
    log: Log = Log()
    """What is logged."""

    @classmethod
    def from_layers(cls, *layers: Mapping[str, Any]) -> Self:
        """Merge values by their YAML keys, section by section; the first layer wins.

        Raises:
            pydantic.ValidationError: What they say together is not a configuration.
        """
        arguments: dict[str, Any] = {_LAYERS: layers}
        return cls(**arguments)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the layers, or what code gives, and nothing implicit.

        The stock sources of the environment, ``.env`` and secrets are left out: ``load_config``
        alone decides what is read.
        """
        layers = init_settings().get(_LAYERS)
        if layers is None:
            return (init_settings,)
        return tuple(InitSettingsSource(settings_cls, dict(layer)) for layer in layers)


def group_path(index: int) -> str:
    """Return the path of an archive group, by its place in the list."""
    return f"ArchiveGroups[{index}]"


def enabled_groups(config: BrokerConfig) -> Iterator[tuple[str, ArchiveGroup]]:
    """Yield (path, group) of every archive group that exists."""
    for index, group in enumerate(config.archive_groups):
        if group.enabled:
            yield group_path(index), group


def main_topic_of(group: ArchiveGroup) -> str:
    """Return the Kafka topic of an archive, or of what its template leads nowhere else."""
    topic = group.kafka_topic
    return group.name if topic is None or Template.parse(topic).names else topic
