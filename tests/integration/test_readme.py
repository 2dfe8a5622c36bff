"""The README, taken at its word: its commands in order, and its configurations."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from tests.support.broker import LOOPBACK, BrokerProcess
from tests.support.machine import program
from tests.support.postgres import PASSWORD, ROLE, PostgresServer
from tests.support.repository import ROOT

README = ROOT / "README.md"
PAGE_DRIVER = ROOT / "tests" / "integration" / "node" / "page.js"
BOUND_S = 60.0

FENCED = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

# Every other command runs as it stands; these stand for what differs on the tests' machine.
PRELUDE = """
set -euo pipefail
mosquitto_sub() { command mosquitto_sub -p "$MONSTERMQ_TCP" "$@"; }
mosquitto_pub() { command mosquitto_pub -p "$MONSTERMQ_TCP" "$@"; }
curl() { "$PYTHON" -c 'import sys, urllib.request as r; \
print(r.urlopen(sys.argv[1]).read().decode(), end="")' "${@: -1}"; }
"""

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the language it names, its lines, and its section's heading."""

    language: str
    text: str
    section: str


def blocks() -> Iterator[Block]:
    """Yield the README's fenced blocks in order."""
    for chapter in README.read_text(encoding="utf-8").split("\n## ")[1:]:
        section = chapter.partition("\n")[0]
        for found in FENCED.finditer(chapter):
            yield Block(found["language"], found["text"], section)


def of_language(language: str) -> list[str]:
    return [block.text for block in blocks() if block.language == language]


class DefaultBroker(BrokerProcess):
    """The broker as ``make run`` starts it: no file, data below the working directory."""

    def _prepare(self, config_yaml: str | None) -> list[str]:
        assert config_yaml is None, "without a file there is nothing to set"
        return [sys.executable, "-m", "monstermq"]

    @property
    def variables(self) -> dict[str, str]:
        """What takes it to free ports."""
        return {**self.port_variables, "PYTHON": sys.executable}


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DefaultBroker]:
    """The default broker on free ports, not yet started."""
    for name in [name for name in os.environ if name.startswith(("MONSTERMQ_", "GATEWAY_"))]:
        monkeypatch.delenv(name)
    broker = DefaultBroker(tmp_path)
    yield broker
    broker.close()


def with_ports(text: str, broker: DefaultBroker) -> str:
    """Put this machine's free ports, and this environment's command, for the README's."""
    return text.replace(":9464", f":{broker.metrics_port}").replace(
        ".venv/bin/monstermq", '"$PYTHON" -m monstermq'
    )


def shell(text: str, broker: DefaultBroker) -> str:
    """Run a block to its end and return what it printed."""
    return subprocess.run(
        ["bash", "-c", PRELUDE + with_ports(text, broker)],
        cwd=broker.directory,
        env={**os.environ, **broker.variables},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=True,
    ).stdout


async def watch(text: str, broker: DefaultBroker) -> asyncio.subprocess.Process:
    """Start a block that goes on until it is killed."""
    return await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        PRELUDE + text,
        cwd=broker.directory,
        env={**os.environ, **broker.variables},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


class PostgresBroker(DefaultBroker):
    """The broker as the README starts it with PostgreSQL, on a server that has another port."""

    def __init__(self, directory: Path, server: PostgresServer, database: str) -> None:
        super().__init__(directory)
        self._server = server
        self._database = database

    def _prepare(self, config_yaml: str | None) -> list[str]:
        command = super()._prepare(config_yaml)
        return [*command, "-config", str(ROOT / "examples" / "config-postgres.yaml")]

    @property
    def variables(self) -> dict[str, str]:
        """What takes it, and psql, to the server."""
        server = f"{LOOPBACK}:{self._server.port}"
        return {
            **super().variables,
            "MONSTERMQ_POSTGRES__URL": f"jdbc:postgresql://{server}/{self._database}",
            "PGHOST": LOOPBACK,
            "PGPORT": str(self._server.port),
            "PGUSER": ROLE,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": self._database,
        }


