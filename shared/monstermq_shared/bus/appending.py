"""Appends of whoever waits: for room in the log, and for what it makes of them."""

import asyncio
from collections.abc import Callable

from monstermq_shared.bus.ports import LogPort
from monstermq_shared.errors import BusError, BusUnavailable
from monstermq_shared.positions import Position

Appended = asyncio.Future[Position | None]
"""See ``LogPort.append``."""


async def append_when_room(log: LogPort, append: Callable[[], Appended]) -> Appended:
    """Append as soon as the log takes it.

    Args:
        log: Where.
        append: Appends, with the time of then.

    Raises:
        BusUnavailable: The bus was closed.
    """
    while True:
        try:
            return append()
        except BusUnavailable:
            # Raises the same if the bus is closed.
            await log.room()


def refusal_of(appended: Appended) -> BusError | None:
    """Return why the log has refused a record, None if it has it; the future is done.

    Raises:
        BusUnavailable: The bus was closed.
        Exception: It is none of the log's refusals.
    """
    error = appended.exception()
    if error is None or (isinstance(error, BusError) and not isinstance(error, BusUnavailable)):
        return error
    raise error
