"""A damaged database, and the way the broker itself names: recover, restore, go on."""

import random
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.broker import START_S, RunningBroker
from tests.support.load import Cast
from tests.support.mqtt_peer import ConnectOptions

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

MESSAGES = 3_000
PAGE = 2048
CONFIG = "ArchiveGroups: [{Name: MCP, TopicFilter: ['#'], ArchiveType: SQLITE}]"


def archived(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM mcparchive").fetchone()[0])


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what the broker or an earlier command has said, as it stands."""
    assert command.startswith("monstermq db ")
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


async def test_what_the_broker_says_about_a_damaged_database_saves_the_rest(
    broker: RunningBroker, cast: Cast
) -> None:
    broker.start(CONFIG)
    away = await cast.peer(broker.tcp_port)
    await away.connect("away", ConnectOptions(clean=False))
    await away.subscribe(("owed", 1))
    await away.disconnect()
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("a")
    await peer.publish("owed", b"to you", qos=1)
    for n in range(MESSAGES):
        await peer.publish(f"plant/{n}", bytes(100), qos=0)
    await peer.publish("plant/last", b"", qos=1)
    assert broker.stop() == ExitCode.OK

    path = broker.directory / "monstermq.db"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // PAGE * PAGE
    content[middle : middle + 8 * PAGE] = random.Random(1).randbytes(8 * PAGE)
    path.write_bytes(content)
    status, said = broker.run_to_end(CONFIG)
    assert status == ExitCode.STORE_DAMAGED, said

    named = re.search(r"(monstermq db recover [^;]+);", said)
    assert named is not None, said
    done = run(named[1], broker.directory)
    assert done.returncode == ExitCode.FAILURE, done.stderr
    assert "mcparchive:" in done.stdout
    assert path.read_bytes() == content

    recovered = Path(f"{path}.recovered")
    saved = archived(recovered)
    assert MESSAGES * 0.85 < saved < MESSAGES + 2
    restore = done.stdout.splitlines()[-1].partition(": ")[2]
    done = run(f"{restore} -config config.yaml", broker.directory)
    assert done.returncode == ExitCode.OK, done.stderr
    (aside,) = broker.directory.glob("monstermq.db.2*")
    assert aside.read_bytes() == content

    broker.start(CONFIG)
    away = await cast.peer(broker.tcp_port)
    assert (await away.connect("away", ConnectOptions(clean=False))).session_present
    assert (await away.take()).payload == b"to you"
    assert broker.stop() == ExitCode.OK
    assert archived(path) == saved


async def test_the_lock_has_the_process_while_it_runs_and_is_empty_after_a_stop(
    broker: RunningBroker,
) -> None:
    lock = broker.directory / "monstermq.db.lock"
    broker.start()
    assert lock.read_text() == f"{broker.pid}\n"
    pid = broker.pid
    broker.kill()
    assert lock.read_text() == f"{pid}\n"
    broker.start()
    assert broker.stop() == ExitCode.OK
    assert lock.read_text() == ""
