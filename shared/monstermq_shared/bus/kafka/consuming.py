"""Starting and stopping aiokafka's consumers so that no connection is left behind."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaConsumer

from monstermq_shared.kafka.errors import CLIENT_ERRORS


async def start(consumer: AIOKafkaConsumer) -> None:
    """Start a consumer, or stop it.

    Raises:
        KafkaError, OSError, TimeoutError: It could not be started.
    """
    try:
        await consumer.start()
    except BaseException:
        await stop(consumer)
        raise


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, started or not."""
    # It cancels a task of its own and waits for it, which fails if that has not begun yet.
    await asyncio.sleep(0)
    with suppress(*CLIENT_ERRORS):
        await consumer.stop()
