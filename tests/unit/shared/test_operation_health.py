"""Health, readiness and metrics over real HTTP, also for peers who do not mean well."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias

import pytest
import uvloop
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monstermq_edge.operation.page import Page
from monstermq_shared.counters import Counters
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation import health
from monstermq_shared.operation.health import OperationServer, Place, Readiness

WITHIN_S = 5

Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Broker:
    """What the server is told of the broker it belongs to."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.warnings: list[str] = []
        self.registry = CollectorRegistry()
        Counter("served", "What was served.", registry=self.registry).inc(3)
        self.counters = Counters()
        self.server = self.make(self.readiness)

    def make(
        self,
        readiness: Callable[[], Readiness] = lambda: Readiness([]),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> OperationServer:
        """Return a server that is not started."""
        page = Page(ws=9000, path="/mqtt")
        return OperationServer(
            Place(host=host, port=port),
            self.registry,
            readiness,
            page=page,
            counters=self.counters,
        )

    def readiness(self) -> Readiness:
        return Readiness(self.reasons, self.warnings)

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


async def test_ready_tells_what_is_wrong_although_clients_may_come(broker: Broker) -> None:
    assert json.loads((await broker.request("/ready")).body) == {"status": "ready", "reasons": []}
    broker.warnings = ["no projector"]
    answer = await broker.request("/ready")
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "status": "ready",
        "reasons": [],
        "warnings": ["no projector"],
    }
    broker.reasons = ["the database is full"]
    answer = await broker.request("/ready")
    assert answer.status == 503
    assert json.loads(answer.body)["warnings"] == ["no projector"]


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


@pytest.mark.parametrize(
    "path", ["/health/", "/healthy", "/index.html", "/../health", "/%00", "//health"]
)
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
        server = Broker().make(port=taken.getsockname()[1])
        with pytest.raises(StartupError, match=r"Metrics\.Port") as failure:
            await server.start()
    assert failure.value.exit_code == ExitCode.PORT_IN_USE
    await server.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "::zz", "no such host"])
async def test_an_address_that_is_not_ours_ends_the_start(host: str) -> None:
    server = Broker().make(host=host)
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


async def is_cut(connection: Connection) -> bool:
    """Return once the server has ended the connection, and whether it said nothing before."""
    try:
        return await asyncio.wait_for(connection[0].read(), WITHIN_S) == b""
    except ConnectionResetError:
        return True


async def test_the_oldest_connection_makes_room_for_a_new_one(broker: Broker) -> None:
    opened = [
        await asyncio.open_connection("127.0.0.1", broker.server.port)
        for _ in range(health.CONNECTIONS_MAX + 2)
    ]
    first, second, *others = opened
    assert await is_cut(first)
    assert await is_cut(second)
    assert broker.counters.operation_connections_cut == 2
    for reader, writer in (others[0], others[-1]):
        writer.write(b"GET /health HTTP/1.1\r\nHost: b\r\n\r\n")
        assert Answer(await asyncio.wait_for(reader.read(), WITHIN_S)).status == 200
    for _, writer in opened:
        writer.close()


SLOW_PEERS = 300


@pytest.mark.parametrize("peers", ["silent", "dripping", "deaf"])
async def test_slow_peers_keep_nobody_from_asking(broker: Broker, peers: str) -> None:
    """Whatever they do: send nothing, a byte now and then, or read nothing of a long answer."""
    broker.reasons = ["x" * 100_000]
    loop = asyncio.get_running_loop()
    slow = [socket.socket() for _ in range(SLOW_PEERS)]
    for peer in slow:
        peer.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(peer, ("127.0.0.1", broker.server.port))
        if peers == "deaf":
            await loop.sock_sendall(peer, b"GET /ready HTTP/1.1\r\nHost: b\r\n\r\n")
    for path, status in [("/health", 200), ("/metrics", 200), ("/", 200), ("/ready", 503)] * 3:
        if peers == "dripping":
            for peer in slow:
                with contextlib.suppress(ConnectionError):
                    await loop.sock_sendall(peer, b"G")
        assert (await broker.request(path)).status == status
    if peers != "deaf":  # what the kernel takes of an answer ends its connection for us
        assert broker.counters.operation_connections_cut >= SLOW_PEERS - health.CONNECTIONS_MAX
    for peer in slow:
        peer.close()


async def test_a_crowd_that_asks_for_metrics_at_once_costs_as_much_as_one() -> None:
    readings = 0

    class Reading(Collector):
        def collect(self) -> Iterator[Metric]:
            nonlocal readings
            readings += 1
            yield GaugeMetricFamily("readings", "How often it was read.", readings)

    broker = Broker()
    broker.registry.register(Reading())
    await broker.server.start()
    readings = 0
    asked = [broker.request("/metrics") for _ in range(100)]
    answers = {answer.body for answer in await asyncio.gather(*asked)}
    assert len(answers) == readings < 100
    assert (await broker.request("/metrics")).body not in answers
    await broker.server.stop()


async def test_a_failing_check_is_an_error_that_is_logged_once(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Readiness:
        raise ValueError("hunter\n2")

    server = broker.make(broken)
    await server.start()
    broker.server, healthy = server, broker.server
    assert [(await broker.request("/ready")).status for _ in range(3)] == [500, 500, 500]
    assert (await broker.request("/health")).status == 200
    await server.stop()
    broker.server = healthy
    assert [entry.levelname for entry in caplog.records if entry.name == health.__name__] == [
        "ERROR"
    ]
