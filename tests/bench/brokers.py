"""The brokers under load: each a fresh process with its own folder, ports and configuration."""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml
from tests.bench.certificates import key_store, pem_files, write_certificate
from tests.bench.channels import Transport
from tests.bench.forms import Form, pure_packages
from tests.bench.kafka_places import KafkaPlace, kafka_place
from tests.support.broker import free_ports
from tests.support.machine import program
from tests.support.postgres import PostgresServer

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
LAST_WORDS_SIZE = 2000
OUTPUT = "output.log"
EDGE = "monstermq-edge"
REPOSITORY = Path(__file__).parents[2]
POSTGRES_DATABASE = "bench"


class Profile(Enum):
    """What the broker keeps, and where."""

    ROUTING = "nothing on disk, no archive"
    SQLITE = "sessions, queue and retained messages in SQLite on disk"
    DEFAULT = "as SQLITE, and archive and last value over # in SQLite"
    WATCHED = "as SQLITE, the operation port open, the certificate in an encrypted PKCS#12 file"
    WATCHED_MEMORY = "as WATCHED, but retained messages in memory"
    ASKED = "as WATCHED, archive and last value over # in SQLite, and the MCP server"
    POSTGRES = "as SQLITE, but in PostgreSQL"
    POSTGRES_DEFAULT = "as DEFAULT, but in PostgreSQL"
    KAFKA = "one edge on the Kafka bus; retained messages in PostgreSQL, without projectors"
    KAFKA_EDGES = "as KAFKA, but two edges, which share the ports"
    KAFKA_INGRESS = "as KAFKA, and records of another topic become messages"
    KAFKA_STACK = "one edge on the Kafka bus, and projectors into PostgreSQL: what monstermq runs"
    KAFKA_ARCHIVE = "as SQLITE, and an archive over # in Kafka"

    @property
    def is_postgres(self) -> bool:
        """Whether everything is in PostgreSQL."""
        return self in (Profile.POSTGRES, Profile.POSTGRES_DEFAULT) or self.is_kafka

    @property
    def is_kafka(self) -> bool:
        """Whether every message goes through Kafka."""
        return self.is_edge_alone or self is Profile.KAFKA_STACK

    @property
    def is_edge_alone(self) -> bool:
        """Whether no projector is there."""
        return self in (Profile.KAFKA, Profile.KAFKA_EDGES, Profile.KAFKA_INGRESS)

    @property
    def needs_kafka(self) -> bool:
        """Whether a Kafka server is there."""
        return self.is_kafka or self is Profile.KAFKA_ARCHIVE

    @property
    def is_archived(self) -> bool:
        """Whether every message is in an archive and a last-value store."""
        return self in (Profile.DEFAULT, Profile.ASKED, Profile.POSTGRES_DEFAULT)

    @property
    def is_watched(self) -> bool:
        """Whether the operation port is open."""
        return self in (Profile.WATCHED, Profile.WATCHED_MEMORY, Profile.ASKED)

    @property
    def is_asked(self) -> bool:
        """Whether the MCP server runs in the broker's process."""
        return self is Profile.ASKED


class ThreadId(NamedTuple):
    """A thread of one of a broker's processes."""

    process: int
    thread: int


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that accepts connections."""

    process: psutil.Popen
    ports: Mapping[Transport, int]
    database: Path
    output: Path
    operation_port: int = 0
    """Where ``/health`` is answered; 0 if the profile does not open it."""
    mcp_port: int = 0
    """Where the MCP server listens; 0 if the profile has none."""
    postgres: PostgresServer | None = None
    """The server with the database ``POSTGRES_DATABASE``, if the profile is in PostgreSQL."""
    kafka: KafkaPlace | None = None
    """Where Kafka is, if the profile needs it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What its processes have in their environment beside ours."""

    def last_words(self) -> str:
        """The end of what the broker printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS_SIZE:]

    @property
    def port(self) -> int:
        """The plain TCP port."""
        return self.ports[Transport.TCP]

    def resident_bytes(self) -> int:
        """Resident memory of the broker's processes."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(int(process.memory_info().rss) for process in processes)

    def thread_times(self) -> dict[ThreadId, float]:
        """Seconds that each of the broker's threads has computed so far, counted in 10 ms.

        Raises:
            psutil.NoSuchProcess: the broker has ended.
        """
        spent = _thread_times(self.process)
        for child in self.process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it may end at any time
                spent |= _thread_times(child)
        return spent

    def processor_s(self) -> float:
        """Seconds that all of the broker's threads have computed so far."""
        return sum(self.thread_times().values())

    def wait(self, seconds: float) -> None:
        """Let ``seconds`` pass. Raises ``RuntimeError`` if the broker ends meanwhile."""
        try:
            code = self.process.wait(seconds)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return
        raise RuntimeError(f"the broker ended with code {code}")


