"""Kafka's settings by their Java names: those that count here, and what each is to aiokafka.

The tables are the truth: the checks, the schema and the reference are made of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from monstermq_shared.config.fields import suggestion
from monstermq_shared.errors import ConfigError

_SHOWN_MAX = 40
_MINUTE_MS = 60_000
_INT_MAX = 2**31 - 1  # Kafka's sizes are signed 32-bit numbers


class Values(Protocol):
    """What may stand beside a name."""

    @property
    def text(self) -> str:
        """What the reference says of it."""

    def read(self, value: object) -> object:
        """Return what aiokafka takes for a value of the configuration.

        Raises:
            ValueError: It cannot be; the message follows the name.
        """

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number, also as text, because a properties file has nothing else."""

    minimum: int
    maximum: int

    @property
    def text(self) -> str:
        """The range."""
        return f"integer {self.minimum} to {self.maximum}"

    def read(self, value: object) -> int:
        """Return the number."""
        plain = str(value).strip()
        if isinstance(value, bool) or re.fullmatch(r"[+-]?[0-9]{1,20}", plain) is None:
            raise ValueError(f"must be a whole number, not {_shown(value)}")
        if not self.minimum <= int(plain) <= self.maximum:
            raise ValueError(f"must be from {self.minimum} to {self.maximum}, not {_shown(value)}")
        return int(plain)

    def schema(self) -> dict[str, Any]:
        """Return a number in its range, or the text of one."""
        number = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        return {"anyOf": [number, {"type": "string", "pattern": "^[+-]?[0-9]+$"}]}


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words.

    Attributes:
        words: aiokafka's value of each.
        instead: What to write for a word that is not among them and is tried all the same.
    """

    words: Mapping[str, object]
    instead: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The words."""
        return ", ".join(f"`{word}`" for word in self.words)

    def read(self, value: object) -> object:
        """Return what a word stands for, whatever its case."""
        word = str(value).strip().casefold()
        if word in self.words:
            return self.words[word]
        hint = f"; {self.instead[word]}" if word in self.instead else suggestion(word, self.words)
        raise ValueError(f"cannot be {_shown(value)}{hint}")

    def schema(self) -> dict[str, Any]:
        """Return the words, and those of them that YAML reads as something else."""
        known = {"true": True, "false": False, "1": 1, "-1": -1}
        return {"enum": [*self.words, *(known[word] for word in self.words if word in known)]}


@dataclass(frozen=True, slots=True)
class Name:
    """Any short text."""

    text: str = "text"

    def read(self, value: object) -> str:
        """Return the text."""
        if not isinstance(value, str) or not 0 < len(value) <= 255:
            raise ValueError("must be text of 1 to 255 characters; put it in quotes")
        return value

    def schema(self) -> dict[str, Any]:
        """Return a text of that length."""
        return {"type": "string", "minLength": 1, "maxLength": 255}


@dataclass(frozen=True, slots=True)
class JavaSetting:
    """A setting that counts.

    Attributes:
        argument: aiokafka's name of it.
        values: What may stand there.
        meaning: A sentence for the reference.
    """

    argument: str
    values: Values
    meaning: str


_TRUTH = OneOf({"true": True, "false": False})

_BOTH = {
    "request.timeout.ms": JavaSetting(
        "request_timeout_ms",
        Whole(1_000, 10 * _MINUTE_MS),
        "How long an answer is waited for before the request counts as failed.",
    ),
    "retry.backoff.ms": JavaSetting(
        "retry_backoff_ms", Whole(1, _MINUTE_MS), "How long to wait before a request is repeated."
    ),
    "metadata.max.age.ms": JavaSetting(
        "metadata_max_age_ms",
        Whole(1_000, 60 * _MINUTE_MS),
        "How often to ask which server leads which partition, without an error.",
    ),
    "connections.max.idle.ms": JavaSetting(
        "connections_max_idle_ms",
        Whole(1_000, _INT_MAX),
        "After how long a connection nobody used is closed.",
    ),
    "client.id": JavaSetting("client_id", Name(), "What Kafka's logs and quotas call this client."),
}

