"""Brokers as processes on loopback: ours, and mosquitto as the peer it is compared with.

Tests start ``broker_under_test()``. It is ours unless the environment says
``MONSTERMQ_TEST_BROKER=mosquitto``: then the same tests judge mosquitto, and what it fails is
where the two brokers differ.
"""

import errno
import os
import random
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml
from tests.support.machine import program

LOOPBACK = "127.0.0.1"
PEER_VARIABLE = "MONSTERMQ_TEST_BROKER"

_LOOPBACKS = {socket.AF_INET: LOOPBACK, socket.AF_INET6: "::1"}
_PORTS = range(20_000, 32_000)  # below those that Linux gives to clients

START_S = 60.0
STOP_S = 60.0
TICK_S = 0.02
INFLIGHT_MAX = 100
"""The broker's default window of unacknowledged messages per client; mosquitto is set to it."""

NO_RESERVE = {"MONSTERMQ_SQLITE__MINFREEMB": "0"}
"""So no history is deleted, nor readiness refused, on a machine whose disk has little room."""


_OF_TESTS = ("MONSTERMQ_FAULT_", "MONSTERMQ_SIM_", "MONSTERMQ_TEST_")
"""Variables that steer the tests; a broker warns of those it does not know."""


class BrokerFailed(AssertionError):
    """The broker ended, or did not begin to listen; the message carries its log."""


_given: deque[int] = deque(maxlen=1_000)

# pytest-xdist says which of how many processes this is.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def free_ports(count: int) -> list[int]:
    """Return TCP ports of loopback that nobody has now, all different.

    They are none of those that the system gives to the clients of other tests, and none that was
    returned a moment ago, here or in another process of the same run: whoever has that may not
    listen yet.
    """
    ports: list[int] = []
    share = _PORTS[_WORKER::_WORKERS]
    while len(ports) < count:
        port = random.choice(share)
        if port not in _given and all(map(_is_free, _LOOPBACKS, [port] * len(_LOOPBACKS))):
            ports.append(port)
            _given.append(port)
    return ports


