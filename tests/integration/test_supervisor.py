"""One command for several processes: order, one /ready, restarts, one stop, no orphans."""

import asyncio
import os
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
from tests.support.broker import LOOPBACK, TICK_S, free_ports
from tests.support.repository import ROOT

from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.health import Readiness
from monstermq_shared.supervisor import child as child_module
from monstermq_shared.supervisor import supervision as supervision_module
from monstermq_shared.supervisor.child import Program
from monstermq_shared.supervisor.supervision import Supervision

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0


class Pair:
    """Two edges under a supervisor, each with a configuration of its own.

    ``taken`` is where the second one is to listen, by default where nobody does.
    """

    def __init__(self, folder: Path, taken: int | None = None) -> None:
        self.port, *self.tcp_ports = free_ports(3)
        self.tcp_ports[1] = taken or self.tcp_ports[1]
        self.log_path = folder / "log"
        configs = []
        for number, tcp_port in enumerate(self.tcp_ports):
            path = folder / f"{number}.yaml"
            path.write_text(
                f"TCP: {tcp_port}\nBindAddress: 127.0.0.1\nMetrics:\n  Port: 0\n"
                "SessionStoreType: SQLITE\nRetainedStoreType: MEMORY\n"
                f"SQLite:\n  Path: {folder}/{number}.db\n  MinFreeMb: 0\n"
            )
            configs.append(str(path))
        self.log = self.log_path.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.two_edges", str(self.port), *configs],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=self.log,
        )

    def get(self, path: str) -> tuple[int, str]:
        with suppress(OSError):
            try:
                url = f"http://{LOOPBACK}:{self.port}{path}"
                with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as exc:
                return exc.code, exc.read().decode()
        return 0, ""

    def is_ready(self) -> bool:
        return self.get("/ready")[0] == 200

    def children(self) -> list[psutil.Process]:
        """The edges, in order of their start."""
        return sorted(psutil.Process(self.process.pid).children(), key=psutil.Process.create_time)

    def log_text(self) -> str:
        return self.log_path.read_text()

    def close(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for child in self.children():
                child.kill()
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.close()


def wait_until(holds: Callable[[], object], pair: Pair) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, pair.log_text()
        time.sleep(TICK_S)


def test_both_are_started_in_order_and_answered_for(pair: Pair) -> None:
    wait_until(pair.is_ready, pair)
    log = pair.log_text()
    assert log.index("edge-1 is started") < log.index(f"mqtt://localhost:{pair.tcp_ports[0]}")
    assert log.index(f"mqtt://localhost:{pair.tcp_ports[0]}") < log.index("edge-2 is started")
    assert "INFO [edge-2] monstermq_edge.app listening on mqtt" in log
    status, metrics = pair.get("/metrics")
    assert status == 200
    assert 'monstermq_clients_connected{process="edge-1"} 0.0' in metrics
    assert 'monstermq_clients_connected{process="edge-2"} 0.0' in metrics
    assert 'monstermq_process_starts_total{process="edge-2"} 1.0' in metrics
    assert metrics.count("# TYPE monstermq_clients_connected gauge") == 1


def test_one_that_is_killed_is_started_again(pair: Pair) -> None:
    wait_until(pair.is_ready, pair)
    killed = pair.children()[0]
    killed.kill()
    twice = 'monstermq_process_starts_total{process="edge-1"} 2.0'
    wait_until(lambda: twice in pair.get("/metrics")[1], pair)
    wait_until(pair.is_ready, pair)
    assert killed.pid not in {child.pid for child in pair.children()}
    assert "edge-1 ended: killed by SIGKILL; it is started again in" in pair.log_text()


def test_one_stop_stops_all_the_last_one_first(pair: Pair) -> None:
    wait_until(pair.is_ready, pair)
    children = pair.children()
    pair.process.send_signal(signal.SIGTERM)
    assert pair.process.wait(PATIENCE_S) == ExitCode.OK
    assert not [child for child in children if child.is_running()]
    log = pair.log_text()
    assert log.index("[edge-2] monstermq_edge.app stopped") < log.index(
        "[edge-1] monstermq_edge.app stopped"
    )


def test_nobody_outlives_the_supervisor(pair: Pair) -> None:
    wait_until(pair.is_ready, pair)
    children = pair.children()
    os.kill(pair.process.pid, signal.SIGKILL)
    pair.process.wait()
    gone, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
    assert len(gone) == 2
    assert pair.log_text().count("monstermq_edge.app stopped") == 2


async def test_one_that_was_long_in_starting_is_started_again_though_nobody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a port nor a probe is needed for it: a database may have been away at the start."""
    monkeypatch.setattr(supervision_module, "START_S", 0.0)
    monkeypatch.setattr(child_module, "PAUSES_S", (0.0,))
    supervision = Supervision([Program(name="x", module="tests.support.ready_later", arguments=())])
    (child,) = supervision._children
    async with asyncio.timeout(PATIENCE_S):
        await supervision.start()
        await child.was_ready.wait()
        await supervision.refresh()
        assert supervision.readiness() == Readiness([], ["x: it took long"])
        child.signal(signal.SIGKILL)
        while child.starts < 2:  # noqa: ASYNC110 - a process's, which tells nobody
            await asyncio.sleep(TICK_S)
        await supervision.stop()
    assert child.exit_code == -signal.SIGTERM


def test_one_that_only_a_person_can_help_ends_all_with_its_exit_code(
    pair: Pair, tmp_path: Path
) -> None:
    wait_until(pair.is_ready, pair)
    (tmp_path / "0.yaml").write_text("TCP: nonsense\n")
    pair.children()[0].kill()
    assert pair.process.wait(PATIENCE_S) == ExitCode.CONFIG
    assert "edge-1 ended: exit code 2 (CONFIG); all stop" in pair.log_text()
    assert "[edge-2] monstermq_edge.app stopped" in pair.log_text()


def test_one_that_cannot_start_ends_all_with_its_exit_code(tmp_path: Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    pair = Pair(folder)
    wait_until(pair.is_ready, pair)
    second = Pair(tmp_path, pair.tcp_ports[1])
    try:
        assert second.process.wait(PATIENCE_S) == ExitCode.PORT_IN_USE
        assert "edge-2 ended before it was ready: exit code 3 (PORT_IN_USE)" in second.log_text()
        assert "[edge-1] monstermq_edge.app stopped" in second.log_text()
    finally:
        second.close()
        pair.close()
