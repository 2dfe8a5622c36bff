"""How many QoS 2 packet ids a client may leave open, and how a connection that has more ends.

Client libraries keep what is published during an outage and send all of it after the next CONNACK,
before they read a single PUBREC. So the limit is met in good faith, and whoever is closed at once
comes back with the same for ever. Instead each connection brings its client further: what fits is
taken, what does not is passed over, and the connection ends behind the PUBCOMPs of what was taken.
Not to read on would be simpler, but the PUBRELs that make room come behind what is not read.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from monstermq_shared.sessions.session import ClientSession

S = TypeVar("S", bound=ClientSession)

RELEASE_PATIENCE_S = 10.0
"""How long after its last PUBREL a client at the limit is waited for."""

_NOT_YET = -1.0  # the next ``overdue`` starts the clock


class OpenIdLimit(Generic[S]):
    """Counts what each connection has opened.

    What an earlier connection left open does not count: a client that has lost it will never
    release it, and could not publish at QoS 2 again. There are no more than 65,535 ids anyway.

    Args:
        open_max: ``Limits.OpenQos2IdsPerClient``.

    Attributes:
        refusing: Connected sessions that went beyond it -> when they last released anything.
    """

    def __init__(self, open_max: int) -> None:
        self._open_max = open_max
        self.refusing: dict[S, float] = {}
        # Connected sessions -> how many ids an earlier connection left open, if any.
        self._carried: dict[S, int] = {}

    def attached(self, session: S) -> None:
        """A connection begins."""
        if session.open_ids:
            self._carried[session] = len(session.open_ids)

    def detached(self, session: S) -> None:
        """A connection has ended."""
        self.refusing.pop(session, None)
        self._carried.pop(session, None)

    def fitting(self, session: S, packet_ids: Sequence[int]) -> int:
        """Return how many messages to take, from the first on; what follows is passed over.

        A message that was passed over is not acknowledged, so those behind it wait for the next
        connection too: they must not overtake it [MQTT-4.6.0-6].
        """
        if session in self.refusing:
            return 0
        open_ids = session.open_ids or {}
        room = self._open_max + self._carried_by(session) - len(open_ids)
        if len(packet_ids) <= room:
            return len(packet_ids)
        new: set[int] = set()
        for index, packet_id in enumerate(packet_ids):
            if packet_id not in open_ids and packet_id not in new:
                if len(new) >= room:
                    self.refusing[session] = _NOT_YET
                    return index
                new.add(packet_id)
        return len(packet_ids)

    def _carried_by(self, session: S) -> int:
        """Return how many of the open ids are an earlier connection's, at most."""
        carried = self._carried.get(session, 0)
        if carried:
            carried = self._carried[session] = min(carried, len(session.open_ids or ()))
        return carried

    def released(self, session: S) -> bool:
        """PUBRELs have come; return whether the connection is to end behind their PUBCOMPs."""
        if session not in self.refusing:
            return False
        self.refusing[session] = _NOT_YET
        return len(session.open_ids or ()) <= self._carried_by(session)

    def overdue(self, now: float) -> Iterator[S]:
        """Yield sessions that have released nothing for too long.

        The clock stands still while their PUBRECs are owed, and while we do not read.
        """
        for session, since in list(self.refusing.items()):
            link = session.link
            if since < 0 or session.owes_answers or (link is not None and link.is_held):
                self.refusing[session] = now
            elif now - since >= RELEASE_PATIENCE_S:
                yield session
