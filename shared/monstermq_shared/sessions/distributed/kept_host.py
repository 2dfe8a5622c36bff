"""What the host of the distributed engine does for kept sessions: it reads rows and brings them."""

from collections.abc import Mapping, Sequence

from monstermq_shared.sessions.core import EngineCore
from monstermq_shared.sessions.distributed.kept_serving import KeptServing
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.stores.queues import KeptRows, QueueAsk, QueuePage


class KeptHost(EngineCore[BusSession]):
    """The base of the engine, which makes its attribute.

    Attributes:
        kept: Kept sessions.
    """

    kept: KeptServing

    @property
    def awaits_queues(self) -> bool:
        """Whether a session waits for the workers' rows: then ask for their marks often (E5)."""
        return self.kept.port.waits

    @property
    def queue_waits(self) -> dict[int, int]:
        """Partition -> how many sessions wait for its rows (E5)."""
        return self.kept.port.waiting

    @property
    def sessions_behind(self) -> list[int]:
        """Partitions of the sessions log whose kept sessions are refused for their worker (E2)."""
        return self.kept.states.behind

    def queues_reflected(self, positions: Mapping[int, int]) -> None:
        """The queues of kept sessions reflect the partitions up to here (E5)."""
        self.kept.port.reflected(positions)

    def take_asks(self) -> list[QueueAsk]:
        """Return the pages that sessions wait for; all are answered at once by ``queue_pages``."""
        return self.kept.port.take_asks()

    def queue_pages(self, asks: Sequence[QueueAsk], pages: Sequence[QueuePage]) -> None:
        """Bring the pages that were asked for, all as of one moment, in the same order (R5)."""
        self.kept.port.pages(asks, pages)

    def take_row_reads(self) -> dict[int, list[str]]:
        """Return partition of the sessions log -> clients whose rows are wanted (E2).

        Each of these reads is answered by ``kept_rows``, once.
        """
        return self.kept.states.take_reads()

    def kept_rows(self, partition: int, client_ids: Sequence[str], rows: KeptRows) -> None:
        """Bring the rows that were asked for of these clients, as of one moment."""
        self.kept.rows(partition, client_ids, rows)

    def sessions_reflected(self, positions: Mapping[int, int]) -> None:
        """The rows of sessions reflect the partitions of the sessions log up to here."""
        self.kept.reflected(positions)

    def databases_down(self, down: bool) -> None:
        """The database of kept sessions cannot be reached, or is there again (E2)."""
        self.kept.databases_down(down)
