"""A database that is taken away under the broker: nothing acknowledged is lost, and it says so."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.observing import undisturbed, until_ready
from tests.support.broker import START_S, RunningBroker
from tests.support.load import Cast
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import ConnectOptions, connect_packet

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

TOPICS = 50
LATE = encode_publish("late", b"x", qos=1, retain=True, packet_id=7)
PARTS = ("", "-wal", "-shm", ".lock")


def delete(path: Path) -> None:
    for part in PARTS:
        Path(f"{path}{part}").unlink()


def replace(path: Path) -> None:
    """As an editor, or ``cp`` and ``mv``, put another version of a file in its place."""
    shutil.copyfile(path, f"{path}.x")
    Path(f"{path}.x").replace(path)


def overwrite(path: Path) -> None:
    """As ``cp backup.db monstermq.db`` does it, with a backup of an hour ago."""
    path.write_bytes(path.with_name("backup.db").read_bytes())


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command), "-config", "config.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == ExitCode.OK, done.stderr
    return done.stdout


async def fill(broker: RunningBroker, cast: Cast) -> None:
    """Have so many topics retained, all of them acknowledged."""
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("filler")
    for n in range(TOPICS):
        await peer.publish(f"kept/{n}", f"value {n}".encode(), qos=1, retain=True)
    await peer.disconnect()


async def retained(broker: RunningBroker, cast: Cast) -> set[str]:
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("reader")
    await peer.subscribe(("#", 0))
    found = {(await peer.take()).topic for _ in range(TOPICS)}
    assert await peer.ping() == []
    return found


@pytest.mark.parametrize("happens", [delete, replace])
async def test_what_was_acknowledged_is_saved_and_nothing_is_acknowledged_after_it(
    broker: RunningBroker, cast: Cast, happens: object
) -> None:
    assert callable(happens)
    path = broker.directory / "monstermq.db"
    broker.start()
    await fill(broker, cast)
    writer = await cast.peer(broker.tcp_port)
    await writer.connect("writer")
    async with undisturbed(broker) as neighbours:
        happens(path)
        before = path.read_bytes() if path.exists() else None
        (reason,) = json.loads(await until_ready(broker, 503))["reasons"]
        assert str(path) in reason
        await writer.send(LATE)
        late = await cast.peer(broker.tcp_port)
        await late.send(connect_packet("late", ConnectOptions(clean=False)))
        await neighbours.exchange()
        await until_ready(broker, 503)
    assert await writer.ping() == []
    assert broker.stop() == ExitCode.OK
    assert (path.read_bytes() if path.exists() else None) == before

    # The stop may say it once more, as the reason why not everything was committed.
    (said,) = [line for line in broker.log_text().splitlines() if "sqlite.rescue " in line]
    named = re.search(r"run: (monstermq db restore \S+), and start it again", said)
    assert named is not None, said
    run(named[1], broker.directory)
    broker.start()
    assert await retained(broker, cast) == {f"kept/{n}" for n in range(TOPICS)}
    assert broker.stop() == ExitCode.OK


async def test_a_backup_copied_over_a_database_in_use_is_not_written_to(
    broker: RunningBroker, cast: Cast
) -> None:
    path = broker.directory / "monstermq.db"
    broker.start()
    await fill(broker, cast)
    run("monstermq db backup backup.db", broker.directory)
    writer = await cast.peer(broker.tcp_port)
    await writer.connect("writer")
    for n in range(TOPICS):
        await writer.publish(f"more/{n}", bytes(4_000), qos=1, retain=True)
    overwrite(path)
    await until_ready(broker, 503)
    await writer.send(LATE)
    assert await writer.ping() == []
    assert broker.stop() == ExitCode.OK
    assert path.read_bytes() == path.with_name("backup.db").read_bytes()
    assert "publishers wait, and" in broker.log_text()
    run("monstermq db restore backup.db", broker.directory)
    broker.start()
    assert await retained(broker, cast) == {f"kept/{n}" for n in range(TOPICS)}
