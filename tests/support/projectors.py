"""Projectors as processes, on a bus that a test writes to."""

import asyncio
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import time_ns
from typing import Any

import asyncpg
import orjson
import yaml
from tests.support.broker import LOOPBACK, TICK_S, free_ports
from tests.support.kafka_tools import new_topic_name

from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import Record

PATIENCE_S = 60.0
PARTITIONS = 4
ARCHIVE = "SELECT topic, payload_blob FROM garchive ORDER BY topic, position"


class Setting:
    """A bus, a database, and the configuration that joins them.

    Args:
        folder: For the configuration and the logs.
        servers: Kafka's.
        database_url: An empty PostgreSQL database.
        topic: The bus's, by default a new one.
        more: What else the configuration says.
    """

    def __init__(
        self,
        folder: Path,
        servers: str,
        database_url: str,
        *,
        topic: str | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.topic = topic or new_topic_name()
        self.database_url = database_url
        values: dict[str, Any] = {
            "SessionStoreType": "POSTGRES",
            "RetainedStoreType": "POSTGRES",
            "Postgres": {"Url": database_url},
            "Projector": {"SessionTimeoutS": 2},
            "Kafka": {
                "Servers": servers,
                "Bus": {
                    "Enabled": True,
                    "Topic": self.topic,
                    "Partitions": PARTITIONS,
                },
            },
            "ArchiveGroups": [
                {
                    "Name": "G",
                    "TopicFilter": ["#"],
                    "LastValType": "POSTGRES",
                    "ArchiveType": "POSTGRES",
                }
            ],
            **(more or {}),
        }
        self.path = folder / "config.yaml"
        self.path.write_text(yaml.safe_dump(values))
        self.config: BrokerConfig = load_config(self.path, {}).config

    @asynccontextmanager
    async def bus(self) -> AsyncIterator["Writer"]:
        """Open the bus, whose topics are made if they are missing."""
        bus = await open_kafka_bus(KafkaSettings.from_config(self.config))
        try:
            yield Writer(bus)
        finally:
            await bus.close()

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def archived(self) -> list[bytes]:
        """Return the payloads of the archive, by topic and position."""
        return [payload for _, payload in await self.rows(ARCHIVE)]

    async def retained(self) -> dict[str, bytes]:
        """Return topic -> payload of what is retained."""
        return dict(await self.rows("SELECT topic, payload_blob FROM retainedmessages"))


class Writer:
    """Appends messages as an edge does.

    Attributes:
        bus: The bus.
        sent: Topic -> payloads, in order.
    """

    def __init__(self, bus: KafkaBus) -> None:
        self.bus = bus
        self.sent: dict[str, list[bytes]] = {}
        self._sequences: dict[int, int] = {}

    async def publish(self, topic: str, *payloads: bytes, retained: bool = False) -> None:
        """Append messages of one topic, and return when Kafka has them."""
        log = self.bus.messages
        partition = log.partition_of(topic)
        first = self._sequences.get(partition, 0)
        now_ms = time_ns() // 1_000_000
        records = [Record(topic, each, 1, retained, "c", now_ms, 0) for each in payloads]
        self._sequences[partition] = first + len(records)
        self.sent.setdefault(topic, []).extend(payloads)
        await log.append(partition, records, Stamp(self.bus.run, first))

    def expected(self) -> list[bytes]:
        """Return what the archive has once all is folded."""
        return [payload for topic in sorted(self.sent) for payload in self.sent[topic]]


class ProjectorProcess:
    """``monstermq-projector`` for the views.

    Attributes:
        port: Of its /ready and /metrics.
    """

    def __init__(self, setting: Setting, name: str = "projector", kinds: str = "VIEWS") -> None:
        (self.port,) = free_ports(1)
        self._setting = setting
        self._kinds = kinds
        self._log_path = setting.folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it."""
        assert self._process is None
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "monstermq_projector"),
                    *("-config", str(self._setting.path), "--kinds", self._kinds),
                ],
                env={"PATH": "/usr/bin:/bin", "MONSTERMQ_PROJECTOR__PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def start(self) -> None:
        """Start it, and return once it is ready."""
        self.launch()
        await until(self.is_ready, self)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait(self) -> int:
        """Return its exit status once it has ended."""
        code = await asyncio.to_thread(self.process.wait, PATIENCE_S)
        self._process = None
        return code

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.wait()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def _get(self, path: str) -> tuple[int, bytes]:
        with suppress(OSError):
            try:
                url = f"http://{LOOPBACK}:{self.port}{path}"
                with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as exc:
                return exc.code, exc.read()
        return 0, b""

    async def is_ready(self) -> bool:
        return (await asyncio.to_thread(self._get, "/ready"))[0] == 200

    async def reasons(self) -> list[str]:
        _, body = await asyncio.to_thread(self._get, "/ready")
        return list(orjson.loads(body)["reasons"]) if body else []

    async def metric(self, name: str) -> float:
        """Return the value of a metric, as it is written with its labels."""
        _, body = await asyncio.to_thread(self._get, "/metrics")
        for line in body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return -1.0


async def until(holds: Callable[[], Any], *processes: ProjectorProcess) -> None:
    """Ask again and again until a coroutine returns something true."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():  # noqa: ASYNC110 - other processes' doing
                await asyncio.sleep(TICK_S)
    except TimeoutError:
        raise AssertionError("\n".join(process.log for process in processes)) from None
