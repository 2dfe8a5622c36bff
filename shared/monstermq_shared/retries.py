"""The pauses of what is tried for ever, because a database may come back."""

import asyncio

PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts; the last one is repeated for ever."""


async def pause(attempt: int) -> None:
    """Wait until the next attempt.

    Args:
        attempt: How many have failed before this one did.
    """
    await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
