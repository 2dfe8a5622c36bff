"""What a message store will hold once its commits are through: view + overlay = now."""

from collections import deque
from collections.abc import Sequence

from monstermq_shared.records import Record
from monstermq_shared.stores.ports import MessageChanges
from monstermq_shared.topics import matches


class Overlay:
    """Changes that are folded, but not yet visible to who reads the store.

    A change leaves when ``committed`` says that readers see it, unless a newer one has taken its
    place. How much there may be is bounded by whoever applies changes faster than they commit.
    """

    def __init__(self) -> None:
        self._changes: dict[str, tuple[Record | None, int]] = {}
        self._batches: deque[tuple[int, Sequence[str]]] = deque()

    def __len__(self) -> int:
        """Return how many topics have a change that is not committed."""
        return len(self._changes)

    def apply(self, changes: MessageChanges, upto: int) -> None:
        """Take changes that a commit with this ``upto``, or a later one, will carry.

        Args:
            changes: What a projection returned.
            upto: Never less than in an earlier call.
        """
        if not changes:
            return
        self._changes.update((topic, (record, upto)) for topic, record in changes.items())
        self._batches.append((upto, [*changes]))

    def committed(self, upto: int) -> None:
        """Forget the changes up to here: the store shows them."""
        batches = self._batches
        while batches and batches[0][0] <= upto:
            _, topics = batches.popleft()
            for topic in topics:
                change = self._changes.get(topic)
                if change is not None and change[1] <= upto:
                    del self._changes[topic]

    def get(self, topic: str) -> tuple[bool, Record | None]:
        """Return whether the topic has a change, and its record, None if it is cleared."""
        change = self._changes.get(topic)
        return (False, None) if change is None else (True, change[0])

    def matching(self, topic_filter: str) -> list[tuple[str, Record | None]]:
        """Return the changes whose topic a valid filter matches, in order of topic."""
        if topic_filter in self._changes:
            return [(topic_filter, self._changes[topic_filter][0])]
        found = [
            (topic, record)
            for topic, (record, _) in self._changes.items()
            if matches(topic_filter, topic)
        ]
        found.sort(key=lambda change: change[0])
        return found
