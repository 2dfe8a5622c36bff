"""The MCP server's HTTP side: who is let in, what is too much, what is left of those that leave."""

import asyncio
import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from tests.support.broker import LOOPBACK
from tests.support.mcp_serving import HEADERS, INITIALIZE, READER, WRITER, Serving, serving

from monstermq_mcp import checks, listener
from monstermq_mcp.checks import BODY_SIZE_MAX, WholeBody
from monstermq_mcp.counts import Counts
from monstermq_mcp.listener import Listener


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path) as server:
        yield server


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/"])
async def test_initialize_is_answered_with_json_at_every_path(server: Serving, path: str) -> None:
    answer = await server.post(path=path)
    assert answer.status_code == 200
    assert answer.json()["result"]["serverInfo"]["name"] == "monstermq"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_sdks_own_client_connects(server: Serving, mode: str) -> None:
    async with Client(server.url, mode=mode) as client:
        assert client.server_info is not None
        assert client.server_info.version == "1.2.3"


async def test_a_client_that_takes_only_json_is_served(server: Serving) -> None:
    answer = await server.post(accept="application/json")
    assert answer.status_code == 200


async def test_the_page_and_the_health_are_text(server: Serving) -> None:
    assert "/mcp" in (await server.get("/")).text
    assert (await server.get("/health")).text == "alive\n"
    assert (await server.get("/ready")).status_code == 200


async def test_there_is_no_stream_to_get_and_no_session_to_delete(server: Serving) -> None:
    answer = await server.get("/mcp", accept="text/event-stream")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# Host and origin


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:3000", "127.0.0.1:1", "192.0.2.7", "[::1]:3000", socket.gethostname()],
)
async def test_this_machines_names_and_addresses_pass(server: Serving, host: str) -> None:
    assert (await server.post(host=host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:3000",
        "localhost@evil.example",
        "127.0.0.1.evil.example",
        "localhost.",
        "1.2.3.4.5",
        "[::1",
        "localhost:99999",
        "",
    ],
)
async def test_a_name_that_may_have_been_pointed_here_is_misdirected(
    server: Serving, host: str
) -> None:
    reader, writer = await server.connect()
    writer.write(f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 421 ")
    assert b"MCP.Hosts" in await reader.readuntil(b"}}")
    assert server.counts.foreign == 1
    writer.close()


async def test_a_name_in_mcp_hosts_passes_and_its_pages_do(tmp_path: Path) -> None:
    async with serving(tmp_path, Hosts=["Broker.Example.com"]) as server:
        answer = await server.post(host="broker.example.com:3000")
        assert answer.status_code == 200
        answer = await server.post(origin="https://broker.example.com")
        assert answer.status_code == 200
        assert (await server.post(host="other.example.com")).status_code == 421


@pytest.mark.parametrize("origin", ["http://localhost:6274", "http://127.0.0.1", "http://[::1]:80"])
async def test_pages_of_this_machine_pass(server: Serving, origin: str) -> None:
    assert (await server.post(origin=origin)).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "file://", "http://192.0.2.1", "localhost", "*"]
)
async def test_pages_of_others_are_refused_and_told_the_key(server: Serving, origin: str) -> None:
    answer = await server.post(origin=origin)
    assert answer.status_code == 403
    assert "MCP.Hosts" in answer.json()["error"]["message"]
    assert server.counts.foreign == 1


async def test_what_a_page_may_send_without_being_asked_is_no_request(server: Serving) -> None:
    # A form of a page on localhost itself: browsers ask nobody for this type of content.
    answer = await server.post(content_type="text/plain", origin="http://localhost:8080")
    assert answer.status_code == 400


# Tokens


async def test_without_the_token_nothing_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path, Token=READER) as server:
        for headers in ({}, {"authorization": READER}, {"authorization": "Basic abc"}):
            answer = await server.post(**headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await server.get("/metrics")).status_code == 401
        assert server.counts.strangers == 4
        assert server.counts.requests == 0


async def test_with_the_token_everything_is(tmp_path: Path) -> None:
    async with serving(tmp_path, Token=READER) as server:
        answer = await server.post(authorization=f"Bearer {READER}")
        assert answer.status_code == 200
        numbers = await server.get("/metrics", authorization=f"Bearer {READER}")
        assert "monstermq_mcp_requests_total 1.0" in numbers.text


async def test_the_write_token_reads_too(tmp_path: Path) -> None:
    tokens = {"Token": READER, "WriteToken": WRITER, "AllowPublish": True}
    async with serving(tmp_path, **tokens) as server:
        assert (await server.post(authorization=f"Bearer {WRITER}")).status_code == 200