PRODUCER_SETTINGS: Mapping[str, JavaSetting] = {
    "acks": JavaSetting(
        "acks",
        OneOf(
            {"all": "all", "-1": "all", "1": 1},
            {"0": "nobody would know whether Kafka has a message; use all, or 1"},
        ),
        "Who has a record before it is acknowledged: all replicas in sync, or only the leader.",
    ),
    "batch.size": JavaSetting(
        "max_batch_size",
        Whole(0, 64 * 1024 * 1024),
        "Bytes of records that are sent together; 0: each record by itself.",
    ),
    "linger.ms": JavaSetting(
        "linger_ms", Whole(0, _MINUTE_MS), "How long a batch that is not full waits for more."
    ),
    "compression.type": JavaSetting(
        "compression_type",
        OneOf({"none": None, "gzip": "gzip", "snappy": "snappy", "lz4": "lz4", "zstd": "zstd"}),
        "How batches are compressed.",
    ),
    "max.request.size": JavaSetting(
        "max_request_size",
        Whole(1_024, _INT_MAX),
        "Bytes of a record; without, what the largest message needs.",
    ),
    **_BOTH,
}

CONSUMER_SETTINGS: Mapping[str, JavaSetting] = {
    "fetch.min.bytes": JavaSetting(
        "fetch_min_bytes", Whole(1, _INT_MAX), "For how many bytes Kafka waits before it answers."
    ),
    "fetch.max.wait.ms": JavaSetting(
        "fetch_max_wait_ms", Whole(0, _MINUTE_MS), "How long it waits for them at most."
    ),
    "fetch.max.bytes": JavaSetting(
        "fetch_max_bytes", Whole(1_024, _INT_MAX), "Bytes of one answer, all partitions together."
    ),
    "max.partition.fetch.bytes": JavaSetting(
        "max_partition_fetch_bytes", Whole(1_024, _INT_MAX), "Bytes of one partition in an answer."
    ),
    "max.poll.records": JavaSetting(
        "max_poll_records", Whole(1, _INT_MAX), "Records that are handled in one piece at most."
    ),
    "check.crcs": JavaSetting(
        "check_crcs", _TRUTH, "Whether batches are checked for damage on their way."
    ),
    "client.rack": JavaSetting(
        "client_rack", Name(), "Read from a replica in this rack; wins over `Kafka.ClientRack`."
    ),
    **_BOTH,
}

_NOT_OURS = "this client has no such setting; leave it out"
_ORDER = "one batch per partition is under way at a time, which keeps the order; leave it out"
_REPEATED = "a record is sent until Kafka has it, while its publisher waits; leave it out"
_BOUNDED = "what waits for Kafka is bounded by Kafka.Bus.InFlightKbPerPartition; set that"
_NO_TRANSACTIONS = "the bus has no transactions, whose marks would look like lost records"
_FORMAT = "the format of a record is fixed; leave it out"
_POSITIONS = "a reader knows its own positions and is in no group; leave it out"

