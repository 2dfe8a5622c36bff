"""Publishing to a log for whoever is no MQTT client."""

import asyncio
from functools import partial
from itertools import count
from typing import NamedTuple, Self

from monstermq_shared.bus.appending import Appended, append_when_room
from monstermq_shared.bus.ports import LogPort, Stamp
from monstermq_shared.clock import Clock
from monstermq_shared.config import KIB, BrokerConfig
from monstermq_shared.errors import BusRefused, BusUnavailable, InvalidTopic, QueryRefused
from monstermq_shared.queries.live import Publication
from monstermq_shared.records import Record
from monstermq_shared.topics import check_topic_name

ANSWER_S = 10.0
"""How long the log may take to answer for a message."""

CLIENT_ID = "mcp"
"""Whom records name that no MQTT client has published."""

_OWN_TOPICS = "$"
_PACKET_HEAD = 16  # bytes of a PUBLISH beside its topic and payload, and some more


class PublisherLimits(NamedTuple):
    """What may be published.

    Attributes:
        levels_max: Levels that a topic may have.
        size_max: Bytes of topic and payload together.
    """

    levels_max: int
    size_max: int

    @classmethod
    def from_config(cls, config: BrokerConfig) -> Self:
        """Return those that clients have."""
        return cls(config.limits.topic_levels, config.max_message_size_kb * KIB - _PACKET_HEAD)

    def check(self, publication: Publication) -> None:
        """Refuse what no client may publish.

        Raises:
            QueryRefused: It is that.
        """
        topic = publication.topic
        try:
            check_topic_name(topic, levels_max=self.levels_max)
        except InvalidTopic as exc:
            raise QueryRefused(str(exc)) from exc
        if topic.startswith(_OWN_TOPICS):
            raise QueryRefused(f"{topic[:80]!r} begins with $: such topics are the broker's own")
        if publication.qos not in (0, 1, 2):
            raise QueryRefused(f"the QoS is {publication.qos}; give 0, 1 or 2")
        size = len(topic.encode()) + len(publication.payload)
        if size > self.size_max:
            raise QueryRefused(
                f"topic and payload have {size} bytes; the broker takes {self.size_max} "
                "(MaxMessageSizeKb)"
            )


class LogPublisher:
    """See ``queries.ports.Publisher``. All calls are made in the loop of the log.

    Args:
        log: Where messages are appended.
        run: The writer, as the stamps name it: 8 bytes that no other writer has.
        clock: The wall's.
        limits: What may be published.
    """

    def __init__(self, log: LogPort, run: bytes, clock: Clock, limits: PublisherLimits) -> None:
        self._log = log
        self._run = run
        self._clock = clock
        self._limits = limits
        self._sequences = count()

    async def publish(self, publication: Publication) -> None:
        """See ``Publisher.publish``."""
        self._limits.check(publication)
        try:
            async with asyncio.timeout(ANSWER_S):
                append = partial(self._append, publication)
                await (await append_when_room(self._log, append))
        except TimeoutError as exc:
            raise BusUnavailable(
                f"the broker has not answered for the message within {ANSWER_S:g} s; whether it "
                "was published is not known"
            ) from exc
        except BusRefused as exc:
            raise QueryRefused(f"the log does not take this message: {exc}") from exc

    def _append(self, publication: Publication) -> Appended:
        """Append a message with the time of now."""
        record = Record(
            publication.topic,
            publication.payload,
            publication.qos,
            publication.retained,
            CLIENT_ID,
            self._clock.wall_ms(),
            0,
        )
        stamp = Stamp(self._run, next(self._sequences))
        return self._log.append(self._log.partition_of(publication.topic), [record], stamp)
