"""Edges and projectors on a Kafka bus: real processes that share a configuration file.

Each stack has a bus topic and a database of its own; its processes may be stopped, killed and
frozen one by one.
"""

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from tests.support.broker import LOOPBACK, BrokerProcess
from tests.support.machine import freeze
from tests.support.postgres import PostgresServer

PARTITIONS = 4
"""Of the bus topic; enough that topics of one publisher are apart."""

LEASE_S = 4
"""Seconds of silence after which an edge is dead."""

SESSION_TIMEOUT_S = 3
"""Seconds of silence after which a projector's partitions are dealt to others."""


class StackProcess(BrokerProcess):
    """One process of a stack.

    Args:
        directory: Its own.
        config_path: The file that all share.
    """

    start_s = 120.0  # it may wait for servers that have only just been started

    _module: str

    def __init__(self, directory: Path, config_path: Path) -> None:
        directory.mkdir()
        super().__init__(directory)
        self._config_path = config_path
        self.is_frozen = False

    def _prepare(self, config_yaml: str | None) -> list[str]:
        assert config_yaml is None, "the configuration is the stack's"
        return [sys.executable, "-m", self._module, "-config", str(self._config_path)]

    def _own_settings(self) -> Mapping[str, str]:
        """Return what differs from process to process, as variables."""
        raise NotImplementedError

    def launch(self, config_yaml: str | None = None, env: Mapping[str, str] | None = None) -> None:
        """See ``BrokerProcess.launch``."""
        super().launch(config_yaml, {**self._own_settings(), **(env or {})})

    def run_to_end(
        self, config_yaml: str | None = None, env: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """See ``BrokerProcess.run_to_end``."""
        return super().run_to_end(config_yaml, {**self._own_settings(), **(env or {})})

    @property
    def has_log(self) -> bool:
        """Whether it was ever started."""
        return self._log_path.exists()

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): connections stay, and nobody answers."""
        freeze(self.pid)
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self.send_signal(signal.SIGCONT)
        self.is_frozen = False


class EdgeProcess(StackProcess):
    """``monstermq-edge``."""

    _module = "monstermq_edge"

    def _own_settings(self) -> Mapping[str, str]:
        return {
            "MONSTERMQ_TCP": str(self.tcp_port),
            "MONSTERMQ_WS": str(self.ws_port),
            "MONSTERMQ_METRICS__PORT": str(self.metrics_port),
        }


class ProjectorProcess(StackProcess):
    """``monstermq-projector`` of some kinds.

    Args:
        directory: Its own.
        config_path: The file that all share.
        kinds: What it does; see ``Projector.Kinds``.
    """

    _module = "monstermq_projector"

    def __init__(self, directory: Path, config_path: Path, kinds: Sequence[str]) -> None:
        super().__init__(directory, config_path)
        self._kinds = kinds

    @property
    def _main_port(self) -> int:
        return self.metrics_port

    def _own_settings(self) -> Mapping[str, str]:
        return {
            "MONSTERMQ_PROJECTOR__KINDS": f"[{', '.join(self._kinds)}]",
            "MONSTERMQ_PROJECTOR__PORT": str(self.metrics_port),
        }


class KafkaStack:
    """Some edges and two projectors; ``start`` it, and ``close`` it in the end.

    Args:
        directory: For the configuration and all logs.
        servers: Kafka's, as clients reach them.
        topic: Of the bus.
        postgres: Where the database is made.
        edges: How many.
        bus: Settings of the section Kafka.Bus that replace or add to the stack's.
        extra: Sections that replace or add to the stack's.

    Attributes:
        servers: As above.
        topic: As above.
        postgres: As above.
        database: Its name.
        edges: Each on ports of its own.
        views: The projector of the tables of messages.
        sessions: The projector of what clients leave behind.
        config_path: The file.
    """

    def __init__(
        self,
        directory: Path,
        servers: str,
        topic: str,
        postgres: PostgresServer,
        *,
        edges: int = 2,
        bus: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> None:
        self.servers = servers
        self.topic = topic
        self.postgres = postgres
        self.database = postgres.create_database()
        self.config_path = directory / "stack.yaml"
        self.settings = _settings(self, bus or {}) | extra
        self.write()
        self.edges = [
            EdgeProcess(directory / f"edge{number}", self.config_path) for number in range(edges)
        ]
        self.views = self.projector(directory / "views", "VIEWS")
        self.sessions = self.projector(directory / "sessions", "SESSIONS")

    def write(self) -> None:
        """Write the file as ``settings`` has it, for processes that start from now on."""
        self.config_path.write_text(yaml.safe_dump(self.settings), encoding="utf-8")

    def projector(self, directory: Path, *kinds: str) -> ProjectorProcess:
        """Return one more projector, not yet started; closing it is up to the caller."""
        return ProjectorProcess(directory, self.config_path, kinds)

    @property
    def processes(self) -> list[StackProcess]:
        """All processes, whether they run or not."""
        return [*self.edges, self.views, self.sessions]

    @property
    def sessions_topic(self) -> str:
        """The topic of the sessions log."""
        return f"{self.topic}-sessions"

    def start(self) -> Self:
        """Start all that do not run, and return once they listen."""
        started = [process for process in self.processes if not process.is_running]
        for process in started:
            process.launch()
        for process in started:
            process.wait_until_listening()
        return self

    def close(self) -> None:
        """End all, however."""
        for process in self.processes:
            process.close()


def _settings(stack: KafkaStack, bus: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "BindAddress": LOOPBACK,
        "SessionStoreType": "POSTGRES",
        "RetainedStoreType": "POSTGRES",
        "Postgres": {"Url": stack.postgres.url(stack.database)},
        "Projector": {"SessionTimeoutS": SESSION_TIMEOUT_S},
        "Kafka": {
            "Servers": stack.servers,
            "Bus": {
                "Enabled": True,
                "Topic": stack.topic,
                "Partitions": PARTITIONS,
                "LeaseS": LEASE_S,
                **bus,
            },
        },
        "ArchiveGroups": [
            {
                "Name": "MCP",
                "TopicFilter": ["#"],
                "LastValType": "POSTGRES",
                "ArchiveType": "POSTGRES",
            },
        ],
    }