_FIXED_BOTH = {
    "bootstrap.servers": "set Kafka.Servers",
    "security.protocol": "set Kafka.Security.Protocol",
    "interceptor.classes": _NOT_OURS,
    "metric.reporters": _NOT_OURS,
    "reconnect.backoff.ms": _NOT_OURS,
    "reconnect.backoff.max.ms": _NOT_OURS,
    "retry.backoff.max.ms": _NOT_OURS,
    "send.buffer.bytes": _NOT_OURS,
    "receive.buffer.bytes": _NOT_OURS,
    "socket.connection.setup.timeout.ms": _NOT_OURS,
    "client.dns.lookup": _NOT_OURS,
}
_FIXED_PRODUCER = {
    "enable.idempotence": "it follows from acks; leave it out",
    "max.in.flight.requests.per.connection": _ORDER,
    "retries": _REPEATED,
    "delivery.timeout.ms": _REPEATED,
    "buffer.memory": _BOUNDED,
    "max.block.ms": _BOUNDED,
    "transactional.id": _NO_TRANSACTIONS,
    "transaction.timeout.ms": _NO_TRANSACTIONS,
    "key.serializer": _FORMAT,
    "value.serializer": _FORMAT,
    "partitioner.class": "a message's partition follows from its topic; leave it out",
    "compression.gzip.level": _NOT_OURS,
    "compression.lz4.level": _NOT_OURS,
    "compression.zstd.level": _NOT_OURS,
    **_FIXED_BOTH,
}
_FIXED_CONSUMER = {
    "isolation.level": _NO_TRANSACTIONS,
    "auto.offset.reset": "a lost position is an alarm, never a jump; leave it out",
    "group.id": _POSITIONS,
    "group.instance.id": _POSITIONS,
    "group.protocol": _POSITIONS,
    "enable.auto.commit": _POSITIONS,
    "auto.commit.interval.ms": _POSITIONS,
    "session.timeout.ms": _POSITIONS,
    "heartbeat.interval.ms": _POSITIONS,
    "max.poll.interval.ms": _POSITIONS,
    "partition.assignment.strategy": _POSITIONS,
    "allow.auto.create.topics": "topics are created before they are read; leave it out",
    "key.deserializer": _FORMAT,
    "value.deserializer": _FORMAT,
    "default.api.timeout.ms": _NOT_OURS,
    **_FIXED_BOTH,
}
_SECURITY_PREFIXES = ("sasl.", "ssl.")


@dataclass(frozen=True, slots=True)
class JavaNames:
    """The settings of one section.

    Attributes:
        path: The section's key.
        known: Those that count.
        fixed: Java's others, and why they do not.
        elsewhere: Where a name belongs that is known only there.
    """

    path: str
    known: Mapping[str, JavaSetting]
    fixed: Mapping[str, str]
    elsewhere: tuple[str, Mapping[str, JavaSetting]]

    def arguments(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Return aiokafka's arguments for what the configuration says, and no others.

        Raises:
            ConfigError: A name or a value is not usable; the message names it and the fix.
        """
        problems = list(self.problems(settings))
        if problems:
            raise ConfigError("\n".join(problems))
        return {
            self.known[name].argument: self.known[name].values.read(value)
            for name, value in settings.items()
        }

    def problems(self, settings: Mapping[str, object]) -> Iterator[str]:
        """Yield a line for each name or value that is not usable."""
        for name, value in settings.items():
            where = f"{self.path}: {name[:80]}"
            if name not in self.known:
                yield f"{where} {self._refusal(name)}"
                continue
            try:
                self.known[name].values.read(value)
            except ValueError as exc:
                yield f"{where} {exc}"

    def _refusal(self, name: str) -> str:
        other, names = self.elsewhere
        if name in self.fixed:
            return f"cannot be set: {self.fixed[name]}"
        if name.startswith(_SECURITY_PREFIXES):
            return "cannot be set: set Kafka.Security"
        if name in names:
            return f"belongs to {other}"
        return f"is not a setting{suggestion(name[:80], self.known)}"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the section."""
        return {
            "type": "object",
            "properties": {
                name: {**known.values.schema(), "description": known.meaning}
                for name, known in self.known.items()
            },
            "additionalProperties": False,
        }


_PRODUCER_PATH = "Kafka.Bus.ProducerConfig"
_CONSUMER_PATH = "Kafka.Bus.ConsumerConfig"

PRODUCER = JavaNames(
    _PRODUCER_PATH, PRODUCER_SETTINGS, _FIXED_PRODUCER, (_CONSUMER_PATH, CONSUMER_SETTINGS)
)
CONSUMER = JavaNames(
    _CONSUMER_PATH, CONSUMER_SETTINGS, _FIXED_CONSUMER, (_PRODUCER_PATH, PRODUCER_SETTINGS)
)


def _shown(value: object) -> str:
    return repr(str(value)[:_SHOWN_MAX])