def _thread_times(process: psutil.Process) -> dict[ThreadId, float]:
    return {
        ThreadId(process.pid, thread.id): thread.user_time + thread.system_time
        for thread in process.threads()
    }


class Places(NamedTuple):
    """Where a broker is to listen, and what it may write to."""

    mqtt: Mapping[Transport, int]
    operation: int
    mcp: int
    folder: Path
    postgres_url: str
    """Empty if the profile is not in PostgreSQL."""
    kafka: KafkaPlace | None = None
    """Where Kafka is, if the profile needs it."""


class Broker(ABC):
    """Makes processes of one broker."""

    name: str
    start_line = ""
    """A part of what it prints when it starts, if that says whether it is the right one."""

    @abstractmethod
    def version(self) -> str:
        """What its version is, for the report."""

    @abstractmethod
    def supports(self, profile: Profile) -> bool:
        """Whether its promise under ``profile`` is the one that is measured."""

    @abstractmethod
    def command(self, profile: Profile, places: Places) -> list[str]:
        """Write the configuration into the folder; the command that serves with it."""

    def environment(self) -> Mapping[str, str]:
        """What its processes have in their environment beside ours."""
        return {}

    @contextmanager
    def run(self, profile: Profile = Profile.ROUTING) -> Iterator[Running]:
        """A fresh process in a folder of its own; both are gone afterwards.

        Raises:
            RuntimeError: it did not accept connections in time, or is not what it should be; its
                output is in the message.
        """
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            postgres = _new_server(stack) if profile.is_postgres else None
            kafka = stack.enter_context(kafka_place()) if profile.needs_kafka else None
            *mqtt, operation, mcp = free_ports(len(Transport) + 2)
            url = postgres.url(POSTGRES_DATABASE) if postgres else ""
            ports = dict(zip(Transport, mqtt, strict=True))
            places = Places(ports, operation, mcp, folder, url, kafka)
            running = Running(
                _start(stack, self.command(profile, places), folder / OUTPUT, self.environment()),
                places.mqtt,
                folder / "monstermq.db",
                folder / OUTPUT,
                operation if profile.is_watched else 0,
                mcp if profile.is_asked else 0,
                postgres,
                kafka,
                self.environment(),
            )
            _wait_for_ports(running)
            if self.start_line not in running.output.read_text(encoding="utf-8", errors="replace"):
                raise RuntimeError(f"this is not {self.name}: {running.last_words()}")
            yield running


def _start(
    stack: ExitStack, command: Sequence[str], output: Path, env: Mapping[str, str]
) -> psutil.Popen:
    """A process that is gone with the stack, in the folder of its output."""
    with output.open("wb") as log:
        process = psutil.Popen(
            command,
            cwd=output.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **env},
        )
    stack.callback(_stop, process)
    return process


@contextmanager
def another_edge(running: Running) -> Iterator[Running]:
    """One more edge of the same configuration, on ports of its own; only TCP is told."""
    with ExitStack() as stack:
        ports = dict(zip(Transport, free_ports(len(Transport)), strict=True))
        names = {Transport.TCP: "TCP", Transport.TLS: "TCPS", Transport.WEBSOCKET: "WS"}
        env = {f"MONSTERMQ_{names[transport]}": str(port) for transport, port in ports.items()}
        output = running.output.with_name("another.log")
        env |= running.environment
        process = _start(stack, _of_edge(running.process.cmdline()), output, env)
        another = replace(running, process=process, ports=ports, output=output)
        _wait_for_ports(another)
        yield another


def _of_edge(command: Sequence[str]) -> list[str]:
    """The command of an edge alone, whatever else the one given starts."""
    paths = map(Path, command)
    return [str(path.with_name(EDGE) if path.name == "monstermq" else path) for path in paths]


def _new_server(stack: ExitStack) -> PostgresServer:
    """A PostgreSQL server as its package configures it, with a new database."""
    server = stack.enter_context(closing(PostgresServer()))
    server.start().create_database(POSTGRES_DATABASE)
    return server


class MonsterMQ(Broker):
    """Ours, from this repository's virtual environment or from another checkout's."""

    def __init__(self, program: Path | None = None, form: Form | None = None) -> None:
        """``program`` is the ``monstermq`` that is run; without it, that of this repository.

        It has to be of ``form``, if that is given.
        """
        self.name = form.broker if form else "MonsterMQ"
        self._program = program or Path(sys.executable).with_name("monstermq")
        self._form = form
        self.start_line = form.start_line if form else ""

    def version(self) -> str:
        """See ``Broker``."""
        return f"{self.name} {importlib.metadata.version('monstermq')}"

    def supports(self, profile: Profile) -> bool:
        """See ``Broker``."""
        return True

    def environment(self) -> Mapping[str, str]:
        """See ``Broker``."""
        return {"PYTHONPATH": str(pure_packages())} if self._form is Form.PURE else {}

    def command(self, profile: Profile, places: Places) -> list[str]:
        """See ``Broker``."""
        folder = places.folder
        settings: dict[str, object] = {
            "TCP": places.mqtt[Transport.TCP],
            "TCPS": places.mqtt[Transport.TLS],
            "WS": places.mqtt[Transport.WEBSOCKET],
            "BindAddress": "127.0.0.1",
            "TLS": key_store(folder) if profile.is_watched else pem_files(folder),
            "Queue": {"MaxMessages": 100_000_000, "MaxBytes": 100_000_000_000},
            "Metrics": {"Enabled": profile.is_watched, "Port": places.operation},
            **_stores(profile, places),
        }
        if profile.is_asked:
            settings["MCP"] = {"Enabled": True, "Port": places.mcp}
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        program = self._program.with_name(EDGE) if profile.is_edge_alone else self._program
        return [str(program), "-config", str(path), "-log", "INFO"]