def users_environment() -> dict[str, str]:
    """Return this process's environment without what steers the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_TESTS)}


def _is_free(family: socket.AddressFamily, port: int) -> bool:
    try:
        with socket.create_server((_LOOPBACKS[family], port), family=family):
            return True
    except OSError as exc:
        return exc.errno != errno.EADDRINUSE  # there may be no IPv6


class BrokerProcess(ABC):
    """A broker in a directory of its own; it can be stopped, killed and started again there.

    ``start_s`` is how long a start may take.

    Attributes:
        directory: Its configuration, its data and its log.
        tcp_port: Where it serves MQTT over TCP.
        ws_port: Where it serves MQTT over WebSocket, path ``/mqtt``.
        metrics_port: Where it serves health and metrics, if it does.
        mcp_port: Where it serves MCP, if it does.
    """

    start_s = START_S

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tcp_port, self.ws_port, self.metrics_port, self.mcp_port = free_ports(4)
        self._log_path = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _prepare(self, config_yaml: str | None) -> list[str]:
        """Write the configuration and return the command line."""

    @property
    def mcp_url(self) -> str:
        """Where MCP clients connect."""
        return f"http://{LOOPBACK}:{self.mcp_port}/mcp"

    @property
    def port_variables(self) -> dict[str, str]:
        """What takes a broker to these ports whose configuration does not name them."""
        return {
            "MONSTERMQ_TCP": str(self.tcp_port),
            "MONSTERMQ_WS": str(self.ws_port),
            "MONSTERMQ_METRICS__PORT": str(self.metrics_port),
            "MONSTERMQ_MCP__PORT": str(self.mcp_port),
        }

    def start(self, config_yaml: str | None = None, env: Mapping[str, str] | None = None) -> Self:
        """Start the process and return once its TCP port accepts.

        Args:
            config_yaml: Settings that replace or add to the harness's own, by top-level key.
            env: Variables on top of this process's environment and ``NO_RESERVE``.

        Raises:
            BrokerFailed: It ended, or nothing listened within ``START_S``.
        """
        self.launch(config_yaml, env)
        self.wait_until_listening()
        return self

    def launch(self, config_yaml: str | None = None, env: Mapping[str, str] | None = None) -> None:
        """Start the process, see ``start``, and wait for nothing."""
        assert self._process is None, "it is running"
        command = self._prepare(config_yaml)
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**users_environment(), **NO_RESERVE, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_listening(self) -> None:
        """Return once its port accepts.

        Raises:
            BrokerFailed: It ended, or nothing listened within ``START_S``.
        """
        process = self._running()
        for _ in range(int(self.start_s / TICK_S)):
            try:
                socket.create_connection((LOOPBACK, self._main_port), timeout=1).close()
            except OSError:
                pass
            else:
                return
            try:
                status = process.wait(TICK_S)
            except subprocess.TimeoutExpired:
                continue
            self._process = None
            raise BrokerFailed(f"it ended with status {status}:\n{self.log_text()}")
        self.kill()
        raise BrokerFailed(f"nothing listens on {self._main_port}:\n{self.log_text()}")

    def run_to_end(
        self, config_yaml: str | None = None, env: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Start it where it must refuse to run, see ``start``; return exit status and its words.

        Raises:
            subprocess.TimeoutExpired: It did not end within ``START_S``; it has been killed.
        """
        completed = subprocess.run(
            self._prepare(config_yaml),
            cwd=self.directory,
            env={**users_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=self.start_s,
            check=False,
        )
        return completed.returncode, completed.stdout.decode(errors="replace")

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor killed."""
        return self._process is not None

    def kill(self) -> None:
        """End it with SIGKILL: no chance to write anything."""
        self._running().kill()
        self._reap()

    def stop(self) -> int:
        """End it with SIGTERM and return its exit status.

        Raises:
            BrokerFailed: It was still there after ``STOP_S``; it has been killed.
        """
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            return self._reap()
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(f"no end after SIGTERM:\n{self.log_text()}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, and wait for nothing."""
        self._running().send_signal(number)

    def has_ended(self, *, within_s: float) -> bool:
        """Wait for it to end by itself, and return whether it has."""
        with suppress(subprocess.TimeoutExpired):
            self._running().wait(within_s)
        return self._running().returncode is not None

    def wait(self) -> int:
        """Return its exit status once it has ended by itself.

        Raises:
            subprocess.TimeoutExpired: It was still there after ``STOP_S``.
        """
        return self._reap()

    def close(self) -> None:
        """End it if it runs, however: for the end of a test."""
        if self._process is not None:
            self.kill()

    def log_text(self) -> str:
        """All it has written to standard output and standard error, over all its starts."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def _main_port(self) -> int:
        """The port that is open once it has started."""
        return self.tcp_port

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it is not running"
        return self._process

    def _reap(self) -> int:
        status = self._running().wait(STOP_S)
        self._process = None
        return status


class RunningBroker(BrokerProcess):
    """MonsterMQ, started with ``-config`` as its users start it."""

    def _prepare(self, config_yaml: str | None) -> list[str]:
        settings: dict[str, Any] = {
            "TCP": self.tcp_port,
            "WS": self.ws_port,
            "BindAddress": LOOPBACK,
            "Metrics": {"Port": self.metrics_port},
            "SessionStoreType": "SQLITE",
            "RetainedStoreType": "SQLITE",
            "SQLite": {"Path": str(self.directory / "monstermq.db")},
            "ArchiveGroups": [],
        }
        settings.update(yaml.safe_load(config_yaml or "{}"))
        config_path = self.directory / "config.yaml"
        config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return [sys.executable, "-m", "monstermq", "-config", str(config_path)]


class RunningMosquitto(BrokerProcess):
    """Debian's mosquitto with our window and no store."""

    def _prepare(self, config_yaml: str | None) -> list[str]:
        assert config_yaml is None, "mosquitto cannot be given our settings"
        config_path = self.directory / "mosquitto.conf"
        config_path.write_text(
            f"listener {self.tcp_port} {LOOPBACK}\n"
            f"listener {self.ws_port}\n"
            "protocol websockets\n"
            "socket_domain ipv4\n"
            "allow_anonymous true\n"
            "set_tcp_nodelay true\n"
            f"max_inflight_messages {INFLIGHT_MAX}\n"
            "persistence false\n",
            encoding="utf-8",
        )
        return [program("mosquitto"), "-c", str(config_path)]


def broker_under_test(directory: Path) -> BrokerProcess:
    """Return the broker the tests judge, not yet started."""
    choice = os.environ.get(PEER_VARIABLE, "monstermq")
    brokers: dict[str, type[BrokerProcess]] = {
        "monstermq": RunningBroker,
        "mosquitto": RunningMosquitto,
    }
    return brokers[choice](directory)
