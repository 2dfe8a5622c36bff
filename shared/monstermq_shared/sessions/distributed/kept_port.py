"""What kept sessions ask for while they are connected: markers, packet ids, acks, and rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from monstermq_shared.bus.control import in_records
from monstermq_shared.bus.facts import Ack, Marker
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_acks import Acking
from monstermq_shared.sessions.distributed.kept_line import Opening
from monstermq_shared.sessions.distributed.kept_subscribing import (
    FactRead,
    MarkerRead,
)
from monstermq_shared.sessions.distributed.ports import FactWriter, MessageWriter
from monstermq_shared.sessions.distributed.read_back import ReadBack
from monstermq_shared.sessions.distributed.row_waits import RowWaits
from monstermq_shared.sessions.distributed.session import Refusable
from monstermq_shared.stores.queues import QueueAsk, QueuePage

ASKS_MAX = 256
"""Pages that are asked for at once; others wait for the next time."""


class _AckTicket:
    """Of acks: PUBREL may follow once the log has them (E9)."""

    def __init__(self, session: KeptSession, acks: Acking, packet_ids: Sequence[int]) -> None:
        self._session = session
        self._acks = acks
        self._packet_ids = packet_ids
        session.acking(acks)

    def appended(self) -> None:
        """See ``Ticket``."""
        self._session.appended(self._acks)
        self._session.acked(self._packet_ids)

    def refused(self) -> None:
        """See ``Ticket``."""
        self._session.append_refused()


class EnginePort:
    """Implements ``KeptPort``.

    Args:
        messages: The log of messages.
        facts: The sessions log.
        markers: Who waits for markers.
        read_facts: Who waits for facts of the sessions log.
        session_of: Client id -> its session here, if it has one.

    Attributes:
        partitions: See ``KeptPort``.
        wall_ms: Milliseconds UTC, as the last turn brought them.
    """

    def __init__(
        self,
        messages: MessageWriter,
        facts: FactWriter,
        markers: ReadBack[MarkerRead],
        read_facts: ReadBack[FactRead],
        session_of: Callable[[str], object],
    ) -> None:
        self.partitions = messages.partitions
        self.wall_ms = 0
        self._messages = messages
        self._facts = facts
        self._markers = markers
        self._read_facts = read_facts
        self._session_of = session_of
        self._waits = RowWaits(self.partitions)
        self._asked: list[tuple[KeptSession, QueueAsk]] = []
        self._acking: dict[KeptSession, None] = {}

    # -- what is appended --------------------------------------------------------------------------

    def mark(self, session: KeptSession, partition: int) -> None:
        """See ``KeptPort`` (E6)."""
        assert session.epoch is not None
        marker = Marker(
            client_id=session.client_id, epoch=session.epoch, incarnation=session.incarnation
        )
        place = self._messages.append_facts(partition, [marker], self.wall_ms, Refusable(session))
        self._markers.expect(partition, place, partial(self._marked, session, partition))

    @staticmethod
    def _marked(session: KeptSession, partition: int, offset: int, counts: bool) -> None:
        if session.link is not None and counts:
            session.marked(partition, offset)

    def open(self, session: KeptSession, opening: Opening) -> None:
        """See ``KeptPort`` (E9)."""
        assert session.epoch is not None
        facts, place = opening.facts(session.client_id, session.epoch), (0, 0)
        for part in in_records(session.client_id, facts):
            sequence, index = self._facts.append_facts(
                session.partition, part, self.wall_ms, Refusable(session)
            )
            # Those of an append stand in one record, and appends in order: the last stands for all.
            place = sequence, index + len(part) - 1
        self._read_facts.expect(session.partition, place, partial(self._opened, session, opening))

    @staticmethod
    def _opened(session: KeptSession, opening: Opening, counts: bool) -> None:
        if counts:
            session.opened(opening)

    def acks(self, session: KeptSession) -> None:
        """See ``KeptPort``."""
        self._acking[session] = None

    def append_acks(self) -> None:
        """The turn ends: acks of a session and partition are one fact (E9)."""
        acking, self._acking = self._acking, {}
        for session in acking:
            for partition, (offsets, packet_ids) in session.take_acks().items():
                self._append_acks(session, partition, offsets, packet_ids)

    def _append_acks(
        self,
        session: KeptSession,
        partition: int,
        offsets: Sequence[int],
        packet_ids: Sequence[int],
    ) -> None:
        *before, last = in_records(session.client_id, offsets)
        # Appends take effect in order, so the last part stands for all.
        for part, ids in (*((part, ()) for part in before), (last, packet_ids)):
            fact = Ack(client_id=session.client_id, offsets=tuple(part))
            ticket = _AckTicket(session, Acking(partition, part), ids)
            self._messages.append_facts(partition, [fact], self.wall_ms, ticket)

    # -- what is read ------------------------------------------------------------------------------

    def wait(self, session: KeptSession, partition: int, mark: int) -> None:
        """See ``KeptPort`` (E5)."""
        self._waits.add(session, partition, mark)

    @property
    def waits(self) -> bool:
        """Whether a session waits for rows to reflect its marker."""
        return bool(self._waits)

    @property
    def waiting(self) -> dict[int, int]:
        """Partition -> how many sessions wait for its rows; those for which nobody does are out."""
        return self._waits.counts()

    def reflected(self, positions: Mapping[int, int]) -> None:
        """The rows reflect the partitions up to here."""
        for session, partition in self._waits.take(positions):
            session.reflected(partition)

    def ask(self, session: KeptSession, ask: QueueAsk) -> None:
        """See ``KeptPort``."""
        self._asked.append((session, ask))

    def take_asks(self) -> list[QueueAsk]:
        """Return pages that are still wanted, to be answered by ``pages``."""
        asked, self._asked = self._asked[:ASKS_MAX], self._asked[ASKS_MAX:]
        return [ask for session, ask in asked if session.awaits(ask)]

    def pages(self, asks: Iterable[QueueAsk], pages: Iterable[QueuePage]) -> None:
        """Bring the pages that were asked for."""
        for ask, page in zip(asks, pages, strict=True):
            session = self._session_of(ask.client_id)
            if isinstance(session, KeptSession):
                session.page(ask, page)

    def forget(self, session: KeptSession) -> None:
        """The connection has gone; only its acks are still appended."""
        self._waits.forget(session)