def _stores(profile: Profile, places: Places) -> dict[str, object]:
    """The settings that say what is kept, and where."""
    kind = "POSTGRES" if profile.is_postgres else "SQLITE"
    in_memory = profile in (Profile.ROUTING, Profile.WATCHED_MEMORY)
    stores: dict[str, object] = {
        "SessionStoreType": kind,
        "RetainedStoreType": "MEMORY" if in_memory else kind,
    }
    if profile.is_postgres:
        stores["Postgres"] = {"Url": places.postgres_url}
    else:
        on_disk = profile is not Profile.ROUTING
        path = str(places.folder / "monstermq.db") if on_disk else ":memory:"
        stores["SQLite"] = {"Path": path, "MinFreeMb": 0}
    if profile is Profile.KAFKA_EDGES:
        stores["Edge"] = {"Processes": 2}
    if places.kafka is not None:
        stores |= _of_kafka(profile, places.kafka)
    if profile.is_archived:
        stores["ArchiveGroups"] = [
            {
                "Name": "MCP",
                "Enabled": True,
                "TopicFilter": ["#"],
                "RetainedOnly": False,
                "LastValType": kind,
                "ArchiveType": kind,
            }
        ]
    return stores


def _of_kafka(profile: Profile, place: KafkaPlace) -> dict[str, object]:
    if profile is Profile.KAFKA_INGRESS:
        return place.ingress
    return place.bus if profile.is_kafka else place.archive


class Mosquitto(Broker):
    """The peer: in memory, with the queue unlimited and our in-flight window."""

    name = "mosquitto"

    def version(self) -> str:
        """See ``Broker``."""
        command = [program("mosquitto"), "-h"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        return told.stdout.splitlines()[0]

    def supports(self, profile: Profile) -> bool:
        """See ``Broker``: mosquitto's persistence is a snapshot, no promise before PUBACK."""
        return profile is Profile.ROUTING

    def command(self, profile: Profile, places: Places) -> list[str]:
        """See ``Broker``."""
        certificate, key = write_certificate(places.folder)
        path = places.folder / "mosquitto.conf"
        path.write_text(
            f"""user root
persistence false
log_type error
connection_messages false
set_tcp_nodelay true
max_inflight_messages 100
max_queued_messages 0
allow_anonymous true
listener {places.mqtt[Transport.TCP]} 127.0.0.1
listener {places.mqtt[Transport.TLS]} 127.0.0.1
certfile {certificate}
keyfile {key}
listener {places.mqtt[Transport.WEBSOCKET]} 127.0.0.1
protocol websockets
""",
            encoding="utf-8",
        )
        return [program("mosquitto"), "-c", str(path)]


class NullBroker(Broker):
    """The generator's own ceiling: see ``tests.bench.null_broker``."""

    name = "null"

    def version(self) -> str:
        """See ``Broker``."""
        return "null broker"

    def supports(self, profile: Profile) -> bool:
        """See ``Broker``: it keeps nothing, whatever the profile."""
        return True

    def command(self, profile: Profile, places: Places) -> list[str]:
        """See ``Broker``."""
        certificate, key = write_certificate(places.folder)
        joined = places.folder / "joined.pem"
        joined.write_bytes(key.read_bytes() + certificate.read_bytes())
        listening = [str(port) for port in places.mqtt.values()]
        module = [sys.executable, "-P", "-m", "tests.bench.null_broker"]
        return ["env", f"PYTHONPATH={REPOSITORY}", *module, *listening, str(joined)]


def _wait_for_ports(running: Running) -> None:
    step_s = 0.02
    others = (running.operation_port, running.mcp_port)
    for port in filter(None, (*running.ports.values(), *others)):
        for _ in range(int(START_TIMEOUT_S / step_s)):
            if _accepts(port):
                break
            try:
                running.wait(step_s)
            except RuntimeError as error:
                raise RuntimeError(f"{error}: {running.last_words()}") from error
        else:
            raise RuntimeError(f"nothing listens on port {port}: {running.last_words()}")


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _stop(process: psutil.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        process.kill()
        process.wait()
