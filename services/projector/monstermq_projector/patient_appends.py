"""Appends of a worker: it knows what may be tried again."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from monstermq_shared.errors import BusError, BusUntimely
from monstermq_shared.retries import pause
from monstermq_shared.stores.outages import Outage

REFUSALS_MAX = 3
"""Times a record may be refused for what it is before it is given up."""

APPENDS = "appends"
"""What fails while a record is refused for its time, as ``Outage`` names it."""

T = TypeVar("T")


async def append_patiently(
    items: Sequence[T],
    attempt: Callable[[Sequence[T]], Awaitable[Sequence[tuple[T, BusError]]]],
    lose: Callable[[T, BusError], None],
    outage: Outage,
) -> None:
    """Append, and return when the log has everything, but for what it refuses for good.

    What is refused for its time is appended again with the time of then, for as long as it takes:
    a clock is off, which passes, and whatever is committed says that the log has it.

    Args:
        items: What.
        attempt: Appends it once, as of now; returns what is refused, and why.
        lose: Given what the log refuses for good.
        outage: Is told while a clock is off.

    Raises:
        BusUnavailable: The bus was closed.
    """
    tries = 0
    try:
        while items:
            refused = await attempt(items)
            tries += 1
            untimely = [error for _, error in refused if isinstance(error, BusUntimely)]
            if untimely:
                outage.failed(APPENDS, untimely[0])
            else:
                outage.passed(APPENDS)
            again = []
            for item, error in refused:
                if tries < REFUSALS_MAX or isinstance(error, BusUntimely):
                    again.append(item)
                else:
                    lose(item, error)
            items = again
            if items:
                await pause(tries - 1)
    except BaseException:
        # Somebody else does it, or nobody.
        outage.given_up(APPENDS)
        raise