async def test_a_wrong_token_is_refused_also_where_none_is_required(server: Serving) -> None:
    answer = await server.post(authorization="Bearer somebody-elses")
    assert answer.status_code == 401
    assert server.counts.requests == 0


async def test_a_write_token_that_is_switched_off_is_a_wrong_one(tmp_path: Path) -> None:
    async with serving(tmp_path, WriteToken=WRITER) as server:
        assert (await server.post(authorization=f"Bearer {WRITER}")).status_code == 401


@pytest.mark.parametrize(("mcp", "warns"), [({}, True), ({"Token": READER}, False)])
async def test_a_server_that_asks_for_no_token_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mcp: dict[str, str], warns: bool
) -> None:
    async with serving(tmp_path, **mcp):
        pass
    assert ("MCP.Token is not set" in caplog.text) is warns


# Size and time


async def test_a_hundred_megabytes_are_refused_before_they_are_read(server: Serving) -> None:
    reader, writer = await server.connect()
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    length = 100 * 1024 * 1024
    writer.write(
        f"POST /mcp HTTP/1.1\r\nHost: a\r\n{head}Content-Length: {length}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 421 ")
    writer.close()
    reader, writer = await server.connect()
    writer.write(
        f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {length}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
    assert server.counts.large == 1
    writer.close()


async def test_a_body_without_a_length_is_cut_at_the_bound(server: Serving) -> None:
    reader, writer = await server.connect()
    writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"%x\r\n%s\r\n" % (65_536, b" " * 65_536)
    for _ in range(BODY_SIZE_MAX // 65_536 + 1):
        writer.write(piece)
        await writer.drain()
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
    writer.close()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"id":1}'])
async def test_garbage_is_a_bad_request(server: Serving, body: bytes) -> None:
    assert (await server.post(body)).status_code == 400


async def test_a_request_that_does_not_come_is_given_up(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "BODY_S", 0.05)
    reader, writer = await server.connect()
    writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408 ")
    assert server.counts.slow == 1
    writer.close()


@pytest.mark.parametrize("begin", [b"", b"POST /mcp HT", b"POST / HTTP/1.1\r\nHost: a\r\nX: "])
async def test_a_connection_that_says_nothing_ends(
    server: Serving, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(listener, "HEAD_S", 0.05)
    reader, writer = await server.connect()
    writer.write(begin)
    async with asyncio.timeout(30):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()


async def test_who_does_not_let_his_answer_be_made_is_cut_off(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HEAD_S", 0.05)
    monkeypatch.setattr(listener, "ANSWER_S", 0.05)
    reader, writer = await server.connect()
    writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    async with asyncio.timeout(30):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()


async def test_there_is_no_stream_of_changes_because_there_are_none(server: Serving) -> None:
    async with Client(server.url) as client:
        with pytest.raises(MCPError, match="Method not found"):
            async with client.listen(tools_list_changed=True):
                pass


async def test_who_is_being_answered_at_a_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STOP_S", 0.05)
    asked, never = asyncio.Event(), asyncio.Event()

    async def app(*_: object) -> None:
        asked.set()
        await never.wait()

    counts = Counts()
    listening = socket.create_server((LOOPBACK, 0))
    port = listening.getsockname()[1]
    at = Listener(WholeBody(app, counts), [listening], counts)
    await at.open()
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    await asked.wait()
    await at.close()
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
    writer.close()


async def test_the_longest_idle_makes_room(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 4)
    idle = [await server.connect() for _ in range(4)]
    # Asked and answered: now the second is the longest idle.
    reader, writer = idle[0]
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"alive\n")
    assert (await server.post()).status_code == 200
    assert server.counts.cut == 1
    async with asyncio.timeout(30):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await idle[1][0].readexactly(1)
    for _, writer in idle:
        writer.close()


async def test_a_thousand_abandoned_sessions_leave_nothing(server: Serving) -> None:
    async def abandon(count: int) -> None:
        body = orjson.dumps(INITIALIZE)
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        request = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}"
        for _ in range(count):
            reader, writer = await server.connect()
            writer.write(request.encode() + b"\r\n\r\n" + body)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()

    await abandon(200)
    gc.collect()
    tracemalloc.start()
    try:
        await abandon(100)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await abandon(1_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
    assert server.counts.requests == 1_300


async def test_a_session_id_of_nobody_is_not_needed_and_not_kept(server: Serving) -> None:
    listing = {**INITIALIZE, "method": "tools/list", "params": {}}
    answer = await server.post(listing, mcp_session_id="0" * 32)
    assert answer.status_code == 200
    assert "mcp-session-id" not in answer.headers
