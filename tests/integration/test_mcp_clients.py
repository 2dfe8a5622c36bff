"""Other people's MCP clients ask which room was warmest yesterday, as a new user would."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from tests.support.broker import LOOPBACK, NO_RESERVE, BrokerProcess
from tests.support.machine import program
from tests.support.repository import ROOT

pytestmark = pytest.mark.integration

NODE = Path(__file__).parent / "node"
INSPECTOR = NODE / "node_modules/@modelcontextprotocol/inspector-cli/build/index.js"
ROOMS = ["bathroom", "bedroom", "cellar", "kitchen", "living-room"]
BOUND_S = 120.0

SEARCH = ("find-topics-by-description", {"description": "room temperature"})


class Rooms(BrokerProcess):
    """The broker without a configuration file, on other ports, with two days of five rooms."""

    def _prepare(self, config_yaml: str | None) -> list[str]:
        return [sys.executable, "-m", "monstermq"]

    @property
    def variables(self) -> dict[str, str]:
        return {**self.port_variables, **NO_RESERVE}

    def live(self) -> None:
        """Let two days pass, and start."""
        script = ROOT / "examples/simulated-rooms.py"
        subprocess.run(
            [sys.executable, str(script), "--past", "2"],
            cwd=self.directory,
            env={**os.environ, **self.variables},
            timeout=BOUND_S,
            check=True,
        )
        self.start(env=self.variables)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    rooms = Rooms(tmp_path_factory.mktemp("rooms"))
    try:
        rooms.live()
        yield rooms
    finally:
        rooms.close()


def question() -> tuple[str, dict[str, Any]]:
    """Return the call that compares the rooms of yesterday."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return "query-message-archive-aggregated", {
        "topic": "rooms/+/climate",
        "field": "temperature",
        "functions": ["max", "avg"],
        "startTime": (today - timedelta(days=1)).isoformat(),
        "endTime": today.isoformat(),
    }


def check(search: Any, comparison: Any) -> None:
    """Hold the answers of the two calls against what the script does."""
    assert sorted(found["topic"] for found in search["topics"]) == [
        f"rooms/{room}/climate" for room in ROOMS
    ]
    rows = comparison["rows"]
    assert {row["messages"] for row in rows} == {24 * 60}
    warmest = max(rows, key=lambda row: row["avg"])
    assert warmest["topic"] == "rooms/bathroom/climate"
    assert 22.3 < warmest["avg"] < 22.7
    assert 23.8 < warmest["max"] < 25.0


async def ask_with(client: Client) -> None:
    async with client:
        answers = [await client.call_tool(*call) for call in (SEARCH, question())]
    check(*(answer.structured_content for answer in answers))
    text = answers[1].content[0]
    assert "rooms/bathroom/climate" in getattr(text, "text", "")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_python_sdk_finds_the_warmest_room_in_two_calls(rooms: Rooms, mode: str) -> None:
    await ask_with(Client(rooms.mcp_url, mode=mode))


async def test_a_client_of_standard_input_does_too(rooms: Rooms) -> None:
    arguments = ["-m", "monstermq_mcp", "--stdio", "--url", rooms.mcp_url]
    where = StdioServerParameters(command=sys.executable, args=arguments, cwd=rooms.directory)
    await ask_with(Client(where))


@pytest.mark.parametrize("document", ["docs/mcp.md", "README.md"])
def test_what_the_documents_show_in_python_runs_as_it_stands(rooms: Rooms, document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert "http://localhost:3000" in code
    code = code.replace("localhost:3000", f"{LOOPBACK}:{rooms.mcp_port}")
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=rooms.directory,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=True,
    ).stdout
    for room in ROOMS:
        assert said.count(f"| rooms/{room}/climate |") >= 2, said


def run_node(*arguments: str) -> str:
    return subprocess.run(
        [program("node"), *arguments], capture_output=True, text=True, timeout=BOUND_S, check=True
    ).stdout


def test_the_typescript_sdk_does_too(rooms: Rooms) -> None:
    calls = [json.dumps(part) if isinstance(part, dict) else part for part in SEARCH + question()]
    lines = run_node(str(NODE / "mcp.mjs"), rooms.mcp_url, *calls).splitlines()
    check(*map(json.loads, lines))


def test_the_inspectors_command_line_does_too(rooms: Rooms) -> None:
    def call(name: str, arguments: dict[str, Any]) -> Any:
        given = [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in arguments.items()
        ]
        options = ["--transport", "http", "--method", "tools/call", "--tool-name", name]
        for each in given:
            options += ["--tool-arg", each]
        answer = json.loads(run_node(str(INSPECTOR), rooms.mcp_url, *options))
        return answer["structuredContent"]

    check(call(*SEARCH), call(*question()))


def test_the_past_of_a_kafka_bus_is_refused_in_a_sentence() -> None:
    command = [sys.executable, str(ROOT / "examples/simulated-rooms.py"), "--past", "2"]
    command += ["--config", str(ROOT / "examples/config-kafka-bus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)

    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("nothing was written: on a Kafka bus the past cannot be written")
