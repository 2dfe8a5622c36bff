"""``monstermq`` on the Kafka bus: one configuration, one command, every process it asks for."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from mcp.client import Client
from tests.support.broker import LOOPBACK, TICK_S, free_ports
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import new_topic_name
from tests.support.load import Cast
from tests.support.postgres import PostgresServer
from tests.support.repository import ROOT

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

EXAMPLE = ROOT / "examples" / "config-kafka-bus.yaml"
PATIENCE_S = 90.0
PROCESSES = ["projector-views-postgres", "projector-sessions-postgres", "edge", "mcp"]


class Stack:
    """The shipped example, on ports and servers of this test."""

    def __init__(self, folder: Path, kafka: KafkaServer, postgres: PostgresServer) -> None:
        self.folder = folder
        self.postgres = postgres
        self.database = postgres.create_database()
        self.tcp_port, ws_port, self.metrics_port, self.mcp_port = free_ports(4)
        replaced = {
            "1883": str(self.tcp_port),
            "9000": str(ws_port),
            "Port: 3000": f"Port: {self.mcp_port}",
            "localhost:9092": kafka.address(),
            "monstermq-stream ": f"{new_topic_name()} ",
            "localhost:5432/monster": f"{LOOPBACK}:{postgres.port}/{self.database}",
        }
        text = EXAMPLE.read_text()
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        self.config = folder / "config.yaml"
        self.config.write_text(f"{text}\nMetrics:\n  Port: {self.metrics_port}\n")
        self.log_path = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("wb") as log:
            command = [sys.executable, "-m", "monstermq", "-config", str(self.config)]
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self.process

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://{LOOPBACK}:{self.metrics_port}{path}"
        with suppress(OSError):
            try:
                with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as exc:
                return exc.code, exc.read().decode()
        return 0, ""

    def is_ready(self) -> bool:
        return self.get("/ready")[0] == 200

    def until(self, holds: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, self.log
            time.sleep(TICK_S)

    def child(self, module: str) -> psutil.Process:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return next(at for at in children if module in at.cmdline())

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.process.pid).children():
                    child.kill()
            self.process.kill()
            self.process.wait()


@pytest.fixture
def stack(
    tmp_path: Path, kafka_server: KafkaServer, postgres_server: PostgresServer
) -> Iterator[Stack]:
    stack = Stack(tmp_path, kafka_server, postgres_server)
    yield stack
    stack.close()


async def publish(cast: Cast, stack: Stack, *payloads: bytes) -> None:
    """Publish retained messages of QoS 1, and see each come back."""
    subscriber, publisher = await cast.peer(stack.tcp_port), await cast.peer(stack.tcp_port)
    await subscriber.connect("subscriber")
    await subscriber.subscribe(("plant/#", 1))
    await publisher.connect("publisher")
    for payload in payloads:
        await publisher.publish("plant/1", payload, qos=1)
        assert (await subscriber.take()).payload == payload
    await subscriber.disconnect()
    await publisher.disconnect()


def archived(stack: Stack) -> list[str]:
    rows = stack.postgres.psql(
        "SELECT payload FROM mcparchive ORDER BY position", database=stack.database
    )
    return rows.split()


async def ask_model_context(stack: Stack) -> None:
    """Ask the MCP server for what the tables and the bus have."""
    async with Client(f"http://{LOOPBACK}:{stack.mcp_port}/mcp") as client:
        values = await client.call_tool("get-topic-value", {"topics": ["plant/#"]})
        log = await client.call_tool("read-log", {"topics": ["plant/#"]})
    for answer in (values, log):
        assert not answer.is_error
        assert "plant/1" in json.dumps(answer.structured_content)


async def test_one_command_starts_all_in_order_keeps_it_running_and_stops_it(
    stack: Stack, cast: Cast
) -> None:
    process = stack.launch()
    stack.until(stack.is_ready)
    started = [stack.log.index(f"{name} is started") for name in PROCESSES]
    assert started == sorted(started)
    await publish(cast, stack, b"1", b"2")
    stack.until(lambda: archived(stack) == ["1", "2"])
    await ask_model_context(stack)
    _, metrics = stack.get("/metrics")
    assert 'monstermq_clients_connected{process="edge"}' in metrics
    labels = '{process="projector-views-postgres",projection="MCPArchive"}'
    lag = f"monstermq_projection_lag_records{labels} 0.0"
    stack.until(lambda: lag in stack.get("/metrics")[1])
    modules = ("monstermq_edge", "monstermq_projector", "monstermq_mcp")
    for child in [stack.child(module) for module in modules]:
        child.kill()
    again = 'monstermq_process_starts_total{process="%s"} 2.0'
    names = ("edge", "projector-views-postgres", "mcp")
    stack.until(lambda: all(again % name in stack.get("/metrics")[1] for name in names))
    stack.until(stack.is_ready)
    await publish(cast, stack, b"3")
    stack.until(lambda: archived(stack) == ["1", "2", "3"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == ExitCode.OK
    assert stack.log.rstrip().endswith("monstermq_shared.supervisor.command stopped")


def test_a_database_that_is_not_there_ends_it_with_its_exit_code(stack: Stack) -> None:
    text = stack.config.read_text()
    stack.config.write_text(text.replace(f":{stack.postgres.port}/", ":1/"))
    assert stack.launch().wait(PATIENCE_S) == ExitCode.STORE_UNREACHABLE
    assert "projector-views-postgres ended before it was ready" in stack.log
    assert f"{LOOPBACK}:1" in stack.log
    assert "Traceback" not in stack.log
