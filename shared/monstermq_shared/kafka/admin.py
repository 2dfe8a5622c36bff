"""Asks Kafka's servers which topics there are, and has them made."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    NodeNotReadyError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.errors import CLIENT_ERRORS, LOGIN_ERRORS, meaning_of, worst_of
from monstermq_shared.kafka.settings import KafkaSettings

ANSWER_S = 20.0
"""How long each question may take: a start is not to hang."""

CONNECT_S = 5.0
"""The same for the connection to a server; they are tried one after the other."""

READY_PAUSE_S = 0.05
"""Between two looks at whether a new topic has its leaders."""


FOR_EVER_MS = 2**63 - 1
"""What Kafka takes for no bound on a record's time."""

ANY_TIME = {
    "message.timestamp.before.max.ms": str(FOR_EVER_MS),
    "message.timestamp.after.max.ms": str(FOR_EVER_MS),
}
"""Settings of a topic that refuses no record for its time."""


CREATED_AT_ONCE = 100
"""Topics that one request makes; Kafka answers when it has all of them."""

NAMED_MAX = 3
"""Of those that one request makes, the ones that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopicSpec:
    """A topic to make.

    Attributes:
        replication: Copies of each partition; None: three, or as many as there are servers.
        configs: Kafka's settings of the topic, by name. ``min.insync.replicas`` is added unless it
            is here: one less than the copies, and at least one.
    """

    name: str
    partitions: int
    replication: int | None
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    """A topic that is there.

    Attributes:
        replication: Copies of the partition that has the fewest.
        configs: Kafka's settings of the topic, those by default included; empty if we may not see
            them.
    """

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int | None:
        """Return a setting that is a whole number; None if it is not, or we may not see it."""
        try:
            return int(self.configs[name])
        except (KeyError, ValueError):
            return None


class Admin:
    """A connection for questions that a start asks, and an operator's commands.

    Every call is bounded, and raises ``StartupError`` with the meaning of what went wrong.

    Attributes:
        cluster_id: The cluster's own id.
        servers: How many servers it has.
        where: The servers, as messages name them.
    """

    def __init__(self, client: AIOKafkaAdminClient, where: str, exit_code: ExitCode) -> None:
        self.cluster_id = ""
        self.servers = 0
        self.where = where
        self._client = client
        self._exit_code = exit_code
        self._addresses = ""

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: KafkaSettings, exit_code: ExitCode) -> AsyncIterator["Admin"]:
        """Connect, for as long as the block lasts.

        Args:
            settings: Of the cluster.
            exit_code: What a process ends with that cannot start because of it.

        Raises:
            StartupError: No server can be reached, or none lets us in.
        """
        options = settings.client_options()
        where = ",".join(options["bootstrap_servers"])
        await _check_connection(options, where, exit_code)
        client = AIOKafkaAdminClient(**options, request_timeout_ms=int(ANSWER_S * 1000))
        admin = cls(client, where, exit_code)
        try:
            with admin._answering("the cluster"):
                await admin._start()
            yield admin
        finally:
            with contextlib.suppress(*CLIENT_ERRORS):
                await client.close()

    async def _start(self) -> None:
        async with asyncio.timeout(ANSWER_S):
            await self._client.start()
            cluster = await self._client.describe_cluster()
        self.cluster_id = cluster["cluster_id"] or ""
        self.servers = len(cluster["brokers"])
        self._addresses = ", ".join(
            sorted(f"{at['host']}:{at['port']}" for at in cluster["brokers"])
        )

    async def topics(
        self, names: Collection[str], made: Collection[str] = ()
    ) -> Mapping[str, TopicFacts]:
        """Return those of the topics that are there.

        Args:
            names: Which.
            made: Those of them that have just been made: any server may answer, and each learns of
                a topic in its own time, so these are waited for.

        Raises:
            StartupError: There is no answer, or no right to ask.
        """
        with self._answering("the topics"):
            async with asyncio.timeout(ANSWER_S):
                while True:
                    # Not by name: a server that makes topics by itself would make those.
                    listed = await self._client.describe_topics()
                    found = {at["topic"]: at for at in listed if at["topic"] in names}
                    configs = await self._configs(found)
                    if configs is not None and found.keys() >= set(made):
                        break
                    await asyncio.sleep(READY_PAUSE_S)
        return {
            name: TopicFacts(
                name=name,
                partitions=len(at["partitions"]),
                replication=min((len(p["replicas"]) for p in at["partitions"]), default=0),
                configs=configs.get(name, {}),
            )
            for name, at in found.items()
        }

    async def _configs(self, names: Collection[str]) -> Mapping[str, Mapping[str, str]] | None:
        """Return what we may see; None if the server that was asked has not heard of a topic."""
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await self._client.describe_configs(resources)
        told = [
            (for_code(code), name, entries)
            for answer in answers
            for code, _, _, name, entries in answer.resources
        ]
        if any(kind is UnknownTopicOrPartitionError for kind, _, _ in told):
            return None
        return {
            name: {entry[0]: entry[1] for entry in entries if entry[1] is not None}
            for kind, name, entries in told
            if kind is NoError
        }

    async def group_offsets(self, group: str, topic: str) -> Mapping[int, OffsetAndMetadata]:
        """Return what a consumer group has committed, for each partition of which it has.

        Raises:
            StartupError: There is no answer, or no right to ask.
        """
        with self._answering(f"the consumer group {group}"):
            async with asyncio.timeout(ANSWER_S):
                found = await self._client.list_consumer_group_offsets(group)
        return {
            at.partition: offset
            for at, offset in found.items()
            if at.topic == topic and offset.offset >= 0
        }

    async def create(self, specs: Sequence[NewTopicSpec]) -> None:
        """Make topics, and return once they can be written; one that somebody else makes is fine.

        Raises:
            StartupError: One cannot be made, or there is no answer.
        """
        for begin in range(0, len(specs), CREATED_AT_ONCE):
            some = [self._new_topic(spec) for spec in specs[begin : begin + CREATED_AT_ONCE]]
            names = ", ".join(topic.name for topic in some[:NAMED_MAX])
            with self._answering(f"making the topic {names}"):
                async with asyncio.timeout(ANSWER_S):
                    answer = await self._client.create_topics(some)
                _check_created(answer)
        with self._answering(
            "waiting for new topics, which Kafka.Security.User has to be allowed to Describe"
        ):
            async with asyncio.timeout(ANSWER_S):
                await self._until_led([spec.name for spec in specs])

    def _new_topic(self, spec: NewTopicSpec) -> NewTopic:
        copies = spec.replication or min(3, self.servers)
        configs = {"min.insync.replicas": str(max(copies - 1, 1)), **spec.configs}
        return NewTopic(spec.name, spec.partitions, copies, topic_configs=configs)

    async def _until_led(self, names: Collection[str]) -> None:
        """Return once each partition has a leader: a producer that asks earlier waits for long."""
        while True:
            listed = await self._client.describe_topics()
            ready = {
                at["topic"]
                for at in listed
                if at["partitions"] and all(p["leader"] >= 0 for p in at["partitions"])
            }
            if ready.issuperset(names):
                return
            await asyncio.sleep(READY_PAUSE_S)

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        try:
            yield
        except CLIENT_ERRORS as exc:
            text = f"Kafka at {self.where}: {what}: {meaning_of(exc)}"
            if isinstance(exc, (KafkaConnectionError, OSError, TimeoutError)):
                text += self._advertised()
            raise StartupError(text, exit_code=self._exit_code) from exc

    def _advertised(self) -> str:
        """Return the hint for servers that can be reached only by another name than their own."""
        if not self._addresses:
            return ""
        return (
            f"; the servers say that they are at {self._addresses}: if that cannot be reached from "
            "here, change their advertised.listeners"
        )


def _check_created(answer: Any) -> None:  # noqa: ANN401 - aiokafka has no types
    for name, code, said, *_ in answer.topic_errors:
        kind = for_code(code)
        if kind not in {NoError, TopicAlreadyExistsError}:
            raise kind(said or name)


async def _check_connection(options: Mapping[str, Any], where: str, exit_code: ExitCode) -> None:
    """Connect to one of the servers: the client's own start would not say why it cannot.

    Raises:
        StartupError: None can be reached, or none lets us in.
    """
    names = ("security_protocol", "ssl_context", "sasl_mechanism")
    login = ("sasl_plain_username", "sasl_plain_password")
    arguments = {name: options[name] for name in (*names, *login) if name in options}
    deadline_s = asyncio.get_running_loop().time() + ANSWER_S
    while True:
        failures: dict[str, BaseException] = {}
        for server in options["bootstrap_servers"]:
            try:
                async with asyncio.timeout(CONNECT_S):
                    await _ask_once(server, arguments)
            except CLIENT_ERRORS as exc:
                failures[server] = exc
            else:
                return
        starting = any(isinstance(exc, NodeNotReadyError) for exc in failures.values())
        if not starting or asyncio.get_running_loop().time() > deadline_s:
            break
        await asyncio.sleep(READY_PAUSE_S)
    worst = worst_of(failures.values())
    told = "; ".join(f"{server}: {_unreached(exc)}" for server, exc in failures.items())
    what = "does not let us in" if isinstance(worst, LOGIN_ERRORS) else "cannot be reached"
    raise StartupError(
        f"Kafka.Servers: Kafka at {where} {what} ({told})", exit_code=exit_code
    ) from worst


async def _ask_once(server: str, arguments: Mapping[str, Any]) -> None:
    host, _, port = server.rpartition(":")
    timeout_ms = int(CONNECT_S * 1000)
    connection = await create_conn(
        host.strip("[]"), int(port), request_timeout_ms=timeout_ms, **arguments
    )
    try:
        # A server that wants a login talks to us until we ask for something.
        answer = await connection.send(MetadataRequest([]))
        if not answer.brokers:
            raise NodeNotReadyError("it is starting, and knows of no server yet")
    finally:
        await connection.close()


def _unreached(exc: BaseException) -> str:
    if isinstance(exc, KafkaConnectionError):
        return (
            "the server closes the connection: Kafka.Security.Protocol may not be that of this port"
        )
    return meaning_of(exc)
