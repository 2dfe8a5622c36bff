"""Health, readiness and metrics over real HTTP, also for peers who do not mean well."""

import asyncio
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator

import pytest
import uvloop
from prometheus_client import CollectorRegistry, Counter

from monstermq_edge.operation import health
from monstermq_edge.operation.health import OperationServer
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode

WITHIN_S = 5


class Broker:
    """What the server is told of the broker it belongs to."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.registry = CollectorRegistry()
        Counter("served", "What was served.", registry=self.registry).inc(3)
        self.server = OperationServer("127.0.0.1", 0, self.registry, self.readiness)

    def readiness(self) -> list[str]:
        return self.reasons

    async def send(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own and return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), WITHIN_S)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def request(self, path: str, method: str = "GET", headers: str = "") -> "Answer":
        head = f"{method} {path} HTTP/1.1\r\nHost: broker\r\n{headers}\r\n"
        return Answer(await self.send(head.encode()))


class Answer:
    """An HTTP response, taken apart."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        status, *headers = head.decode().split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = {
            name.lower(): value for name, value in (header.split(": ", 1) for header in headers)
        }


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    broker = Broker()
    await broker.server.start()
    yield broker
    await broker.server.stop()


async def test_health_says_the_loop_turns(broker: Broker) -> None:
    answer = await broker.request("/health")
    assert answer.status == 200
    assert json.loads(answer.body) == {"status": "alive"}
    assert answer.headers["content-type"] == "application/json"


async def test_ready_says_why_not(broker: Broker) -> None:
    assert (await broker.request("/ready")).status == 200
    broker.reasons = ["the database is full"]
    answer = await broker.request("/ready")
    assert answer.status == 503
    assert json.loads(answer.body) == {
        "status": "not ready",
        "reasons": ["the database is full"],
    }
    assert (await broker.request("/health")).status == 200


async def test_metrics_come_from_the_registry(broker: Broker) -> None:
    answer = await broker.request("/metrics")
    assert answer.status == 200
    assert b"served_total 3.0" in answer.body
    assert answer.headers["content-type"].startswith("text/plain")


async def test_metrics_come_in_the_format_that_is_asked_for(broker: Broker) -> None:
    answer = await broker.request(
        "/metrics", headers="Accept: application/openmetrics-text; version=1.0.0\r\n"
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("path", ["/", "/health/", "/healthy", "/../health", "/%00", "//health"])
async def test_an_unknown_path_is_not_found(broker: Broker, path: str) -> None:
    assert (await broker.request(path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
async def test_another_method_is_not_allowed(broker: Broker, method: str) -> None:
    assert (await broker.request("/metrics", method)).status == 405


async def test_head_is_answered_without_a_body(broker: Broker) -> None:
    answer = await broker.request("/health", "HEAD")
    assert answer.status == 200
    assert answer.body == b""


async def test_a_connection_carries_one_request(broker: Broker) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: broker\r\n\r\n"
    answers = await broker.send(request * 100)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answers


async def test_a_port_in_use_ends_the_start_and_names_the_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = OperationServer("127.0.0.1", taken.getsockname()[1], CollectorRegistry(), list)
        with pytest.raises(StartupError, match=r"Metrics\.Port") as failure:
            await server.start()
    assert failure.value.exit_code == ExitCode.PORT_IN_USE
    await server.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "::zz", "no such host"])
async def test_an_address_that_is_not_ours_ends_the_start(host: str) -> None:
    server = OperationServer(host, 0, CollectorRegistry(), list)
    with pytest.raises(StartupError) as failure:
        await server.start()
    assert failure.value.exit_code == ExitCode.PORT_IN_USE


async def test_after_stop_the_port_is_free_and_connections_are_gone() -> None:
    broker = Broker()
    await broker.server.start()
    port = broker.server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await broker.server.stop()
    await broker.server.stop()
    assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
    writer.close()
    socket.create_server(("127.0.0.1", port)).close()


async def test_signal_handlers_stay_the_hosts() -> None:
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    broker = Broker()
    await broker.server.start()
    during = {name: signal.getsignal(name) for name in before}
    await broker.server.stop()
    assert during == before


def test_it_runs_in_a_uvloop() -> None:
    async def ask() -> tuple[bytes, int]:
        broker = Broker()
        await broker.server.start()
        refused = await broker.send(b"garbage\r\n\r\n")
        answer = await broker.request("/metrics")
        await broker.server.stop()
        return refused[:12], answer.status

    assert uvloop.run(ask()) == (b"HTTP/1.1 400", 200)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: b\r\nContent-Length: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"\r\n" * 10_000,
        bytes(range(256)) * 100,
    ],
)
async def test_garbage_ends_its_connection_and_nothing_else(
    broker: Broker, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    answer = await broker.send(garbage)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
    assert (await broker.request("/health")).status == 200
    assert [entry for entry in caplog.records if entry.name != "asyncio"] == []


async def flood(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(65_536))
        await writer.drain()


async def test_a_body_is_not_read_into_memory(broker: Broker) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.server.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000000\r\n\r\n")
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN_S)
    assert answer.startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(flood(writer), WITHIN_S)
    assert (await broker.request("/health")).status == 200


@pytest.mark.parametrize("start", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: b\r\n"])
async def test_half_a_request_is_cut_off(
    broker: Broker, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CONNECTION_DEADLINE_S", 0.01)
    assert await broker.send(start) == b""


async def test_connections_are_bounded(broker: Broker) -> None:
    opened = [
        await asyncio.open_connection("127.0.0.1", broker.server.port)
        for _ in range(health.CONNECTIONS_MAX + 1)
    ]
    beyond, _ = opened[-1]
    assert await asyncio.wait_for(beyond.read(), WITHIN_S) == b""
    reader, writer = opened[0]
    writer.write(b"GET /health HTTP/1.1\r\nHost: b\r\n\r\n")
    assert Answer(await asyncio.wait_for(reader.read(), WITHIN_S)).status == 503
    for _, writer in opened:
        writer.close()
    # All are closed when the server has read every end; until then it says it has no room.
    async with asyncio.timeout(WITHIN_S):
        while (await broker.request("/health")).status != 200:
            pass


async def test_a_failing_check_is_an_error_that_is_logged_once(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[str]:
        raise ValueError("hunter\n2")

    server = OperationServer("127.0.0.1", 0, CollectorRegistry(), broken)
    await server.start()
    broker.server, healthy = server, broker.server
    assert [(await broker.request("/ready")).status for _ in range(3)] == [500, 500, 500]
    assert (await broker.request("/health")).status == 200
    await server.stop()
    broker.server = healthy
    assert [entry.levelname for entry in caplog.records if entry.name == health.__name__] == [
        "ERROR"
    ]
