"""Which payloads of a partition may be needed by nobody any more, without looking at all of them.

Most of what is in a long queue stays there from one sweep to the next. So what is looked at is
where deliveries have gone since the last one, and once all there is: nobody knows what a process
before this one has left.
"""

from collections.abc import Iterable

BLOCK = 1024
"""Offsets that are remembered as one."""

BLOCKS_MAX = 65_536
"""How many of them are remembered; beyond, all there is is looked at again."""


class Sweeping:
    """What is still to be looked at of one partition. A new one has to look at everything."""

    def __init__(self) -> None:
        self._blocks: set[int] = set()
        self._all_from: int | None = 0

    def add(self, offsets: Iterable[int]) -> None:
        """Note that deliveries of these offsets have gone."""
        self._blocks.update({offset // BLOCK for offset in offsets})
        self._bound()

    def add_stretch(self, first: int, end: int) -> None:
        """Note that some of first <= offset < end have."""
        blocks = range(first // BLOCK, (end - 1) // BLOCK + 1)
        if len(blocks) > BLOCKS_MAX:
            self._all_from = 0
        else:
            self._blocks.update(blocks)
            self._bound()

    def take(self, below: int) -> list[tuple[int, int]]:
        """Return stretches (first, end) to look at, none above an offset.

        They are not remembered any more, so what is not looked at is given back. Whatever is above
        the offset comes again.
        """
        stretches: list[tuple[int, int]] = []
        for block in sorted(self._blocks):
            first, end = block * BLOCK, (block + 1) * BLOCK
            if first >= below:
                break
            if end <= below:
                self._blocks.discard(block)
            if stretches and stretches[-1][1] == first:
                stretches[-1] = (stretches[-1][0], min(end, below))
            else:
                stretches.append((first, min(end, below)))
        return stretches

    def take_all(self) -> int | None:
        """Return from where on all is still to be looked at, None if all was.

        As with ``take``: what is not looked at is given back, with ``give_all``.
        """
        start, self._all_from = self._all_from, None
        return start

    def give_all(self, start: int) -> None:
        """Say from where on all is still to be looked at."""
        self._all_from = start if self._all_from is None else min(start, self._all_from)

    def _bound(self) -> None:
        if len(self._blocks) > BLOCKS_MAX:
            self._blocks.clear()
            self._all_from = 0
