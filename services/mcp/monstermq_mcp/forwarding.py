"""Standard input and output to a running server: for clients that start their servers themselves.

Each line is a message of JSON-RPC and becomes a request; what it is answered with is a line again.
No database is opened, and nothing is kept but the version that the client has agreed with the
server, which a request must name.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import orjson
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
)
from mcp_types import PROTOCOL_VERSION_META_KEY

from monstermq_mcp.checks import BODY_SIZE_MAX
from monstermq_shared.errors import ConfigError
from monstermq_shared.operation.binding import PORT_MAX

REQUESTS_MAX = 32
"""Requests on their way; the next line is not read before one of them is answered."""

CONNECT_S = 5.0
READ_S = 120.0
"""How long an answer may take; a watch takes a minute."""

_PARSE_ERROR, _SERVER_ERROR = -32700, -32000
_EVENT_DATA = "data:"
_TOO_LONG = b"\0"  # no JSON

Message = dict[str, Any]
Write = Callable[[bytes], None]


class Forwarder:
    """Forwards lines.

    Args:
        url: Of the server.
        token: What is shown to it, if anything.
        write: Takes a line of the answer, without its end.
    """

    def __init__(self, url: str, token: str | None, write: Write) -> None:
        self._url = url
        self._write = write
        self._version: str | None = None
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
        limits = httpx2.Limits(max_connections=REQUESTS_MAX)
        self._http = httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits)

    async def forward(self, line: bytes) -> None:
        """Send a message, and write what it is answered with."""
        try:
            message = orjson.loads(line)
        except ValueError:
            self._tell(
                None, _PARSE_ERROR, f"the line is not JSON, or longer than {BODY_SIZE_MAX} bytes"
            )
            return
        if not isinstance(message, dict):
            self._tell(None, _PARSE_ERROR, "the line is not one message")
            return
        try:
            await self._post(line, message)
        except httpx2.ConnectError:
            problem = f"no MCP server answers at {self._url}: start monstermq, or give its --url"
            self._tell(message, _SERVER_ERROR, problem)
        except httpx2.HTTPError as exc:
            self._tell(message, _SERVER_ERROR, f"{self._url}: {str(exc) or type(exc).__name__}")

    async def _post(self, line: bytes, message: Message) -> None:
        headers = self._headers_of(message)
        async with self._http.stream("POST", self._url, content=line, headers=headers) as response:
            kind = response.headers.get("content-type", "")
            if kind.startswith("text/event-stream"):
                async for text in response.aiter_lines():
                    if text.startswith(_EVENT_DATA):
                        self._write(text.removeprefix(_EVENT_DATA).strip().encode())
                return
            self._answered(message, response.status_code, await response.aread())

    def _answered(self, message: Message, status: int, body: bytes) -> None:
        try:
            answer = orjson.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            if status >= 400:
                self._tell(message, _SERVER_ERROR, f"{self._url} answers with {status}")
            return
        if "id" not in message:  # nobody waits for an answer
            return
        if message.get("method") == "initialize":
            result = answer.get("result")
            self._version = result.get("protocolVersion") if isinstance(result, dict) else None
        # What was refused before it was read does not know its id.
        self._write(orjson.dumps({**answer, "id": message["id"]}))

    def _headers_of(self, message: Message) -> Mapping[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        method, params = message.get("method"), message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        modern = meta.get(PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
        version = modern or self._version
        # No server knows one that no header can carry; it answers as if none were named.
        if isinstance(version, str) and version.isascii() and method != "initialize":
            headers[MCP_PROTOCOL_VERSION_HEADER] = version
        if modern and isinstance(method, str):
            headers[MCP_METHOD_HEADER] = encode_header_value(method)
            name = params.get(NAME_BEARING_METHODS.get(method, ""))
            if isinstance(name, str):
                headers[MCP_NAME_HEADER] = encode_header_value(name)
        return headers

    def _tell(self, message: Message | None, code: int, problem: str) -> None:
        """Answer in the server's place, where somebody waits for that."""
        if message is not None and "id" not in message:
            return
        error = {"code": code, "message": problem}
        known = None if message is None else message["id"]
        self._write(orjson.dumps({"jsonrpc": "2.0", "id": known, "error": error}))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def checked_url(text: str) -> str:
    """Return the address of a server as it was given.

    Raises:
        ConfigError: It is none.
    """
    try:
        url = httpx2.URL(text)
        good = url.scheme in {"http", "https"} and url.host and (url.port or 1) <= PORT_MAX
    except (httpx2.InvalidURL, UnicodeError):
        good = False
    if not good:
        raise ConfigError(
            f"--url: {text!r} is no address of a server; write one such as "
            "http://localhost:3000/mcp"
        )
    return text


async def forward_standard_input(url: str, token: str | None) -> None:
    """Forward until standard input ends, and all is answered.

    Args:
        url: Of the server.
        token: What is shown to it, if anything.
    """
    forwarder = Forwarder(url, token, _write_line)
    lines: asyncio.Queue[bytes] = asyncio.Queue(1)
    loop = asyncio.get_running_loop()
    # A thread, because standard input may be a file as well as a pipe; it ends with the process.
    threading.Thread(target=_read_lines, args=(lines, loop), daemon=True).start()
    free = asyncio.Semaphore(REQUESTS_MAX)

    async def forward(line: bytes) -> None:
        try:
            await forwarder.forward(line)
        finally:
            free.release()

    try:
        async with asyncio.TaskGroup() as group:
            while line := await lines.get():
                if line.strip():
                    await free.acquire()
                    group.create_task(forward(line))
    finally:
        await forwarder.close()


def _read_lines(lines: "asyncio.Queue[bytes]", loop: asyncio.AbstractEventLoop) -> None:
    """Put each line where the loop takes it, and an empty one at the end."""
    line = b"first"
    while line:
        line = sys.stdin.buffer.readline(BODY_SIZE_MAX)
        if len(line) == BODY_SIZE_MAX and not line.endswith(b"\n"):
            while (rest := sys.stdin.buffer.readline(BODY_SIZE_MAX)) and not rest.endswith(b"\n"):
                pass
            line = _TOO_LONG
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()


def _write_line(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
