"""What the section ``Kafka`` means for aiokafka's clients."""

import ssl
from dataclasses import dataclass
from typing import Any, Self

from monstermq_shared.config import (
    CONSUMER,
    KIB,
    PRODUCER,
    BrokerConfig,
    Kafka,
    parse_servers,
    record_bytes_max,
)
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.connection import tell_lost_writes

CLIENT_ID = "monstermq"

BATCH_SIZE_MAX = 256 * KIB
"""Bytes of a batch: with aiokafka's own 16 KiB a producer takes a third as many messages."""

FETCH_SIZE_MAX = 256 * KIB
"""Bytes of a partition in one answer: more makes reading jerky, not faster."""

PRODUCE_TIMEOUT_MS = 30_000
METADATA_MS_MAX = 60_000
"""So soon an idle client knows of a topic that was deleted, or has got other partitions."""

Options = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """The settings of all clients of one cluster.

    Attributes:
        section: The configuration's section.
        record_size_max: Bytes of the largest record that is written, see ``record_bytes_max``.
    """

    section: Kafka
    record_size_max: int

    @classmethod
    def from_config(cls, config: BrokerConfig) -> Self:
        """Return the settings of a configuration that was checked."""
        return cls(
            section=config.kafka, record_size_max=record_bytes_max(config.max_message_size_kb)
        )

    def client_options(self) -> Options:
        """Return where the servers are and how to log in, as every client takes it.

        Raises:
            StartupError: A file of ``Kafka.Security`` cannot be used.
        """
        tell_lost_writes()  # whoever asks for these makes a client
        security = self.section.security
        servers = parse_servers(self.section.servers)
        options: Options = {
            "bootstrap_servers": [f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in servers],
            "client_id": CLIENT_ID,
            "security_protocol": security.protocol.value,
            "metadata_max_age_ms": METADATA_MS_MAX,
        }
        if security.protocol.encrypts:
            options["ssl_context"] = self._ssl_context()
        if security.protocol.logs_in:
            options["sasl_mechanism"] = security.mechanism.value
            options["sasl_plain_username"] = security.user
            password = security.password
            options["sasl_plain_password"] = password and password.get_secret_value()
        return options

    def producer_options(self) -> Options:
        """Return the arguments of a producer. ``linger_ms`` is not among them: see ``linger_s``.

        Raises:
            StartupError: See ``client_options``.
            ConfigError: A name or value of ``ProducerConfig`` is not usable.
        """
        options: Options = {
            **self.client_options(),
            "acks": "all",
            "max_request_size": self.record_size_max,
            "request_timeout_ms": PRODUCE_TIMEOUT_MS,
            **PRODUCER.arguments(self.section.bus.producer_config),
        }
        options["linger_ms"] = 0
        options["max_batch_size"] = self.batch_size_max
        options["enable_idempotence"] = options["acks"] == "all"
        return options

    @property
    def batch_size_max(self) -> int:
        """Bytes of a batch of the bus."""
        given = PRODUCER.arguments(self.section.bus.producer_config)
        size = given.get("max_batch_size", BATCH_SIZE_MAX)
        assert isinstance(size, int)
        # What Kafka bounds by the size of a record is a whole batch.
        return min(size, self.record_size_max)

    @property
    def linger_s(self) -> float:
        """Seconds that a batch which is not full waits for more."""
        milliseconds = PRODUCER.arguments(self.section.bus.producer_config).get("linger_ms", 0)
        assert isinstance(milliseconds, int)
        return milliseconds / 1000

    @property
    def poll_records_max(self) -> int | None:
        """Records that a reader hands out at once; None: all that were fetched."""
        records = CONSUMER.arguments(self.section.bus.consumer_config).get("max_poll_records")
        assert records is None or isinstance(records, int)
        return records

    def consumer_options(self) -> Options:
        """Return the arguments of a consumer, without group and positions.

        Raises:
            StartupError: See ``client_options``.
            ConfigError: A name or value of ``ConsumerConfig`` is not usable.
        """
        return {
            **self.client_options(),
            # Whatever is larger becomes the floor of latency.
            "fetch_min_bytes": 1,
            "max_partition_fetch_bytes": FETCH_SIZE_MAX,
            "client_rack": self.section.client_rack,
            **CONSUMER.arguments(self.section.bus.consumer_config),
        }

    def _ssl_context(self) -> ssl.SSLContext:
        security = self.section.security
        password = security.key_password
        name, path = "CaFile", security.ca_file
        try:
            context = ssl.create_default_context(cafile=security.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if security.cert_file is not None:
                name, path = "CertFile", security.cert_file
                context.load_cert_chain(
                    security.cert_file,
                    security.key_file,
                    # Never asked for at the terminal.
                    lambda: "" if password is None else password.get_secret_value(),
                )
        except (OSError, ValueError) as exc:
            raise StartupError(
                f"Kafka.Security.{name}: {path} cannot be used for TLS ({exc}); it names a PEM "
                "file that this process may read, KeyFile is the key of CertFile, and KeyPassword "
                "the key's password",
                exit_code=ExitCode.TLS,
            ) from exc
        return context
