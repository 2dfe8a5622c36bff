"""What a supervisor asks its processes: one HTTP request, one answer, within a bound."""

import asyncio
from typing import NamedTuple

ANSWER_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of an answer that are read; the metrics of a large edge are some 100 KiB."""

ANSWER_S = 2.0
"""How long a process may take to answer."""


class Answer(NamedTuple):
    """An HTTP answer.

    Attributes:
        status: Its code, 0 if there was none.
        body: What it says.
    """

    status: int
    body: bytes


NONE = Answer(0, b"")
"""Nobody answered."""


async def ask(port: int, path: str) -> Answer:
    """Ask a process of this machine; return ``NONE`` if it does not answer in time."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await _ask(port, path)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return NONE


async def _ask(port: int, path: str) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=ANSWER_SIZE_MAX)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        chunks = []
        left = ANSWER_SIZE_MAX
        while left > 0 and (chunk := await reader.read(min(left, 65_536))):
            chunks.append(chunk)
            left -= len(chunk)
    finally:
        writer.close()
    return Answer(int(head.split(b" ", 2)[1]), b"".join(chunks))
