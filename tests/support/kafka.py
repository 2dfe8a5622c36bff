"""Real Kafka servers on loopback that a test may stop, kill and freeze, then throw away.

Each is broker and controller in one process.
"""

import base64
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from tests.support.broker import LOOPBACK, TICK_S, free_ports
from tests.support.kafka_security import MECHANISMS, PASSWORD, PROTOCOLS, USER, Security
from tests.support.kafka_tools import (
    CONSOLE_CONSUMER,
    TOOL_S,
    VERSION,
    KafkaFailed,
    classes_file,
    java,
    run_tool,
)
from tests.support.machine import freeze

START_S = 90.0
STOP_S = 60.0

_READY = "Kafka Server started"
_LOG4J_1 = """\
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c{1} %m%n
"""
_LOG4J_2 = """\
shutdownHook=disable
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
"""
_SMALL_AND_QUICK = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "controlled.shutdown.enable": "false",
    # With the defaults, a killed server takes 20 s to be itself again.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "200",
    # The defaults want 128 MB of the heap, and a lot of disk per partition.
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.index.size.max.bytes": "1048576",
    "log.segment.bytes": "67108864",
    "num.io.threads": "2",
    "num.network.threads": "2",
    "background.threads": "2",
}


@dataclass(frozen=True, slots=True)
class Seat:
    """A server's place in a cluster.

    Attributes:
        node_id: Its number, from 1.
        cluster_id: The same for all.
        voters: The controller's port of each node.
    """

    node_id: int
    cluster_id: str
    voters: Mapping[int, int]

    @classmethod
    def cluster(cls, size: int) -> list["Seat"]:
        """Return the places of a new cluster."""
        voters = dict(enumerate(free_ports(size), start=1))
        cluster_id = _new_id()
        return [cls(node_id, cluster_id, voters) for node_id in voters]


