"""What a message store will hold once its commits are through: view + overlay = now."""

from monstermq_shared.records import Record
from monstermq_shared.topics import matches


class Overlay:
    """Changes that are folded, but not yet visible to who reads the store.

    A change leaves when ``committed`` says that readers see it, unless a newer one has taken its
    place. How much there may be is bounded by whoever applies changes faster than they commit.
    """

    def __init__(self) -> None:
        self._changes: dict[str, tuple[Record | None, int]] = {}
        self._upto = 0

    def __len__(self) -> int:
        """Return how many topics have a change that is not committed."""
        return len(self._changes)

    def put(self, topic: str, record: Record | None, upto: int) -> None:
        """Take one change that a commit with this ``upto``, or a later one, will carry.

        Args:
            topic: The topic.
            record: Its new record, None if it is cleared.
            upto: Never less than in an earlier call.
        """
        self._changes[topic] = (record, upto)
        self._upto = upto

    def committed(self, upto: int) -> None:
        """Forget the changes up to here: the store shows them."""
        if self._upto <= upto:
            self._changes.clear()
        else:
            self._changes = {
                topic: change for topic, change in self._changes.items() if change[1] > upto
            }

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
