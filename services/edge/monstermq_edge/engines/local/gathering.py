"""When the facts of a turn are handed to the database: at once, or after a while with others.

Every commit writes whole pages and waits for the disk, so a hundred small ones a second write far
more than a hundred messages: enough to wear an SD card out. What an acknowledgement waits for is
never delayed, and takes along what was gathered before it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from monstermq_shared.sessions.local.turn import Journal

_COARSE_S = 0.002

GATHERED_SHARE: Final = 64
"""A turn with this part of the backlog's bound is large enough to be committed for itself."""


class Gathering:
    """Decides for one journal, with one timer at a time.

    Args:
        journal: What is collected.
        delay_s: How long facts may wait that nobody waits for; 0: not at all.
        backlog_size_max: Bytes that may wait for the database, see ``HoldLimits``.
        over: Called when the delay of what is collected is over.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        delay_s: float,
        backlog_size_max: int,
        over: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._delay_s = delay_s
        self._size_max = backlog_size_max // GATHERED_SHARE
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at: float | None = None
        self._ended = delay_s == 0

    def is_due(self) -> bool:
        """Whether to hand over what is collected, if anything is; if not, ``over`` says when."""
        journal = self._journal
        if journal.is_empty:
            return False
        if self._ended or journal.is_waited_for or journal.collected_size >= self._size_max:
            return True
        if self._due_at is not None:
            return self._due_at <= self._loop.time()
        self._due_at = self._loop.time() + self._delay_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._due_at, self._look)
        return False

    def taken(self) -> None:
        """What was collected has been handed over: what comes next begins to wait anew."""
        self._due_at = None

    def end(self) -> None:
        """From now on everything is due at once: the broker stops."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The delay of what was collected first is over; what is collected now may be younger."""
        self._timer = None
        if self._due_at is None:
            return
        # A timer may be early by as much as the loop's clock is coarse.
        if self._due_at - self._loop.time() > _COARSE_S:
            self._timer = self._loop.call_at(self._due_at, self._look)
        else:
            self._due_at = self._loop.time()
            self._over()
