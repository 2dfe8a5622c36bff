"""How much of its oldest messages each queue gives up, while rounds of rows are read."""

from collections.abc import Mapping, Sequence

from monstermq_shared.stores.changes import Trim, Trimmed


class Trimming:
    """The queues of a commit that are being trimmed.

    Attributes:
        waiting: Client -> what its queue must still give up.
        trimmed: Client -> what its queue has given up.

    Args:
        trims: Client -> what its queue must give up.
    """

    def __init__(self, trims: Mapping[str, Trim]) -> None:
        self.waiting = dict(trims)
        self.trimmed = dict.fromkeys(trims, Trimmed(0, 0))

    def drop(self, client_id: str, sizes: Sequence[int], *, rows_asked: int) -> int:
        """Take the next of a client's rows into account.

        Args:
            client_id: A client that is waiting. It waits no more once there is room enough, or no
                more rows.
            sizes: Bytes of its oldest rows.
            rows_asked: How many rows were asked for: with fewer, there are no more.

        Returns:
            How many of the rows go.
        """
        trim = self.waiting[client_id]
        count = size = 0
        for row_size in sizes:
            if count >= trim.messages and size >= trim.size:
                break
            count += 1
            size += row_size
        before = self.trimmed[client_id]
        self.trimmed[client_id] = Trimmed(before.messages + count, before.size + size)
        left = Trim(trim.after, trim.messages - count, trim.size - size)
        if len(sizes) < rows_asked or (left.messages <= 0 and left.size <= 0):
            del self.waiting[client_id]
        else:
            self.waiting[client_id] = left
        return count
