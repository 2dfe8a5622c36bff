"""SIGTERM and SIGHUP while the process starts: from its first moment on, whatever it is doing."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from tests.support.broker import NO_RESERVE, START_S, STOP_S, RunningBroker, free_ports
from tests.support.certificates import CertificateAuthority

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

STUCK_S = 0.3
"""What the bound on undoing a start is set to where the test waits for it."""


def until(holds: Callable[[], bool]) -> None:
    """Look until it holds."""
    end_s = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < end_s, "it does not come to that"


def holds_signals(pid: int) -> bool:
    """Whether the process lets SIGTERM and SIGHUP wait."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if "SigBlk" in line)
    return all(mask >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGHUP))


class Starting:
    """A broker whose configuration is a pipe: it starts no further than that until it is fed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pipe = directory / "config.yaml"
        os.mkfifo(self.pipe)
        self.log = directory / "broker.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monstermq", "-config", self.pipe],
                cwd=directory,
                env={**os.environ, **NO_RESERVE},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(lambda: holds_signals(self.process.pid))

    def wait_at_the_pipe(self) -> int:
        """Return its other end, once the process reads."""
        opened: list[int] = []

        def open_it() -> bool:
            with suppress(OSError):  # until somebody reads
                opened.append(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
            return bool(opened)

        until(open_it)
        return opened[0]

    def feed(self, pipe: int, **settings: object) -> None:
        """Let it go on."""
        lines = {"TCP": 0, "Metrics": "{Enabled: false}", "SessionStoreType": "SQLITE", **settings}
        os.write(pipe, "".join(f"{key}: {value}\n" for key, value in lines.items()).encode())
        os.close(pipe)

    def says(self, text: str) -> bool:
        return text in self.log.read_text(encoding="utf-8")

    def end(self) -> int:
        return self.process.wait(STOP_S)


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Starting]:
    starting = Starting(tmp_path)
    yield starting
    starting.process.kill()
    starting.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_at_the_first_moment_ends_it_with_exit_code_0(
    starting: Starting, number: signal.Signals
) -> None:
    """It still imports what it needs; the pipe would let it come no further than that."""
    starting.process.send_signal(number)
    assert starting.end() == ExitCode.OK
    assert starting.log.read_text(encoding="utf-8") == ""


def test_a_stop_while_it_waits_for_a_file_ends_it_with_exit_code_0(starting: Starting) -> None:
    pipe = starting.wait_at_the_pipe()
    starting.process.send_signal(signal.SIGTERM)
    assert starting.end() == ExitCode.OK
    os.close(pipe)


def test_sighups_while_starting_are_one_reload_afterwards(starting: Starting) -> None:
    server = CertificateAuthority(starting.directory).issue("server")
    for _ in range(10):
        starting.process.send_signal(signal.SIGHUP)
    pipe = starting.wait_at_the_pipe()
    for _ in range(10):
        starting.process.send_signal(signal.SIGHUP)
    tls = f"{{CertFile: {server.cert_file}, KeyFile: {server.key_file}}}"
    starting.feed(pipe, TCPS=free_ports(1)[0], TLS=tls)
    until(lambda: starting.says("certificates reloaded"))
    starting.process.send_signal(signal.SIGTERM)
    assert starting.end() == ExitCode.OK
    assert starting.log.read_text(encoding="utf-8").count("certificates reloaded") == 1


def test_a_sighup_while_starting_does_no_harm_without_tls(starting: Starting) -> None:
    starting.process.send_signal(signal.SIGHUP)
    starting.feed(starting.wait_at_the_pipe(), TCP=free_ports(1)[0])
    until(lambda: starting.says("nothing to reload"))
    starting.process.send_signal(signal.SIGTERM)
    assert starting.end() == ExitCode.OK


@contextmanager
def written_to(database: Path) -> Iterator[None]:
    """Hold the database's write lock, so that nobody else opens it as a broker does."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_stop_while_the_database_is_opened_closes_it_again(
    starting: Starting, tmp_path: Path
) -> None:
    (tmp_path / "earlier").mkdir()
    earlier = RunningBroker(tmp_path / "earlier")
    earlier.start()
    assert earlier.stop() == ExitCode.OK
    database = tmp_path / "earlier" / "monstermq.db"
    lock = database.with_name("monstermq.db.lock")
    with written_to(database):
        starting.feed(
            starting.wait_at_the_pipe(), TCP=free_ports(1)[0], SQLite=f"{{Path: {database}}}"
        )
        until(lambda: lock.read_text(encoding="ascii").strip() == str(starting.process.pid))
        starting.process.send_signal(signal.SIGTERM)
    assert starting.end() == ExitCode.OK
    assert starting.says("stopped before it had started")
    assert not starting.says("listening on")
    assert lock.read_text(encoding="ascii") == ""


STUCK = f"""
import sys, time
from monstermq_shared.operation import held, signals
signals.START_STOP_S = {STUCK_S}
held.hold()
taken = signals.Signals()
taken.start()
taken.listen(lambda: None, lambda: None, hang_up_stops=False)
print("starting", flush=True)
"""


@pytest.mark.parametrize("work", ["while True: pass", "time.sleep(60)", "sys.stdin.read()"])
def test_a_start_that_does_not_let_go_is_cut_off_with_exit_code_0(work: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK + work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"starting\n"
        for number in (signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
        assert process.wait(STOP_S) == ExitCode.OK
        assert b"the start was cut off" in process.stderr.read()


def test_commands_that_serve_nobody_end_as_others_do(tmp_path: Path) -> None:
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "monstermq", "-config", pipe, "--check"], cwd=tmp_path
    )
    descriptor = os.open(pipe, os.O_WRONLY)  # waits until it reads
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_S) == -signal.SIGTERM
    os.close(descriptor)


def test_ctrl_c_while_a_tool_is_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)  # nobody writes, so it cannot end before the signal has come
    # A shell has what it runs in the background ignore Ctrl-C, and these tests may be that.
    heeding = ["env", "--default-signal=INT"]
    with subprocess.Popen(
        [*heeding, sys.executable, "-m", "monstermq", "verify", "-config", pipe],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            until(lambda: holds_signals(process.pid))
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=STOP_S)
        finally:
            process.kill()
    assert (process.returncode, told) == (ExitCode.INTERRUPTED, b"")
