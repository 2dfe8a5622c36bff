"""Time as a value that is passed in: the port, the system's clock, and whether it was set."""

import time
from collections import deque
from typing import Protocol


class Clock(Protocol):
    """Where a driver gets the time from, so that tests and the simulation can own it."""

    def monotonic(self) -> float:
        """Seconds that never go back; for deadlines."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; for timestamps people read."""
        ...


class SystemClock:
    """The operating system's clocks."""

    monotonic = staticmethod(time.monotonic)

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; for timestamps people read."""
        return time.time_ns() // 1_000_000


STEP_S = 3.0
"""A wall clock that has moved by so much more or less than time has passed was set."""

STEPS_MAX = 64
"""Steps remembered. What comes of forgetting the oldest is that some ages are told too low."""


class WallHistory:
    """What the wall clock showed when, so that ages in time that passed can be told from its times.

    The wall clock is time that passed plus an offset, and a step changes the offset: when a machine
    without a clock of its own learns the date, or somebody sets it. (On Linux the monotonic clock
    stands still while the machine sleeps, so waking up is a step as well.)

    Args:
        clock: Both clocks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ms = self._read()[1]
        # (monotonic seconds until which it was so, offset), the oldest first.
        self._earlier: deque[tuple[float, int]] = deque()

    def _read(self) -> tuple[float, int]:
        now = self._clock.monotonic()
        return now, self._clock.wall_ms() - int(now * 1000)

    def look(self) -> float:
        """Return by how many seconds the clock was set since the last call, 0 if it was not.

        To be called every second or so. Small corrections are followed in silence.
        """
        now, offset_ms = self._read()
        before_ms, self._offset_ms = self._offset_ms, offset_ms
        step_s = (offset_ms - before_ms) / 1000
        if abs(step_s) <= STEP_S:
            return 0.0
        self._earlier.append((now, before_ms))
        if len(self._earlier) > STEPS_MAX:
            _, oldest_ms = self._earlier.popleft()
            until, next_ms = self._earlier.popleft()
            self._earlier.appendleft((until, min(oldest_ms, next_ms)))
        return step_s

    def before_ms(self, age_s: float) -> int:
        """Return a time of which everything older has that age, as far as this process knows.

        It is the lowest that the wall clock would show for ``age_s`` ago by any offset it has had
        since. So what was written before a step forward gets as old by time that passed as it was
        by the clock before, and after a step backward nothing is told older than it can be.
        """
        now, offset_ms = self._read()
        since = now - age_s
        offsets = [us for until, us in self._earlier if until > since]
        return int(since * 1000) + min(offset_ms, self._offset_ms, *offsets)
