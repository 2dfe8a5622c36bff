"""Which edges have not been heard of for a whole lease, and who was connected to them (S3)."""

from collections import deque
from collections.abc import Iterator, Mapping

LEASE_MS_MAX = 10 * 60 * 1000
"""What an edge says of its lease counts up to this: else one odd record would keep clients."""


class _Edge:
    """One that has clients.

    Attributes:
        run: Its run.
        clients: Who is connected to it.
        due_ms: The time of reading at which it is overdue.
        left: Of those, whom nobody was told of yet since it was.
    """

    __slots__ = ("clients", "due_ms", "left", "run")

    def __init__(self, run: bytes, due_ms: int) -> None:
        self.run = run
        self.clients: set[str] = set()
        self.due_ms = due_ms
        self.left: deque[str] = deque()


class SilentEdges:
    """Edges by their run. What counts is time in which the log was read.

    Args:
        lease_ms: How long an edge may be silent that has said nothing yet.
    """

    def __init__(self, lease_ms: int) -> None:
        self._lease_ms = lease_ms
        self._read_ms = 0
        self._edges: dict[bytes, _Edge] = {}
        # Those that are overdue, and whose clients were not all told.
        self._silent: dict[bytes, _Edge] = {}

    def attached(self) -> Mapping[str, int]:
        """Return run, in hex -> how many clients its edge has."""
        return {run.hex(): len(edge.clients) for run, edge in self._edges.items()}

    def add(self, run: bytes, client_id: str) -> bytes:
        """An edge has a client; return its run, the one object for all its clients."""
        edge = self._edges.get(run)
        if edge is None:
            edge = self._edges[run] = _Edge(run, self._read_ms + self._lease_ms)
        edge.clients.add(client_id)
        return edge.run

    def remove(self, run: bytes, client_id: str) -> None:
        """It does not have the client any more."""
        edge = self._edges[run]
        edge.clients.discard(client_id)
        if not edge.clients:
            del self._edges[run]
            self._silent.pop(run, None)

    def lease(self, run: bytes, for_ms: int) -> None:
        """An edge has said that it lives."""
        edge = self._edges.get(run)
        if edge is not None:
            edge.due_ms = self._read_ms + min(for_ms, LEASE_MS_MAX)
            self._silent.pop(run, None)
            edge.left.clear()

    def pass_time(self, elapsed_ms: int) -> Mapping[bytes, int]:
        """The log was read for so long; return the runs that are overdue by it, and their clients.

        Whoever is still there a lease later is named once more.
        """
        self._read_ms += elapsed_ms
        found: dict[bytes, int] = {}
        for run, edge in self._edges.items():
            if edge.due_ms <= self._read_ms:
                edge.due_ms = self._read_ms + self._lease_ms
                edge.left = deque(edge.clients)
                self._silent[run] = edge
                found[run] = len(edge.left)
        return found

    def clients(self) -> Iterator[str]:
        """Yield the clients of edges that are overdue, each once."""
        while self._silent:
            edge = next(iter(self._silent.values()))
            while edge.left:
                client_id = edge.left.popleft()
                if client_id in edge.clients:
                    yield client_id
            del self._silent[edge.run]
