"""A watch on what is published: messages wait in it until they are asked for, and not too many.

It is filled in one thread and asked in an event loop, which may be another thread's.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from monstermq_shared.errors import BusUnavailable
from monstermq_shared.queries.history import Message, is_text

WATCHES_MAX = 32
"""Watches at a time, of one feed."""

WAITING_MAX = 1_000
"""Messages that wait in one watch; more are dropped, and counted."""

WAITING_SIZE_MAX = 4 * 1024 * 1024
"""Bytes of them, topics included, from which on more are dropped."""


def check_room(watches: int) -> None:
    """Refuse another watch beside as many as there may be.

    Raises:
        BusUnavailable: There are so many.
    """
    if watches >= WATCHES_MAX:
        raise BusUnavailable(f"{WATCHES_MAX} watches run already; try again in a minute")


class Published(NamedTuple):
    """A message as it comes, not yet looked at.

    Attributes:
        topic: The topic, UTF-8.
        payload: All of it.
        time_ms: When it came, milliseconds since 1970-01-01 UTC.
        qos: The publisher's QoS.
        retained: The publisher's retain flag.
        client_id: The publisher, empty where that is not known.
        message_id: Of the message, empty where it has none.
    """

    topic: bytes
    payload: bytes
    time_ms: int
    qos: int
    retained: bool
    client_id: str = ""
    message_id: str = ""

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits, about."""
        return len(self.topic) + len(self.payload) + len(self.client_id)


class MessageWatch:
    """See ``queries.ports.Watch``.

    Args:
        payload_limit: Bytes of each payload that are shown.

    Attributes:
        dropped: See ``Watch``.
    """

    def __init__(self, payload_limit: int) -> None:
        self.dropped = 0
        self._payload_limit = payload_limit
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Published] = deque()
        # Each is raised by one thread only.
        self._put_size = 0
        self._taken_size = 0
        self._ended: str | None = None
        self._is_told = False
        self._news = asyncio.Event()

    def has_room(self) -> bool:
        """Whether a message would be kept now."""
        waiting_size = self._put_size - self._taken_size
        return len(self._waiting) < WAITING_MAX and waiting_size < WAITING_SIZE_MAX

    def put(self, message: Published) -> None:
        """Keep a message, if there is room; from the thread that fills it."""
        if not self.has_room():
            self.dropped += 1
            return
        self._put_size += message.size
        self._waiting.append(message)
        self._tell()

    def end(self, reason: str) -> None:
        """Say that nothing more comes, and why; from the thread that fills it."""
        self._ended = reason
        self._tell()

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            # Should the loop have ended, nobody asks any more: whoever fills it must not suffer.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._news.set)

    async def next(self, timeout_s: float) -> Message | None:
        """See ``Watch.next``."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._waiting:
                    if self._ended is not None:
                        raise BusUnavailable(self._ended)
                    self._news.clear()
                    # Before the second look, so that nobody puts something and tells nobody.
                    self._is_told = False
                    if not self._waiting and self._ended is None:
                        await self._news.wait()
        except TimeoutError:
            return None
        message = self._waiting.popleft()
        self._taken_size += message.size
        return _shown(message, self._payload_limit)


def _shown(message: Published, payload_limit: int) -> Message:
    payload = message.payload
    return Message(
        topic=message.topic.decode(),
        time_ms=message.time_ms,
        payload=payload[:payload_limit],
        payload_size=len(payload),
        is_text=is_text(payload),
        qos=message.qos,
        retained=message.retained,
        client_id=message.client_id,
        message_id=message.message_id,
    )
