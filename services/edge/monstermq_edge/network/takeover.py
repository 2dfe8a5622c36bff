"""Two devices with one client id take each other's connection over for ever: at a bounded rate."""

from collections.abc import Callable

WINDOW_S = 60.0

CLIENTS_MAX = 10_000
"""Client ids remembered; beyond it the counting begins anew, in the clients' favour."""


class TakeoverLimit:
    """Allows so many takeovers per client id and minute.

    Args:
        per_minute: ``Limits.TakeoversPerMinute``.
        is_connected: Whether a client id has a connection now.
    """

    def __init__(self, per_minute: int, is_connected: Callable[[str], bool]) -> None:
        self._per_minute = per_minute
        self._is_connected = is_connected
        # By hash: a client id may be 64 KiB long. Where two have the same, they count as one.
        self._counts: dict[int, tuple[float, int]] = {}

    def admit(self, client_id: str, now: float) -> bool:
        """Whether a connection with this client id may come in now."""
        if not self._is_connected(client_id):
            return True
        mark = hash(client_id)
        began, count = self._counts.get(mark, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        if count >= self._per_minute:
            return False
        if len(self._counts) >= CLIENTS_MAX:
            self._counts.clear()
        self._counts[mark] = (began, count + 1)
        return True
