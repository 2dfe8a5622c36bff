"""The MCP server in real processes: beside a broker, refused, and behind standard input."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from tests.integration.observing import fetch
from tests.support.broker import LOOPBACK, free_ports
from tests.support.mcp_broker import Served
from tests.support.mcp_serving import HEADERS, INITIALIZE, READER, WRITER
from tests.support.mqtt_peer import Peer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

BOUND_S = 60.0


def forwarder(*arguments: str, cwd: Path) -> StdioServerParameters:
    command = ["-m", "monstermq_mcp", "--stdio", *arguments]
    return StdioServerParameters(command=sys.executable, args=command, cwd=cwd)


async def test_a_client_finds_it_beside_the_broker_which_stops_as_before(served: Served) -> None:
    served.serve()
    async with Client(served.mcp_url) as client:
        assert client.server_info is not None
        assert client.server_info.name == "monstermq"
        await client.list_tools()
        assert await asyncio.to_thread(served.stop) == ExitCode.OK
    assert "Traceback" not in served.log_text()


async def test_pages_go_on_where_values_are_in_memory_and_in_a_database(served: Served) -> None:
    group = {"LastValType": "MEMORY", "ArchiveType": "SQLITE"}
    served.serve(group)
    peer = await Peer.open(served.tcp_port)
    await peer.connect("sensor")
    for number in range(4):
        await peer.publish(f"a/{number}", b"%d" % number, 1, retain=number % 2 == 0)
    peer.drop()
    found: list[str] = []
    cursor = None
    async with Client(served.mcp_url) as client:
        while cursor or not found:
            asked = {"topics": ["a/#"], "limit": 1, **({"cursor": cursor} if cursor else {})}
            answer = await client.call_tool("get-topic-value", asked)
            assert not answer.is_error, answer.content
            content: Any = answer.structured_content
            found += [value["topic"] for value in content["values"]]
            cursor = content.get("nextCursor")
    assert found == [f"a/{number}" for number in range(4)]


async def test_the_brokers_metrics_count_its_requests(served: Served) -> None:
    served.serve()
    async with Client(served.mcp_url):
        pass
    _, text = await fetch(served, "/metrics")
    assert "monstermq_mcp_requests_total 0.0" not in text
    assert "monstermq_mcp_requests_total" in text
    assert "monstermq_mcp_calls_total 0.0" in text


async def connected(served: Served) -> float:
    """Return how many clients the broker counts; a watch is one."""
    _, text = await fetch(served, "/metrics")
    (line,) = re.findall(r"^monstermq_clients_connected (\S+)$", text, re.MULTILINE)
    return float(line)


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
async def test_a_watch_whose_client_leaves_ends(served: Served, version: str) -> None:
    served.serve()
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    name, arguments = "watch-topics", {"topics": "#", "seconds": 60}
    params = {"name": name, "arguments": arguments, **({"_meta": meta} if version > "2026" else {})}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    sent = {
        **HEADERS,
        "mcp-protocol-version": version,
        "mcp-method": "tools/call",
        "mcp-name": name,
    }
    async with httpx2.AsyncClient() as client:
        calling = asyncio.create_task(
            client.post(served.mcp_url, json=call, headers=sent, timeout=60)
        )
        async with asyncio.timeout(BOUND_S):
            while await connected(served) != 1:
                assert not calling.done(), calling.result().text
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    async with asyncio.timeout(BOUND_S / 2):
        while await connected(served) != 0:
            pass


def test_a_port_that_is_taken_ends_the_start_with_the_key(served: Served) -> None:
    served.mcp_port = served.tcp_port + 1
    other = Served(served.directory / "other")
    other.directory.mkdir()
    other.serve()
    served.mcp_port = other.mcp_port
    try:
        status, said = served.refusal()
    finally:
        other.close()
    assert status == ExitCode.PORT_IN_USE
    assert f"MCP.Port: port {other.mcp_port} on {LOOPBACK} is used by another process" in said
    assert "MONSTERMQ_MCP__PORT=" in said


def test_a_token_file_that_is_not_there_ends_the_start(served: Served) -> None:
    status, said = served.refusal(TokenFile="none")
    assert status == ExitCode.CONFIG
    assert "MCP.TokenFile: none cannot be read" in said


class ServedByAnEdge(Served):
    """The command of one service, which has no MCP."""

    def _prepare(self, config_yaml: str | None) -> list[str]:
        return [
            part.replace("monstermq", "monstermq_edge") if part == "monstermq" else part
            for part in super()._prepare(config_yaml)
        ]


def test_an_edge_by_itself_says_that_it_runs_none(tmp_path: Path) -> None:
    broker = ServedByAnEdge(tmp_path)
    try:
        broker.serve()
        assert "MCP.Enabled: monstermq-edge runs no MCP server" in broker.log_text()
    finally:
        broker.close()


# monstermq-mcp


def run_mcp(folder: Path, *arguments: str, given: bytes = b"") -> tuple[int, str]:
    completed = subprocess.run(
        [sys.executable, "-m", "monstermq_mcp", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=BOUND_S,
        check=False,
    )
    return completed.returncode, (completed.stdout + completed.stderr).decode()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "on the internal bus the broker runs the MCP server itself"),
        (["--url", "http://localhost"], "--url is for --stdio"),
        (["--stdi"], "did you mean --stdio"),
        (["--stdio", "--url", "localhost:3000/mcp"], "is no address of a server"),
        (["--stdio", "--url", "http://[::1/mcp"], "is no address of a server"),
        (["--stdio", "--url", "http://localhost:99999/mcp"], "is no address of a server"),
        (["--stdio", "--url", "http://a\tb/mcp"], "is no address of a server"),
        (["--stdio", "--url", ""], "is no address of a server"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str], problem: str) -> None:
    status, said = run_mcp(tmp_path, *arguments)
    assert (status, problem in said) == (ExitCode.CONFIG, True), said


def test_without_a_server_there_is_nothing_to_forward_to(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("SessionStoreType: SQLITE\n")
    status, said = run_mcp(tmp_path, "--stdio")
    assert status == ExitCode.CONFIG
    assert "set MCP.Enabled to true, or give --url" in said


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_that_starts_its_servers_is_forwarded(served: Served, mode: str) -> None:
    served.serve(mcp={"Token": READER, "WriteToken": WRITER, "AllowPublish": True})
    where = forwarder("-config", "config.yaml", cwd=served.directory)
    async with asyncio.timeout(BOUND_S), Client(where, mode=mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "monstermq"
        assert isinstance((await client.list_tools()).tools, list)


def test_lines_are_answered_before_the_end_also_from_a_file(served: Served) -> None:
    served.serve()
    lines = [
        json.dumps(INITIALIZE),
        '{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        "",
        "this is no JSON",
        "[]",
        '{"jsonrpc": "2.0", "id": "two", "method": "tools/list"}',
        '{"jsonrpc": "2.0", "id": 3, "method": "no/such"}',
    ]
    given = served.directory / "lines"
    given.write_text("\n".join(lines))
    with given.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "monstermq_mcp", "--stdio", "--url", served.mcp_url],
            cwd=served.directory,
            stdin=file,
            capture_output=True,
            timeout=BOUND_S,
            check=True,
        )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    by_id = {answer["id"]: answer for answer in answers if answer["id"] is not None}
    assert by_id[1]["result"]["serverInfo"]["name"] == "monstermq"
    assert "tools" in by_id["two"]["result"]
    assert by_id[3]["error"]["code"] == -32601
    assert [answer["error"]["code"] for answer in answers if answer["id"] is None] == [-32700] * 2
    assert done.stderr == b""


def test_a_line_that_is_too_long_is_refused_as_a_whole(tmp_path: Path) -> None:
    begin = b"x" * (1024 * 1024)
    given = begin + b'{"id": 1}\n{"id": 2}'
    _, said = run_mcp(tmp_path, "--stdio", "--url", "http://127.0.0.1:9/mcp", given=given)
    answers = [json.loads(line) for line in said.splitlines()]
    assert {answer["id"] for answer in answers} == {None, 2}


def test_a_version_that_no_header_can_carry_ends_nothing(served: Served) -> None:
    served.serve()
    meta = {"io.modelcontextprotocol/protocolVersion": "ü"}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}},
        {"jsonrpc": "2.0", "id": 2, "method": "ping"},
    ]
    given = "\n".join(json.dumps(line) for line in lines).encode()
    _, said = run_mcp(served.directory, "--stdio", "--url", served.mcp_url, given=given)
    answers = {answer["id"]: answer for answer in map(json.loads, said.splitlines())}
    assert {number for number, answer in answers.items() if "result" in answer} == {1, 2}


@pytest.mark.parametrize("token", ["", "a-wrong-token-0123456789"])
def test_what_the_server_refuses_is_told_to_who_asked(served: Served, token: str) -> None:
    served.serve(mcp={"Token": READER})
    (served.directory / "client.yaml").write_text(
        "SessionStoreType: SQLITE\nMCP: {" + (f"Token: {token}" if token else "") + "}\n"
    )
    given = json.dumps(INITIALIZE).encode()
    arguments = ("--stdio", "--url", served.mcp_url, "-config", "client.yaml")
    status, said = run_mcp(served.directory, *arguments, given=given)
    assert status == ExitCode.OK
    answer = json.loads(said)
    assert answer["id"] == 1
    assert "token" in answer["error"]["message"]


def test_a_server_that_does_not_run_is_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://{LOOPBACK}:{port}/mcp"
    _, said = run_mcp(tmp_path, "--stdio", "--url", url, given=json.dumps(INITIALIZE).encode())
    answer = json.loads(said)
    assert answer["id"] == 1
    assert f"no MCP server answers at {url}: start monstermq" in answer["error"]["message"]
