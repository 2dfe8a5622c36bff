"""A broker as a whole in this process: failed starts, readiness, and faults in its own tasks."""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from tests.support.broker import LOOPBACK, free_ports
from tests.support.certificates import CertificateAuthority
from tests.support.host import host_of
from tests.support.mqtt_peer import ConnectOptions, Peer
from tests.support.stage import PEER

from monstermq_edge.broker import Broker
from monstermq_edge.companion import Companion
from monstermq_edge.engines.local.maintenance import Job
from monstermq_edge.faults import Faults
from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.network import tls
from monstermq_edge.operation.repeated import Repeated
from monstermq_shared import retries
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import load_config
from monstermq_shared.counters import Counters
from monstermq_shared.errors import StartupError, StoreError, StoreUnavailable
from monstermq_shared.stores.needed import RETAINED

DEADLINE_S = 20.0


class Lot:
    """Brokers in one directory, and what they were configured to listen on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.tcp, self.ws = free_ports(2)
        self.companions: list[Companion] = []

    def broker(self, **changes: object) -> Broker:
        """Return a broker that is not started."""
        settings: dict[str, Any] = {
            "TCP": self.tcp,
            "WS": self.ws,
            "BindAddress": LOOPBACK,
            "Metrics": {"Enabled": False},
            "SessionStoreType": "SQLITE",
            "RetainedStoreType": "SQLITE",
            "SQLite": {"Path": str(self._directory / "monstermq.db"), "MinFreeMb": 0},
            "ArchiveGroups": [],
        }
        path = self._directory / "config.yaml"
        path.write_text(yaml.safe_dump({**settings, **changes}), encoding="utf-8")
        companions = self.companions
        return Broker(load_config(path, {}).config, "1.2.3", companions=lambda *_: companions)


@pytest.fixture
def lot(tmp_path: Path) -> Lot:
    return Lot(tmp_path)


@pytest.fixture
async def broker(lot: Lot) -> AsyncIterator[Broker]:
    broker = lot.broker()
    await broker.start()
    yield broker
    await broker.stop()


def other_tasks() -> set[str]:
    """Return the names of the tasks that run beside this one."""
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_a_failed_start_leaves_no_task_no_port_and_no_database(lot: Lot) -> None:
    before = other_tasks()
    with socket.create_server((LOOPBACK, lot.ws)), pytest.raises(StartupError, match="WS"):
        await lot.broker().start()
    assert other_tasks() == before
    with contextlib.closing(socket.create_server((LOOPBACK, lot.tcp))):
        pass
    again = lot.broker()  # the database's lock is free
    await again.start()
    await again.stop()
    assert other_tasks() == before


async def test_a_start_that_fails_at_the_metrics_port_leaves_nothing_either(lot: Lot) -> None:
    before = other_tasks()
    with socket.create_server((LOOPBACK, 0)) as taken:
        metrics = {"Port": taken.getsockname()[1], "BindAddress": LOOPBACK}
        with pytest.raises(StartupError, match=r"Metrics\.Port"):
            await lot.broker(Metrics=metrics).start()
    assert other_tasks() == before


async def test_readiness_follows_the_broker_from_start_to_stop(lot: Lot) -> None:
    broker = lot.broker()
    await broker.start()
    assert broker.readiness() == []
    peer = await Peer.open(lot.tcp)
    await peer.connect("c")
    stop = asyncio.create_task(broker.stop())
    await asyncio.sleep(0)
    assert broker.readiness() == ["the broker is stopping"]
    async with asyncio.timeout(DEADLINE_S):
        await stop
    await peer.closed()
    peer.drop()


# -- certificates read again ---------------------------------------------------------------------


async def test_any_number_of_reloads_asked_for_during_one_are_one_more_and_the_loop_goes_on(
    lot: Lot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = CertificateAuthority(tmp_path).issue("server")
    files = {"CertFile": str(server.cert_file), "KeyFile": str(server.key_file)}
    broker = lot.broker(TCPS=free_ports(1)[0], TLS=files)
    await broker.start()
    build = tls.build_ssl_context
    begun, go_on = threading.Event(), threading.Event()
    reloads = 0

    def build_slowly(settings: tls.TlsSettings) -> ssl.SSLContext:
        nonlocal reloads
        reloads += 1
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return build(settings)

    monkeypatch.setattr(tls, "build_ssl_context", build_slowly)
    broker.reload()
    # By this thread, so the loop turns while the files are being read.
    await asyncio.to_thread(begun.wait, DEADLINE_S)
    peer = await Peer.open(lot.tcp)
    await peer.connect("c")
    for _ in range(100):
        broker.reload()
    assert reloads == 1
    go_on.set()
    async with asyncio.timeout(DEADLINE_S):
        await broker._reloading.idle()
    assert reloads == 2
    peer.drop()
    await broker.stop()


async def test_whoever_asks_during_a_run_gets_one_that_begins_afterwards() -> None:
    runs = 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        begun.set()
        await go_on.wait()

    repeated = Repeated(run, contextlib.nullcontext)
    async with asyncio.timeout(DEADLINE_S):
        repeated.ask()
        await begun.wait()
        for _ in range(100):
            repeated.ask()
        go_on.set()
        await repeated.idle()
        assert runs == 2
        repeated.ask()
        await repeated.end()
    assert runs == 2  # it was asked for, and had not begun


async def test_a_run_that_meets_a_bug_is_noted_and_can_be_asked_for_again() -> None:
    counters = Counters()
    faults = Faults(counters, SystemClock())

    async def run() -> None:
        raise KeyError("bug")

    repeated = Repeated(run, lambda: faults.contained("a run"))
    for n in (1, 2):
        repeated.ask()
        await repeated.idle()
        assert counters.faults == n


# -- faults in what everybody depends on ---------------------------------------------------------


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("part", "named"), [("tick", "ticks"), ("take_turn", "commits"), ("committed", "commits")]
)
async def test_a_fault_in_the_engine_ends_the_broker(
    lot: Lot, broker: Broker, monkeypatch: pytest.MonkeyPatch, part: str, named: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(host_of(broker).engine, part, failing(KeyError("bug")))
        peer = await Peer.open(lot.tcp)
        await peer.send(b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01c")
        async with asyncio.timeout(DEADLINE_S):
            error = await broker.failed
    assert named in str(error)
    peer.drop()


async def test_a_database_that_hangs_is_told_before_any_time_out(
    lot: Lot, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retries, "LATE_S", 0.0)
    primary = host_of(broker).databases.primary
    commit, asked, answers = primary.commit, asyncio.Event(), asyncio.Event()

    async def hang(*args: Any) -> Any:
        asked.set()
        await answers.wait()
        return await commit(*args)

    monkeypatch.setattr(primary, "commit", hang)
    peer = await Peer.open(lot.tcp)
    connecting = asyncio.create_task(peer.connect("c", ConnectOptions(clean=False)))
    late = "no answer for more than 0 s"
    async with asyncio.timeout(DEADLINE_S):
        await asked.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert broker.readiness() == [f"the database does not take commits: {late}"]
        answers.set()
        await connecting
    assert broker.readiness() == []
    told = [message.partition(": ")[2] for message in caplog.messages if late in message]
    assert told == [f"commits hang: {late}"]
    peer.drop()


async def test_a_page_that_cannot_be_read_ends_the_broker_and_no_stop_waits_for_it(
    lot: Lot, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(*_: object, **__: object) -> list[Any]:
        raise StoreError("damaged")

    retained = host_of(broker).databases.primary.message_store(RETAINED)
    monkeypatch.setattr(retained, "find", find)
    peer = await Peer.open(lot.tcp)
    await peer.connect("c")
    await peer.subscribe(("#", 0))
    async with asyncio.timeout(DEADLINE_S):
        error = await broker.failed
        assert str(error) == "damaged"
        assert not await broker.host.drain(within_s=DEADLINE_S)
    peer.drop()


# -- faults in maintenance -----------------------------------------------------------------------


async def test_a_job_that_fails_is_told_and_done_again_and_ends_nothing(broker: Broker) -> None:
    outcomes: list[Exception | None] = [KeyError("bug"), StoreUnavailable("busy"), None]
    readiness: list[list[str]] = []
    done = asyncio.Event()

    async def run() -> None:
        readiness.append(broker.readiness())
        if not outcomes:
            done.set()
            return
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    job = Job(name="the job", run=run, interval_s=0.0)
    task = asyncio.create_task(host_of(broker)._maintenance.repeat(job))
    async with asyncio.timeout(DEADLINE_S):
        await done.wait()
    task.cancel()
    fails = ["the job fails: KeyError('bug')"]
    assert readiness == [[], fails, fails, []]
    assert broker.counters.faults == 1
    assert not broker.failed.done()


# -- what peers can provoke ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "reports",
    [
        ["client id 'a' is taken over too often", "client id 'b\"c' is taken over too often"],
        ["protocol level 6 is not supported", "protocol level 77 is not supported"],
        ["topic 'a' has 300 levels", 'topic "b\'" contains NUL'],
        ["a filter: in filter 'a#' # is not last", "a filter: nothing"],
    ],
)
async def test_what_a_peer_chose_makes_no_kind_of_event(
    broker: Broker, caplog: pytest.LogCaptureFixture, reports: list[str]
) -> None:
    connection = Connection(broker._context, PEER, None, 0.0)
    with caplog.at_level(logging.INFO):
        for report in reports:
            broker._report(connection, report)
    assert [record.getMessage() for record in caplog.records] == reports[:1]


# What runs beside it


class Beside(Collector):
    """Writes down what it is told."""

    def __init__(self, lot: Lot, *, fails: bool = False) -> None:
        self.told: list[str] = []
        self.collector = self
        self._lot = lot
        self._fails = fails

    def collect(self) -> list[Metric]:
        return [GaugeMetricFamily("beside", "A number.", value=1)]

    async def start(self) -> None:
        self.told.append(f"start while the port is {self._port()}")
        if self._fails:
            raise StartupError("MCP.Port is taken")

    async def stop(self) -> None:
        self.told.append(f"stop while the port is {self._port()}")

    def _port(self) -> str:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self._lot.tcp)):
            return "open"
        return "closed"

    def concerns(self) -> list[str]:
        return ["beside is not well"]

    def urls(self) -> list[str]:
        return ["http://beside"]


async def get(port: int, path: str) -> tuple[int, str]:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{LOOPBACK}:{port}{path}", timeout=DEADLINE_S)
        return answer.status_code, answer.text


async def test_a_companion_starts_before_and_stops_after_clients_are_let_in(lot: Lot) -> None:
    beside = Beside(lot)
    lot.companions = [beside]
    (metrics,) = free_ports(1)
    broker = lot.broker(Metrics={"Port": metrics, "BindAddress": LOOPBACK})
    await broker.start()
    assert "http://beside" in broker.urls()
    status, ready = await get(metrics, "/ready")
    assert (status, json.loads(ready)["warnings"]) == (200, ["beside is not well"])
    assert "beside 1.0" in (await get(metrics, "/metrics"))[1]
    await broker.stop()
    assert beside.told[:2] == ["start while the port is closed", "stop while the port is closed"]


async def test_a_companion_that_cannot_start_keeps_the_broker_from_it(lot: Lot) -> None:
    before = other_tasks()
    lot.companions = [Beside(lot, fails=True)]
    with pytest.raises(StartupError, match="is taken"):
        await lot.broker().start()
    assert other_tasks() == before
    lot.companions = []
    again = lot.broker()
    await again.start()
    await again.stop()
