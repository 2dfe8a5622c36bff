"""Whether the topic of a log is still there, which Kafka's client does not say: it only waits."""

import asyncio
from collections.abc import Callable

from monstermq_shared.errors import BusLost, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.admin import Admin
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.retries import pause

MISSING_S = 15.0
"""A topic that the servers do not know for so long is gone; a server that starts knows none."""


async def refuse_lost_topic(
    settings: KafkaSettings, topic: str, partitions: int, goes_on: Callable[[], bool]
) -> None:
    """Return if the topic is there, or if nobody can say; a missing one is waited for.

    Args:
        settings: Of the cluster.
        topic: Its name.
        partitions: How many it has to have.
        goes_on: Whether somebody still wants to know.

    Raises:
        BusLost: It is gone, or is another one.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + MISSING_S
    attempt = 0
    while goes_on():
        try:
            found = await _partitions_now(settings, topic)
        except StartupError:
            return  # we do not know, and go on as while Kafka is away
        if found == partitions:
            return
        if found is not None or loop.time() > deadline_s:
            has = "is gone" if found is None else f"has {found} partitions"
            raise BusLost(
                f"Kafka.Bus.Topic: the topic {topic} {has}, and this process was started with "
                f"{partitions} partitions: its positions mean nothing any more"
            )
        await pause(attempt)
        attempt += 1


async def _partitions_now(settings: KafkaSettings, topic: str) -> int | None:
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        facts = (await admin.topics([topic])).get(topic)
    return None if facts is None else facts.partitions
