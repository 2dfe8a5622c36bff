"""A Compose file's services as processes of this machine: its programs, commands and files.

As a container has, each has an address of its own, with the ports that its configuration says.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.support.broker import STOP_S, TICK_S
from tests.support.compose import Service, Stack
from tests.support.machine import program

from monstermq_shared.config import BrokerConfig, load_config

START_S = 90.0
"""Many processes begin at once."""

CONFIG = "/etc/monstermq/config.yaml"
BALANCER_CONFIG = "/usr/local/etc/haproxy/haproxy.cfg"


class StackFailed(AssertionError):
    """A service ended, or was not ready in time; the message carries its log."""


class LocalService:
    """One service as a process.

    Attributes:
        name: The Compose file's.
        address: Where it listens, on loopback.
        health_port: Where it says how it is.
    """

    def __init__(self, name: str, address: str, health_port: int, folder: Path) -> None:
        self.name = name
        self.address = address
        self.health_port = health_port
        self.command: list[str] = []
        self.environment: Mapping[str, str] = {}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait for nothing."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until(self, path: str, status: int = 200) -> None:
        """Return once a path of its health server answers so.

        Raises:
            StackFailed: It ended, or said something else for ``START_S``.
        """
        self._wait(lambda: self._ask(path) == status, f"{path} never said {status}")

    def wait_until_it_logs(self, text: str, *, behind: int) -> None:
        """Return once it has written this to its log, behind so many characters.

        Raises:
            StackFailed: It ended, or did not for ``START_S``.
        """
        self._wait(lambda: text in self.log[behind:], f"it never said {text!r}")

    def _wait(self, is_so: Callable[[], bool], problem: str) -> None:
        process = self._running()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if is_so():
                return
            try:
                process.wait(TICK_S)
            except subprocess.TimeoutExpired:
                continue
            problem = "it ended"
            break
        raise StackFailed(f"{self.name}: {problem}:\n{self.log}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._running().kill()
        self._running().wait(STOP_S)
        self._process = None

    def stop(self) -> int:
        """Stop it as the container engine does; return its exit status."""
        self._running().send_signal(signal.SIGTERM)
        status = self._running().wait(STOP_S)
        self._process = None
        return status

    def close(self) -> None:
        """End it if it runs."""
        if self._process is not None:
            self.kill()

    @property
    def log(self) -> str:
        """What it wrote, over all starts."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def _log_path(self) -> Path:
        return self._folder / f"{self.name}.log"

    def _ask(self, path: str) -> int | None:
        """Return the status of an answer, or None if there is none yet."""
        url = f"http://{self.address}:{self.health_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as exc:
            return exc.code
        except OSError:
            return None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} is not running"
        return self._process


class LocalStack:
    """Our services of a Compose file, and its balancer; the servers are the tests' own.

    Args:
        stack: The file.
        folder: For logs, and for the balancer's configuration.
        kafka: The server's address.
        database: PostgreSQL's URL.

    Attributes:
        services: By the Compose file's names.
        config: What all of them are told.
    """

    def __init__(self, stack: Stack, folder: Path, *, kafka: str, database: str) -> None:
        self._net = f"127.{random.randrange(2, 250)}.{random.randrange(250)}."
        self._folder = folder
        self._overrides = {"MONSTERMQ_KAFKA__SERVERS": kafka, "MONSTERMQ_POSTGRES__URL": database}
        self.config: BrokerConfig = load_config(stack.ours[0].file(CONFIG), {}).config
        self.services = {
            service.name: self._prepare(service, number)
            for number, service in enumerate(stack.ours, start=1)
        }
        self._balance(stack.services["balancer"])

    def start(self) -> Self:
        """Start all, and return once all are ready."""
        for service in self.services.values():
            service.start()
        for service in self.services.values():
            service.wait_until("/health" if service.name == "balancer" else "/ready")
        return self

    def close(self) -> None:
        """End all."""
        for service in self.services.values():
            service.close()

    def address(self, name: str) -> str:
        """Return where a service listens."""
        return self.services[name].address

    def _prepare(self, service: Service, number: int) -> LocalService:
        config = self.config
        others = {"monstermq-projector": config.projector.port, "monstermq-mcp": config.mcp.port}
        health_port = others.get(service.program, config.metrics.port)
        local = LocalService(service.name, f"{self._net}{number}", health_port, self._folder)
        file = str(service.file(CONFIG))
        arguments = [file if word == CONFIG else word for word in service.command[1:]]
        local.command = [str(Path(sys.executable).with_name(service.program)), *arguments]
        local.environment = {
            **service.environment,
            **self._overrides,
            "MONSTERMQ_BINDADDRESS": local.address,
            "MONSTERMQ_METRICS__BINDADDRESS": local.address,
            "MONSTERMQ_PROJECTOR__BINDADDRESS": local.address,
        }
        return local

    def _balance(self, service: Service) -> None:
        """Add the balancer, whose configuration names the edges by their host names."""
        address = f"{self._net}{len(self.services) + 1}"
        text = service.file(BALANCER_CONFIG).read_text(encoding="utf-8")
        (health_port,) = re.findall(r"bind 127\.0\.0\.1:(\d+)", text)
        text = text.replace("bind 127.0.0.1:", "bind :").replace("bind :", f"bind {address}:")
        for name, local in self.services.items():
            text = re.sub(rf"\b{name}:(\d+)", rf"{local.address}:\1", text)
        path = self._folder / "haproxy.cfg"
        path.write_text(text, encoding="utf-8")
        balancer = LocalService(service.name, address, int(health_port), self._folder)
        balancer.command = [program("haproxy"), "-f", str(path)]
        self.services[service.name] = balancer
