"""What was worked out once and may be again: kept, up to a bound in bytes."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(dict[K, V]):
    """Key -> what was worked out for it.

    Past the bound all is forgotten: the busy ones are soon back, and to find out which those are
    would cost more on every call than it saves.

    Args:
        size_max: The bound, in bytes, about.
    """

    def __init__(self, size_max: int) -> None:
        super().__init__()
        self._size = 0
        self._size_max = size_max

    def remember(self, key: K, value: V, size: int) -> None:
        """Keep a value that is not kept; ``size`` is what it takes, about."""
        if self._size + size > self._size_max:
            self.forget()
        self._size += size
        self[key] = value

    def forget(self) -> None:
        """Begin anew."""
        self.clear()
        self._size = 0
