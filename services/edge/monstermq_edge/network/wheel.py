"""The time wheel that finds silent connections: no timer for each of them."""

import math
from collections import deque
from typing import Protocol

from monstermq_shared.clock import Clock

TICK_S = 0.25
"""How fine the wheel is: a silent client is noticed at most this long after its deadline."""

WATCH_MAX_S = 60.0
"""The wheel looks no further ahead, so it keeps a connection that has gone this long at most."""

CHECKS_MAX = 5_000
"""Connections that are looked at in one tick. Where more are due, the others follow in the next."""

_WATCH_TICKS_MAX = int(WATCH_MAX_S / TICK_S)


class Watched(Protocol):
    """What the wheel looks at."""

    def check_deadline(self, tick: int, now: float) -> None:
        """The wheel has come to a tick for which this was registered."""
        ...

    def fail(self, error: Exception) -> None:
        """A bug of ours came up meanwhile."""
        ...


class Wheel:
    """Slots of ``TICK_S``, each with the connections that are to be looked at then.

    A packet only moves a connection's deadline; the wheel looks again when the old slot comes up.

    Args:
        clock: Where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: dict[int, list[Watched]] = {}
        self._due: deque[tuple[int, Watched]] = deque()
        self._at = int(clock.monotonic() / TICK_S)

    def watch(self, protocol: Watched, deadline: float) -> int:
        """Look at a connection once its deadline has passed, or ``WATCH_MAX_S`` before.

        Returns:
            The wheel's tick for that.
        """
        last = self._at + _WATCH_TICKS_MAX
        tick = last if deadline >= last * TICK_S else math.ceil(deadline / TICK_S)
        tick = max(tick, self._at + 1)
        self._slots.setdefault(tick, []).append(protocol)
        return tick

    def tick(self) -> None:
        """Visit the connections whose tick has come. Call it every ``TICK_S``."""
        now = self._clock.monotonic()
        while self._at < int(now / TICK_S):
            self._at += 1
            self._due.extend((self._at, protocol) for protocol in self._slots.pop(self._at, ()))
        for _ in range(min(len(self._due), CHECKS_MAX)):
            tick, protocol = self._due.popleft()
            try:
                protocol.check_deadline(tick, now)
            except Exception as exc:  # noqa: BLE001 - a bug in one must not spare the others
                protocol.fail(exc)
