"""What is tried for ever, because a database may come back: its pauses, and when it is late."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts; the last one is repeated for ever."""

LATE_S = 5.0
"""Seconds after which a commit without an answer is told: a database that hangs reports no error,
and the time-out of its connection may be a minute."""


async def pause(attempt: int) -> None:
    """Wait until the next attempt.

    Args:
        attempt: How many have failed before this one did.
    """
    await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])


@contextmanager
def telling_when_late(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell somebody, once, if a commit in this block takes longer than ``LATE_S``.

    Args:
        tell: Given the sentence that says so.
    """
    said = f"no answer for more than {LATE_S:g} s"
    timer = asyncio.get_running_loop().call_later(LATE_S, tell, said)
    try:
        yield
    finally:
        timer.cancel()
