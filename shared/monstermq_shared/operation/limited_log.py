"""Logging what peers can provoke, at a bounded rate."""

import logging
from collections.abc import Hashable, Mapping


class LimitedLog:
    """Writes at most one line per key and interval, and says how many it left out.

    For what peers can provoke. A key names the kind of event, not the peer: it comes from the code.
    Beyond ``KEYS_MAX`` keys within an interval all new ones count as one, so that memory and lines
    stay bounded even if somebody gets that wrong, and come apart again once it is over.

    Attributes:
        suppressed: Lines left out since the start.
    """

    KEYS_MAX = 256

    def __init__(self, logger: logging.Logger, *, interval_s: float = 10.0) -> None:
        self.suppressed = 0
        self._logger = logger
        self._interval_s = interval_s
        self._next_s: dict[Hashable, float] = {}
        self._left_out: dict[Hashable, int] = {}

    def log(
        self,
        key: Hashable,
        now_s: float,
        level: int,
        message: str,
        extra: Mapping[str, object] | None = None,
    ) -> bool:
        """Write the line unless ``key`` had one within the interval; return whether it was written.

        Args:
            key: The kind of event.
            now_s: Monotonic seconds.
            level: As of the ``logging`` module.
            message: The line; whatever differs from event to event belongs into ``extra``.
            extra: Rendered as ``key=value``; ``suppressed`` is added if lines were left out.
        """
        limits = self.admit(key, now_s)
        if limits is None:
            return False
        self._logger.log(level, "%s", message, extra={**(extra or {}), **limits})
        return True

    def admit(self, key: Hashable, now_s: float) -> dict[str, int] | None:
        """Return the ``extra`` to add to a line the caller writes itself, or None: leave it out."""
        if key not in self._next_s and len(self._next_s) >= self.KEYS_MAX:
            self._forget_before(now_s)
            if len(self._next_s) >= self.KEYS_MAX:
                key = LimitedLog
        if now_s < self._next_s.get(key, now_s):
            self.suppressed += 1
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return None
        self._next_s[key] = now_s + self._interval_s
        left_out = self._left_out.pop(key, 0)
        return {"suppressed": left_out} if left_out else {}

    def _forget_before(self, now_s: float) -> None:
        """Forget the keys that may have a line again."""
        self._next_s = {key: next_s for key, next_s in self._next_s.items() if next_s > now_s}
        self._left_out = {key: n for key, n in self._left_out.items() if key in self._next_s}
