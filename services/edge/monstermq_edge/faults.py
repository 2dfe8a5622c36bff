"""Bugs of our own: contained where they came up, counted all, logged with their traceback."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from monstermq_shared.clock import Clock
from monstermq_shared.counters import Counters
from monstermq_shared.operation.limited_log import LimitedLog

logger = logging.getLogger(__name__)


class Faults:
    """Keeps the bug that one connection or one job runs into from ending anything else.

    Only for what serves one of many, and is over when it has failed. What everybody depends on must
    end the process instead.
    """

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._limited_log = LimitedLog(logger)

    def note(self, where: str, error: Exception) -> None:
        """Count a bug, and log it unless one of its kind was logged moments ago.

        Args:
            where: What was being done; from the code, never from a peer.
            error: What came up.
        """
        self._counters.faults += 1
        key = (where, type(error))
        extra = self._limited_log.admit(key, self._clock.monotonic())
        if extra is not None:
            logger.error("a fault in the broker, in %s", where, exc_info=error, extra=extra)

    @contextmanager
    def contained(self, where: str) -> Iterator[None]:
        """Note what comes up in the block, and go on after it."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - a bug can be any exception, and is noted
            self.note(where, exc)
