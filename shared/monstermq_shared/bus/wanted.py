"""Which topics are wanted, remembered by their bytes as they stand in the log."""

from collections.abc import Sequence

from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.ports import Entry
from monstermq_shared.errors import InvalidRecord, UnknownFact
from monstermq_shared.records import Record
from monstermq_shared.remembered import Remembered
from monstermq_shared.topics import matches

REMEMBERED_SIZE = 2 * 1024 * 1024
"""Bytes of topics whose match is remembered, about: some ten thousand of them."""

OVERHEAD = 100
"""Bytes that one takes beside its name."""


class Wanted:
    """Picks the messages that some filters match.

    Args:
        filters: Topics and filters, valid.
    """

    def __init__(self, filters: Sequence[str]) -> None:
        self._filters = filters
        self._known: Remembered[bytes, bool] = Remembered(REMEMBERED_SIZE)

    def takes(self, topic: bytes) -> bool:
        """Whether one of them matches."""
        known = self._known.get(topic)
        if known is None:
            name = topic.decode(errors="replace")
            known = any(matches(each, name) for each in self._filters)
            self._known.remember(topic, known, len(topic) + OVERHEAD)
        return known


def message_in(entry: Entry) -> Record | None:
    """Return the message that stands there, None if it is none or cannot be read."""
    if entry.kind != Kind.MESSAGE:
        return None
    try:
        return entry.record()
    except (InvalidRecord, UnknownFact):  # the projectors count those
        return None