class Tour:
    """Somebody who types what the README says."""

    def __init__(self, broker: DefaultBroker) -> None:
        self._broker = broker
        self._watcher: asyncio.subprocess.Process | None = None
        self._printed = ""
        self.seen: list[str] = []
        """What the watcher saw before the plug was pulled."""

    async def follow(self, block: Block) -> None:
        """Type a block of commands, or compare what the last one printed."""
        broker = self._broker
        if block.language == "text":
            assert self._printed == block.text
        elif block.text.startswith("make run"):
            broker.start(env=broker.variables)
        elif "-t '#' -v" in block.text:
            self._watcher = await watch(block.text, broker)
        elif "kill -9" in block.text:
            shell(block.text, broker)
            assert psutil.Process(broker.pid).wait(BOUND_S) == -signal.SIGKILL
            broker.kill()  # it is dead; this lets it be started again
        else:
            self._printed = await asyncio.to_thread(shell, block.text, broker)
            await self._look(block.text.count("mosquitto_pub"))

    async def _look(self, messages: int) -> None:
        """Wait until the watcher has seen so many messages more."""
        watcher = self._watcher
        assert watcher is not None
        assert watcher.stdout is not None
        async with asyncio.timeout(BOUND_S):
            self.seen += [(await watcher.stdout.readline()).decode() for _ in range(messages)]

    async def end(self) -> None:
        """Close the watcher's terminal."""
        if self._watcher is not None:
            os.killpg(self._watcher.pid, signal.SIGKILL)
            await self._watcher.wait()


def typed(section: str) -> list[Block]:
    """Return what is typed in a section, and what that prints."""
    every = [block for block in blocks() if block.language in {"sh", "text"}]
    assert {block.section for block in every} == {"Five minutes", "With PostgreSQL"}
    return [block for block in every if block.section == section]


async def take(broker: DefaultBroker, way: list[Block]) -> list[str]:
    """Take the tour; return what the watcher saw."""
    tour = Tour(broker)
    try:
        for block in way:
            await tour.follow(block)
    finally:
        await tour.end()
    return tour.seen


SEEN = [
    "plant/line1/state running\n",
    "plant/line1/temperature 21.5\n",
    "plant/line1/temperature 23.5\n",
]


async def test_the_tour_goes_as_the_readme_tells(broker: DefaultBroker) -> None:
    assert await take(broker, typed("Five minutes")) == SEEN
    assert (broker.directory / "backup.db").stat().st_size > 0


def with_postgres() -> list[Block]:
    """Return the tour as the section about PostgreSQL changes it."""
    server, start, plug, tables = typed("With PostgreSQL")
    assert server.text == "make postgres\n"
    assert start.text == 'make run ARGS="-config examples/config-postgres.yaml"\n'
    # Here these name another server and database; ``PostgresBroker`` sets them.
    exported, _, kill = plug.text.partition("\n")
    names = "PGHOST=localhost PGUSER=system PGPASSWORD=manager PGDATABASE=monster"
    assert exported == f"export {names}"
    instead = {"make run": start, "kill -9": replace(plug, text=kill), "sqlite3": tables}
    way = [
        next((other for begins, other in instead.items() if block.text.startswith(begins)), block)
        for block in typed("Five minutes")
    ]
    assert way[-1].text.startswith(".venv/bin/monstermq db backup")
    assert [way.count(block) for block in (start, instead["kill -9"], tables)] == [2, 1, 1]
    return way[:-1]


async def test_the_tour_goes_the_same_with_postgresql(
    tmp_path: Path, postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    broker = PostgresBroker(tmp_path, postgres_server, name)
    try:
        assert await take(broker, with_postgres()) == SEEN
    finally:
        broker.close()
    assert not (tmp_path / "data").exists()


def test_the_browser_hears_what_is_retained(broker: DefaultBroker) -> None:
    text = README.read_text(encoding="utf-8")
    assert "open `http://localhost:9464/`" in text
    broker.start(env=broker.variables)
    shell("mosquitto_pub -t plant/line1/state -m running -r -q 1", broker)
    url = with_ports("http://localhost:9464/", broker)
    heard = subprocess.run(
        [program("node"), PAGE_DRIVER, url, "#", "plant", "mine", "1"],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=True,
    ).stdout
    topic, payload, _ = json.loads(heard)
    assert f"`{topic}` with `{payload}`" in text


@pytest.mark.parametrize("text", of_language("yaml"))
def test_a_configuration_of_the_readme_would_start(text: str, broker: DefaultBroker) -> None:
    (broker.directory / "config.yaml").write_text(text, encoding="utf-8")
    # Without the ports of this test's machine: they are the file's to say.
    bare = "env -u MONSTERMQ_TCP -u MONSTERMQ_WS"
    said = shell(f'{bare} "$PYTHON" -m monstermq -config config.yaml --check', broker)
    assert said.startswith("OK: ")
    assert "RetainedStoreType" not in said
