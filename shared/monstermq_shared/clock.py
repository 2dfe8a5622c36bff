"""Time as a value that is passed in: the port, and the system's clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a driver gets the time from, so that tests and the simulation can own it."""

    def monotonic(self) -> float:
        """Seconds that never go back; for deadlines."""
        ...

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01 UTC; for timestamps people read."""
        ...


class SystemClock:
    """The operating system's clocks."""

    monotonic = staticmethod(time.monotonic)

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01 UTC; for timestamps people read."""
        return time.time_ns() // 1000
