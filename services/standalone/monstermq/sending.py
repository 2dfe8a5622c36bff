"""Sends messages to a broker until it has them for certain, by as many connections as it takes."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from monstermq.mqtt_link import (
    Address,
    LinkLost,
    LinkRefused,
    LinkSilent,
    MqttLink,
    Publication,
)
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.retries import pause

BATCH_MAX = 500
"""Messages that are sent at a time."""

BATCH_SIZE_MAX = 256 * 1024
"""Bytes of topics and payloads after which fewer are."""

WINDOW = 8 * BATCH_MAX
"""Messages on their way."""

WINDOW_SIZE_MAX = 4 * 1024 * 1024
"""Bytes of topics and payloads on their way, unless a single one is larger."""

LOSSES_MAX = 5
"""So often one message may be the first that is missing when the connection ends."""

LOSSES_TOGETHER = 2
"""After so many, messages are sent one by one, to find out which of them it is."""


class Sender:
    """Sends in order, and again what may not have arrived: each message at least once.

    Args:
        address: The broker's.
        client_id: Who publishes.
        patience_s: For how long a broker that has gone is tried again, from the first trouble
            since something has arrived.
        on_sent: Told how many more have arrived, in order.
        on_break: Told what is wrong when a connection has ended.
        leaving_out: Returns the options of a command line that leave out the first message that
            has not arrived.

    Attributes:
        sent: How many messages have arrived for certain, counted from the first.
    """

    def __init__(
        self,
        address: Address,
        client_id: str,
        patience_s: float,
        on_sent: Callable[[int], None],
        on_break: Callable[[str], None],
        leaving_out: Callable[[], str],
    ) -> None:
        self.sent = 0
        self._address = address
        self._client_id = client_id
        self._patience_s = patience_s
        self._on_sent = on_sent
        self._on_break = on_break
        self._leaving_out = leaving_out
        self._link = MqttLink(address, client_id)
        # What was given to a link and may not have arrived, over all links.
        self._pending: deque[Publication] = deque()
        self._size = 0
        self._losses = 0
        self._deadline_s: float | None = None

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            StartupError: The broker is not there, or does not want us.
        """
        try:
            await self._link.connect()
        except (LinkLost, LinkRefused) as exc:
            raise StartupError(str(exc), exit_code=ExitCode.FAILURE) from exc

    async def send(self, publications: Sequence[Publication]) -> None:
        """Send messages; returns when there is room for more.

        Raises:
            StartupError: The broker does not want them, or is away for too long.
        """
        for batch in batches(publications):
            size = sum(len(at.topic) + len(at.payload) for at in batch)
            while self._pending and (
                len(self._pending) + len(batch) > WINDOW or self._size + size > WINDOW_SIZE_MAX
            ):
                await self._progress()
            self._pending.extend(batch)
            self._size += size
            await self._mended(self._link.publish(batch))
            self._collect()

    async def until(self, at_s: float) -> None:
        """Wait until then, by the loop's clock, and see meanwhile what has arrived.

        Raises:
            StartupError: See ``send``.
        """
        loop = asyncio.get_running_loop()
        while (left_s := at_s - loop.time()) > 0:
            moved = asyncio.create_task(self._link.moved.wait())
            await asyncio.wait([moved], timeout=left_s)
            # What mends a connection must not be cut short, so nothing else is under the timeout.
            moved.cancel()
            if self._link.moved.is_set():
                await self._progress()

    async def finish(self) -> None:
        """Return when all have arrived.

        Raises:
            StartupError: See ``send``.
        """
        while self._pending:
            await self._progress()
        await self._link.close()

    async def close(self) -> None:
        """End the connection, whatever has arrived."""
        self._collect()
        await self._link.close()

    async def _progress(self) -> None:
        await self._mended(self._link.wait())
        self._collect()

    def _collect(self) -> None:
        count = self._link.take_confirmed()
        if not count:
            return
        for _ in range(count):
            topic, payload, _, _ = self._pending.popleft()
            self._size -= len(topic) + len(payload)
        self.sent += count
        self._forget_trouble()
        self._on_sent(count)

    def _forget_trouble(self) -> None:
        self._losses = 0
        self._deadline_s = None

    async def _mended(self, step: Awaitable[None]) -> None:
        """Take a step; if the connection ends, send what is pending by another one."""
        try:
            await step
        except LinkLost as exc:
            await self._mend(exc)

    async def _mend(self, lost: LinkLost) -> None:
        self._on_break(f"{lost}; it is tried again for {self._patience_s:g} s")
        loop, failures = asyncio.get_running_loop(), 0
        if self._deadline_s is None:
            self._deadline_s = loop.time() + self._patience_s
        deadline_s = self._deadline_s
        while True:
            self._collect()
            await self._link.close()
            try:
                self._link = MqttLink(self._address, self._client_id)
                await self._link.connect()
                failures = 0
                await self._send_again()
            except LinkRefused as exc:
                raise self._given_up(str(exc)) from exc
            except LinkLost as exc:
                lost = exc
            else:
                if not self._pending:
                    self._forget_trouble()
                return
            # By then it was sent alone; and who says nothing has nothing against it.
            if self._losses >= LOSSES_MAX and not isinstance(lost, LinkSilent):
                raise self._given_up(self._culprit())
            if loop.time() > deadline_s:
                raise self._given_up(str(lost))
            await pause(failures)
            failures += 1

    async def _send_again(self) -> None:
        """Send what is pending, one by one if that has failed before."""
        self._losses += 1
        if self._losses <= LOSSES_TOGETHER:
            for batch in batches([*self._pending]):
                await self._link.publish(batch)
            return
        while self._pending:
            await self._link.publish([self._pending[0]])
            while self._link.unconfirmed and self._link.unconfirmed[0].waiting:
                await self._link.wait()
            self._collect()

    def _culprit(self) -> str:
        first = self._pending[0]
        topic = first.topic.decode(errors="replace")[:200]
        return (
            f"{self._address.text} closes the connection when it gets a message of "
            f"{len(first.payload)} bytes on {topic!r}; its log may say why, and "
            f"{self._leaving_out()} leaves it out"
        )

    def _given_up(self, why: str) -> StartupError:
        return StartupError(why, exit_code=ExitCode.FAILURE)


def batches(publications: Sequence[Publication]) -> list[list[Publication]]:
    """Return messages in pieces that are sent in one go."""
    found: list[list[Publication]] = []
    at = iter(publications)
    while some := list(islice(at, BATCH_MAX)):
        batch: list[Publication] = []
        size = 0
        for each in some:
            each_size = len(each.topic) + len(each.payload)
            if batch and size + each_size > BATCH_SIZE_MAX:
                found.append(batch)
                batch, size = [], 0
            batch.append(each)
            size += each_size
        found.append(batch)
    return found
