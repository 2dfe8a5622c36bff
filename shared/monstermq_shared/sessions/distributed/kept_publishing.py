"""QoS 2 publishes of kept sessions: each enters the log once, whichever edge its client is at (E8).

The log itself says which packet ids are open. A publish carries id and epoch, so that one of a dead
connection does not count (R3), and its id is open from where it stands until a release names that
position.
"""

from collections.abc import Callable, Sequence

from monstermq_shared.bus.control import in_records
from monstermq_shared.bus.facts import Release
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun
from monstermq_shared.routing import Route
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.own_runs import OwnRun
from monstermq_shared.sessions.distributed.ports import MessageWriter
from monstermq_shared.sessions.distributed.session import BusSession, Owed
from monstermq_shared.sessions.ports import Answer

Append = Callable[[BusSession, Route[BusSession], MessageRun, int, Owed], None]
"""Appends a run, and keeps it until it is read back."""

RELEASED_MAX = 100
"""Releases that are noted before those are forgotten that have been read back."""


class _Releasing:
    """The ticket of releases: PUBCOMP follows once the log has all of them.

    Attributes:
        left: How many appends are still on their way.
    """

    def __init__(self, session: KeptSession, packet_ids: Sequence[int], left: int) -> None:
        self.left = left
        self._session = session
        self._packet_ids = packet_ids
        session.releasing += 1

    def appended(self) -> None:
        """See ``Ticket``."""
        self.left -= 1
        if not self.left:
            self._session.releasing -= 1
            self._session.answer(Answer.PUBCOMP, self._packet_ids, durable=False)

    def refused(self) -> None:
        """See ``Ticket``."""
        self._session.append_refused()


class KeptPublishing:
    """What kept sessions publish at QoS 2, and release.

    Args:
        messages: The log.
        inbound: Which ids are open, as the log was read.
        append: See above.
        close: Ends a connection.
        counters: What is counted.
    """

    def __init__(
        self,
        messages: MessageWriter,
        inbound: InboundIds,
        append: Append,
        close: Callable[[BusSession, CloseReason], None],
        counters: Counters,
    ) -> None:
        self._messages = messages
        self._inbound = inbound
        self._append = append
        self._close = close
        self._counters = counters

    # -- publishing ------------------------------------------------------------------------------

    def begin(self, session: KeptSession) -> None:
        """Its markers are read back, so all is known that earlier connections have left open."""
        open_ids = self._inbound.ids_of(session.client_id)
        if open_ids:
            session.open_ids = dict.fromkeys(open_ids, 0)

    def publish(
        self, session: KeptSession, route: Route[BusSession], run: MessageRun, wall_ms: int
    ) -> None:
        """Append what is not open already; PUBREC once it is read back and counts (R4)."""
        new: list[int] = []
        open_ids = session.open_ids
        if open_ids is None:
            open_ids = session.open_ids = {}
        for index, packet_id in enumerate(run.packet_ids):
            if self._is_open(session, packet_id):
                session.answer(Answer.PUBREC, (packet_id,), durable=True)
                self._counters.duplicates_ignored += 1
            elif packet_id in session.appending:
                # Its answer comes.
                self._counters.duplicates_ignored += 1
            else:
                session.appending.add(packet_id)
                open_ids[packet_id] = 0
                new.append(index)
        if not new:
            return
        fresh = run if len(new) == run.count else run.only(new)
        fresh.epoch = session.epoch
        owed = session.owe(Answer.PUBREC, fresh.packet_ids)
        self._append(session, route, fresh, wall_ms, owed)

    def _is_open(self, session: KeptSession, packet_id: int) -> bool:
        """Whether an id is open by a publish that this connection has not released."""
        released = session.released
        return any(
            (partition, since) not in released
            for partition, since, _ in self._inbound.openings(session.client_id, packet_id)
        )

    def read_back(self, own: OwnRun, run: MessageRun, *, is_last: bool, counts: bool) -> None:
        """A stamped run of ours, or a part of it, is read.

        Args:
            own: The run.
            run: What of it is read, with its position.
            is_last: Nothing of it is left.
            counts: It is not fenced (R3).
        """
        session = own.session
        assert isinstance(session, KeptSession)
        if not counts:
            self._close(session, CloseReason.TAKEN_OVER)
            return
        session.appending.difference_update(run.packet_ids)
        if is_last:
            own.read_back()

    def open(self, client_id: str, run: MessageRun) -> None:
        """A stamped run counts: its ids are open from where they stand."""
        assert run.epoch is not None, "it is stamped"
        for offset, packet_id in enumerate(run.packet_ids, run.first_offset):
            self._inbound.open(client_id, packet_id, run.partition, offset, run.epoch)

    # -- releasing -------------------------------------------------------------------------------

    def release(self, session: KeptSession, packet_ids: Sequence[int], wall_ms: int) -> None:
        """PUBREL: release what is open, wherever that is; PUBCOMP once the log has it."""
        client_id = session.client_id
        self._forget_released(session)
        open_ids = session.open_ids or {}
        for packet_id in packet_ids:
            open_ids.pop(packet_id, None)
        releases: dict[int, list[Release]] = {}
        closed: list[int] = []
        for packet_id in packet_ids:
            openings = [*self._inbound.openings(client_id, packet_id)]
            if not openings:
                closed.append(packet_id)
            for partition, since, _ in openings:
                session.released.add((partition, since))
                fact = Release(client_id=client_id, packet_id=packet_id, since=since)
                releases.setdefault(partition, []).append(fact)
        if closed:
            session.answer(Answer.PUBCOMP, closed, durable=False)
        if releases:
            known = set(closed)
            opened = [packet_id for packet_id in packet_ids if packet_id not in known]
            self._append_releases(session, opened, releases, wall_ms)

    def _forget_released(self, session: KeptSession) -> None:
        """What is read to be closed needs no note any more that it was released here."""
        released, client_id = session.released, session.client_id
        if len(released) > RELEASED_MAX + 2 * self._inbound.count_of(client_id):
            released.intersection_update(self._inbound.positions_of(client_id))

    def _append_releases(
        self,
        session: KeptSession,
        packet_ids: Sequence[int],
        releases: dict[int, list[Release]],
        wall_ms: int,
    ) -> None:
        pieces = [
            (partition, part)
            for partition, facts in releases.items()
            for part in in_records(session.client_id, facts)
        ]
        ticket = _Releasing(session, packet_ids, len(pieces))
        for partition, part in pieces:
            self._messages.append_facts(partition, part, wall_ms, ticket)
