"""A writer on a Kafka bus, in this process: messages of some topics, a bounded number on their way.

It knows what it appended, what was acknowledged and what was refused, so that the log can be
compared with it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.support.log_reading import Row

from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.messages import MessageRun

TOPICS = 12
WINDOW = 4
"""Runs of one topic that are on their way."""

PACE_S = 0.02
"""Between an acknowledgement and the next run: tables should not become larger than needed."""

RUN_MAX = 5
"""A topic's runs have 1, 2, ... so many messages in turn."""


class BusWriter:
    """Appends for as long as its load is on.

    Args:
        log: Where.

    Attributes:
        appended: Payloads of each topic, in order.
        acknowledged: The payloads that are in the log.
        refused: Those that are not.
        reasons: Why, one per batch that was refused.
    """

    def __init__(self, log: KafkaLog) -> None:
        self.appended: dict[str, list[bytes]] = {f"topic/{n}": [] for n in range(TOPICS)}
        self.acknowledged: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.reasons: list[Exception] = []
        self._log = log
        self._on_the_way = dict.fromkeys(self.appended, 0)
        self._runs = 0
        self._changed = asyncio.Event()
        self._goes_on = False
        log.on_appended = self._on_appended
        log.on_refused = self._on_refused

    @contextmanager
    def load(self) -> Iterator[None]:
        """Append until the block ends."""
        self._goes_on = True
        for topic in self.appended:
            self._fill(topic)
        yield
        self._goes_on = False

    def append(
        self, topic: str, payloads: Sequence[bytes], wall_ms: int, names: Sequence[bytes] = ()
    ) -> None:
        """Append one run.

        Args:
            topic: One of ``appended``.
            payloads: Of its messages.
            wall_ms: The time of its records.
            names: What is noted of the payloads; without, they themselves.
        """
        raw, noted = topic.encode(), names or payloads
        self.appended[topic] += noted
        self._on_the_way[topic] += 1
        self._runs += 1
        run = MessageRun.of(raw, [*payloads], 1)
        ticket = topic, noted
        self._log.append_run(self.partition_of(topic), raw, run, "writer", wall_ms, ticket)

    def partition_of(self, topic: str) -> int:
        """Return where a topic's messages go."""
        return self._log.partition_of(topic)

    async def until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Return once something is so; it is looked at after each acknowledgement.

        Raises:
            TimeoutError: It did not come to be so.
        """
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def more(self, messages: int, within_s: float) -> None:
        """Return once so many more are acknowledged."""
        enough = len(self.acknowledged) + messages
        await self.until(lambda: len(self.acknowledged) >= enough, within_s)

    async def idle(self, within_s: float) -> None:
        """Return once nothing is on its way."""
        await self.until(lambda: not any(self._on_the_way.values()), within_s)

    def check(self, rows: Sequence[Row]) -> None:
        """Assert that the log has what it should, each once and in order.

        Args:
            rows: What counts there.
        """
        found: dict[str, list[bytes]] = {topic: [] for topic in self.appended}
        for row in rows:
            found[row.topic].append(row.payload)
            assert row.partition == self.partition_of(row.topic)
        for topic, appended in self.appended.items():
            expected = [payload for payload in appended if payload not in self.refused]
            assert found[topic] == expected, f"{topic}: {_difference(found[topic], expected)}"

    def _fill(self, topic: str) -> None:
        while self._goes_on and self._on_the_way[topic] < WINDOW:
            if self._log.is_full(self.partition_of(topic)):
                self._soon(topic)
                return
            here = len(self.appended[topic])
            count = self._runs % RUN_MAX + 1
            payloads = [f"{topic} {number}".encode() for number in range(here, here + count)]
            self.append(topic, payloads, time.time_ns() // 1_000_000)
            self._log.flush()

    def _on_appended(self, tickets: list[object]) -> None:
        for topic, payloads in self._settled(tickets):
            self.acknowledged.update(payloads)
            self._soon(topic)
        self._changed.set()

    def _on_refused(self, tickets: list[object], error: Exception) -> None:
        self.reasons.append(error)
        for topic, payloads in self._settled(tickets):
            self.refused.update(payloads)
            self._soon(topic)
        self._changed.set()

    def _soon(self, topic: str) -> None:
        asyncio.get_running_loop().call_later(PACE_S, self._fill, topic)

    def _settled(self, tickets: list[object]) -> Iterator[tuple[str, Sequence[bytes]]]:
        for ticket in tickets:
            assert isinstance(ticket, tuple)
            topic, payloads = ticket
            self._on_the_way[topic] -= 1
            yield topic, payloads


def _difference(found: Sequence[bytes], expected: Sequence[bytes]) -> str:
    place = next(
        (n for n, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]),
        min(len(found), len(expected)),
    )
    return (
        f"{len(found)} instead of {len(expected)}; from {place} on {found[place : place + 5]} "
        f"instead of {expected[place : place + 5]}"
    )