class KafkaServer:
    """A server in a folder of its own; ``start`` it, and ``close`` it in the end.

    PLAINTEXT needs no login; ``security`` adds other ports. Topics are not made by themselves.

    Args:
        version: One of ``VERSIONS``.
        settings: The server's own, by name; they take effect at the next start, so a test may
            change ``settings`` later.
        port: Where it listens; without, a free one. It stays the same over restarts.
        security: What it offers beside PLAINTEXT.
        seat: Its place in a cluster; without, it is alone.
        classes_to: Where it leaves the classes it has loaded, when it stops; without, it takes
            those that another has left.

    Attributes:
        folder: Its data and its log.
        ports: Where it listens, by protocol.
        settings: The settings of the next start.
        cluster_id: As clients see it.
    """

    def __init__(
        self,
        *,
        version: str = VERSION,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        security: Security | None = None,
        seat: Seat | None = None,
        classes_to: Path | None = None,
    ) -> None:
        self.version = version
        self._classes_to = classes_to
        self.folder = Path(tempfile.mkdtemp(prefix="monstermq-kafka-"))
        self.seat = seat or Seat.cluster(1)[0]
        security = security or Security()
        extra = security.protocols()
        self.ports = {"PLAINTEXT": port or free_ports(1)[0]}
        self.ports |= zip(extra, free_ports(len(extra)), strict=True)
        self.settings = {**security.settings(self.folder), **(settings or {})}
        self._has_users = security.sasl
        self._log_path = self.folder / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def cluster_id(self) -> str:
        """The id that Kafka gave its cluster."""
        return self.seat.cluster_id

    def address(self, protocol: str = "PLAINTEXT") -> str:
        """Return host and port for clients of a protocol."""
        return f"{LOOPBACK}:{self.ports[protocol]}"

    def start(self) -> Self:
        """Start it and return once it takes requests.

        Raises:
            KafkaFailed: It ended, or was not ready within ``START_S``.
        """
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Start it, and do not wait: a cluster is ready only when most of its servers run."""
        assert self._process is None, "it is running"
        path = self._write_settings()
        options = [*self._logging(), self._classes()]
        with self._log_path.open("ab") as log:
            self._seen = log.tell()
            self._process = subprocess.Popen(
                java(self.version, "kafka.Kafka", str(path), options=options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests
            )

    def wait_until_ready(self) -> None:
        """Return once it takes requests.

        Raises:
            KafkaFailed: It ended, or was not ready within ``START_S``.
        """
        process = self._running()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if _READY in self._log_path.read_bytes()[self._seen :].decode(errors="replace"):
                return
            try:
                process.wait(TICK_S)
            except subprocess.TimeoutExpired:
                continue
            break
        if process.poll() is None:
            self.kill()
        self._process = None
        raise KafkaFailed(f"the server did not start:\n{self.log}")

    def stop(self) -> None:
        """Stop it as a service manager does."""
        process = self._running()
        process.terminate()
        process.wait(STOP_S)
        self._process = None

    def kill(self) -> None:
        """End it with SIGKILL, as the kernel does when memory runs out."""
        process = self._running()
        process.kill()
        process.wait(STOP_S)
        self._process = None

    def restart(self) -> Self:
        """Stop it if it runs, and start it on the same ports and data, with the settings of now."""
        if self.is_running:
            self.stop()
        return self.start()

    def freeze(self) -> None:
        """Stop it where it is: connections stay, and nobody answers."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Let it go on."""
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it if it runs, and delete its folder."""
        if self.is_running:
            self.kill()
        shutil.rmtree(self.folder)

    def wait(self) -> int:
        """Return its exit status, once it has ended by itself."""
        return self._running().wait()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What it wrote to its log, over all starts."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's console tools on this server; return what it prints.

        Args:
            name: The Java class, such as ``org.apache.kafka.tools.TopicCommand``.
            arguments: What follows ``--bootstrap-server``.

        Raises:
            KafkaFailed: It failed.
        """
        return run_tool(self.version, name, "--bootstrap-server", self.address(), *arguments)

    def allow(self, operation: str, *resource: str) -> None:
        """Give ``USER`` a right, where clients are authorized.

        Args:
            operation: Such as ``Read``, ``Write``, ``Describe``, ``Create`` or ``All``.
            resource: The tool's options, such as ``--topic NAME`` or ``--cluster``.
        """
        package = "kafka.admin" if self.version.startswith("3.") else "org.apache.kafka.tools"
        right = ["--allow-principal", f"User:{USER}", "--operation", operation]
        self.tool(f"{package}.AclCommand", "--add", *right, *resource)

    def consume(self, topic: str, count: int, *arguments: str) -> list[str]:
        """Return the first records of a topic as the console consumer prints them.

        Args:
            topic: Read from the beginning.
            count: How many lines; it waits for them.
            arguments: More of the consumer's options.

        Raises:
            KafkaFailed: There were not so many.
        """
        wanted = ["--topic", topic, "--from-beginning", "--max-messages", str(count)]
        patience = ["--timeout-ms", str(int(TOOL_S * 500))]
        lines = self.tool(CONSOLE_CONSUMER, *wanted, *patience, *arguments).splitlines()
        if len(lines) < count:
            raise KafkaFailed(f"{topic} has {len(lines)} records, not {count}: {lines}")
        return lines

    def _write_settings(self) -> Path:
        data = self.folder / "data"
        path = self.folder / "server.properties"
        path.write_text(_properties(self._all_settings(data)), encoding="utf-8")
        (self.folder / "log4j.properties").write_text(_LOG4J_1, encoding="utf-8")
        (self.folder / "log4j2.properties").write_text(_LOG4J_2, encoding="utf-8")
        if not data.exists():
            self._format(data, path)
        return path

    def _format(self, data: Path, settings: Path) -> None:
        """Make the data folder; Kafka's own tool, a second slower, only where there are users."""
        if self._has_users:
            users = [
                f"--add-scram={mechanism}=[name={USER},password={PASSWORD}]"
                for mechanism in MECHANISMS
                if mechanism.startswith("SCRAM")
            ]
            where = [f"--config={settings}", f"--cluster-id={self.cluster_id}"]
            run_tool(self.version, "kafka.tools.StorageTool", "format", *where, *users)
            return
        data.mkdir()
        meta = {
            "version": "1",
            "cluster.id": self.cluster_id,
            "node.id": str(self.seat.node_id),
            "directory.id": _new_id(),
        }
        (data / "meta.properties").write_text(_properties(meta), encoding="utf-8")

    def _all_settings(self, data: Path) -> dict[str, str]:
        addresses = [f"{protocol}://{self.address(protocol)}" for protocol in self.ports]
        controller = f"CONTROLLER://{LOOPBACK}:{self.seat.voters[self.seat.node_id]}"
        voters = [f"{node}@{LOOPBACK}:{port}" for node, port in self.seat.voters.items()]
        protocols = ["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in PROTOCOLS)]
        return {
            **_SMALL_AND_QUICK,
            "process.roles": "broker,controller",
            "node.id": str(self.seat.node_id),
            "controller.quorum.voters": ",".join(voters),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join([*addresses, controller]),
            "advertised.listeners": ",".join(addresses),
            "listener.security.protocol.map": ",".join(protocols),
            "log.dirs": str(data),
            **self.settings,
        }

    def _logging(self) -> list[str]:
        return [
            f"-Dlog4j.configuration=file:{self.folder}/log4j.properties",
            f"-Dlog4j2.configurationFile={self.folder}/log4j2.properties",
        ]

    def _classes(self) -> str:
        if self._classes_to is not None:
            return f"-XX:ArchiveClassesAtExit={self._classes_to}"
        return f"-XX:SharedArchiveFile={_classes(self.version)}"

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it is not running"
        return self._process


class KafkaCluster:
    """Servers that replicate; ``start`` them, and ``close`` them in the end.

    Topics get three replicas of which two must have a record, unless their creator says otherwise.

    Args:
        size: How many.
        version: One of ``VERSIONS``.

    Attributes:
        servers: Each may be stopped, killed and frozen by itself; node ids count from 1.
    """

    def __init__(self, size: int = 3, *, version: str = VERSION) -> None:
        settings = {
            "default.replication.factor": str(size),
            "min.insync.replicas": str(size // 2 + 1),
            "offsets.topic.replication.factor": str(size),
        }
        self.servers = [
            KafkaServer(version=version, settings=settings, seat=seat)
            for seat in Seat.cluster(size)
        ]

    @property
    def cluster_id(self) -> str:
        """The id that Kafka gave it."""
        return self.servers[0].cluster_id

    def address(self) -> str:
        """Return hosts and ports of all servers, as clients take them."""
        return ",".join(server.address() for server in self.servers)

    def server(self, node_id: int) -> KafkaServer:
        """Return the server with a node id, such as that of a partition's leader."""
        return self.servers[node_id - 1]

    def start(self) -> Self:
        """Start all and return once they take requests."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_until_ready()
        return self

    def close(self) -> None:
        """End all, and delete their folders."""
        for server in self.servers:
            server.close()


@cache
def _classes(version: str) -> Path:
    """Return a file with the classes of a server, as Java has them in memory.

    With it a server starts in half the time. Where it is missing, a server is run to make it.
    """
    path = classes_file(version)
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        server = KafkaServer(version=version, classes_to=partial)
        try:
            server.start().stop()
        finally:
            server.close()
        if partial.exists():  # it cannot be written, unless the folder is ours
            partial.replace(path)
    return path


def _properties(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _new_id() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
