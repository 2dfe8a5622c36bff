"""Kafka Connect with the Iceberg sink, and pyiceberg, as ``docs/data-lake.md`` shows them."""

import asyncio
import base64
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from tests.lake.document import SERVERS, TOPIC, block, blocks
from tests.lake.filled_bus import FilledBus
from tests.lake.rows import expected_of, rows_of
from tests.lake.tools import (
    CONNECT,
    ICEBERG_SINK,
    TOOL_S,
    adapted,
    fetched,
    java,
    run_python,
)
from tests.support.broker import LOOPBACK, TICK_S, free_ports
from tests.support.kafka_tools import create_topic
from tests.support.postgres import PostgresServer

SECTION = "Kafka Connect and Iceberg"
COMMITTED = "committed to 1 table(s)"
LOGGING = """\
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
logger.sink.name=org.apache.iceberg.connect
logger.sink.level=INFO
"""
QUICK_WORKER = """
listeners=http://127.0.0.1:{port}
plugin.discovery=service_load
offset.flush.interval.ms=500
"""
QUICK_SINK = """
iceberg.control.commit.interval-ms=2000
"""
CATALOG = "localhost:5432/lake"
CONTROL_TOPIC = "control-iceberg"
KEPT = "kept.parquet"
KEEP = f"""
import pyarrow.parquet

pyarrow.parquet.write_table(messages, {KEPT!r})
"""


class Worker:
    """A standalone worker of Kafka Connect with one connector, running.

    Args:
        folder: Its files and its log.
        worker: Its own properties.
        connector: The connector's.
    """

    def __init__(self, folder: Path, worker: str, connector: str) -> None:
        self._log_path = folder / "connect.log"
        files = {"worker": worker, "lake": connector, "log4j2": LOGGING}
        paths = {name: folder / f"{name}.properties" for name in files}
        for name, text in files.items():
            paths[name].write_text(text, encoding="utf-8")
        command = java(
            CONNECT,
            "org.apache.kafka.connect.cli.ConnectStandalone",
            paths["worker"],
            paths["lake"],
            options=[f"-Dlog4j2.configurationFile={paths['log4j2']}"],
        )
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_for_commits(self, count: int) -> None:
        """Return once the sink has committed to its table so many times.

        Raises:
            AssertionError: The worker or the connector failed, or it took longer than ``TOOL_S``.
        """
        deadline = time.monotonic() + TOOL_S
        while (log := self._log()).count(COMMITTED) < count:
            assert " ERROR " not in log, log
            assert time.monotonic() < deadline, log
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"it ended with {self._process.wait(TICK_S)}: {self._log()}")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _log(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """Host, port and name of an empty database, for the catalog."""
    name = postgres_server.create_database()
    yield f"{LOOPBACK}:{postgres_server.port}/{name}"
    postgres_server.drop_database(name)


def test_iceberg_has_each_message_once_to_the_millisecond_and_no_note(
    bus: FilledBus, database: str, tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/iceberg").symlink_to(fetched(ICEBERG_SINK))
    worker, connector = blocks(SECTION, "properties")
    own = {SERVERS: bus.servers, "/opt/connect": tmp_path, "/var/lib/connect": tmp_path}
    worker = adapted(worker, own) + QUICK_WORKER.format(port=free_ports(1)[0])
    own = {TOPIC: bus.topic, CATALOG: database, "/srv/lake": tmp_path}
    connector = adapted(connector, own) + QUICK_SINK
    asyncio.run(create_topic(bus.servers, CONTROL_TOPIC))
    running = Worker(tmp_path, worker, connector)
    rows: list[dict[str, Any]] = []
    commits = 0
    try:
        while len(rows) < len(bus.messages):
            # What the sink reads in the middle of a commit comes with the next one.
            commits += 1
            running.wait_for_commits(commits)
            rows = read_table(database, tmp_path)
    finally:
        running.close()
    assert rows_of([{**row, "bytes": payload(row)} for row in rows]) == expected_of(bus.messages)
    assert bus.controls > 0
    assert "control" not in rows[0]


def read_table(database: str, folder: Path) -> list[dict[str, Any]]:
    """Return what the document's Python reads of the table."""
    run_python(adapted(block(SECTION, "python"), {CATALOG: database}) + KEEP, folder)
    rows: list[dict[str, Any]] = parquet.read_table(folder / KEPT).to_pylist()
    return rows


def payload(row: dict[str, Any]) -> bytes:
    """Return the bytes that a client published."""
    if row["payloadBase64"] is not None:
        return base64.b64decode(row["payloadBase64"], validate=True)
    return str(row["payload"]).encode()
