"""Sums over all sessions and connections: walked through once for everybody who asks.

``/metrics``, ``$SYS`` and every new subscriber to it want them, and there may be 100,000 sessions.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from monstermq_edge.engines.ports import ClientReading
from monstermq_edge.mqtt.connection import Connection
from monstermq_shared.clock import Clock

WALK_MAX = 2_500
"""Sessions or connections looked at in one go: a millisecond or two."""

FRESH_S = 1.0
"""Sums as young as this are good enough for everybody."""


class HasConnection(Protocol):
    """A network connection of the hub; the MQTT side is gone at its end."""

    @property
    def connection(self) -> Connection | None:
        """The MQTT side."""
        ...


@dataclass(slots=True)
class Sums:
    """What is summed up; see ``gauges.Gauges`` for each."""

    queued_messages: int = 0
    queued_bytes: int = 0
    in_flight_messages: int = 0
    open_ids: int = 0
    held_connections: int = 0
    outbox_bytes: int = 0


class Totals:
    """The last sums, and the walk for the next ones.

    Few are walked through when somebody asks, at most once a second. Many are walked through in
    steps that ``tick`` makes, whether somebody asks or not; meanwhile the last sums hold.

    Args:
        client_ids: Of all sessions.
        client: Returns what the engine holds for one, None if there is no such session any more.
        protocols: Of the hub.
        clock: Tells how old the sums are.
    """

    def __init__(
        self,
        client_ids: Collection[str],
        client: Callable[[str], ClientReading | None],
        protocols: Collection[HasConnection],
        clock: Clock,
    ) -> None:
        self._client_ids = client_ids
        self._client = client
        self._protocols = protocols
        self._clock = clock
        self._sums = Sums()
        self._fresh_until = 0.0
        self._walk: Iterator[None] | None = None

    def current(self) -> Sums:
        """Return the sums of the last second, or of the last walk if there are many."""
        if self._clock.monotonic() >= self._fresh_until and not self._are_many():
            self.walk_all()
        return self._sums

    def walk_all(self) -> None:
        """Bring the sums up to date in one go. With very many, only where nobody waits."""
        self._walk = None
        for _ in self._steps():
            pass

    def tick(self) -> None:
        """Go on with the walk, if there are so many that it takes several steps."""
        if self._walk is None and self._are_many():
            self._walk = self._steps()
        if self._walk is not None and next(self._walk, _END) is _END:
            self._walk = None

    def _are_many(self) -> bool:
        return len(self._client_ids) + len(self._protocols) > WALK_MAX

    def _steps(self) -> Iterator[None]:
        """Sum up, ``WALK_MAX`` at a time."""
        sums = Sums()
        client_ids = iter(list(self._client_ids))
        while names := list(islice(client_ids, WALK_MAX)):
            for client_id in names:
                client = self._client(client_id)
                if client is not None:
                    _add_client(sums, client)
            yield
        protocols = iter(list(self._protocols))
        while group := list(islice(protocols, WALK_MAX)):
            for protocol in group:
                if protocol.connection is not None:
                    sums.held_connections += protocol.connection.stops_reading
                    sums.outbox_bytes += protocol.connection.waiting_size
            yield
        self._sums = sums
        self._fresh_until = self._clock.monotonic() + FRESH_S


_END = object()


def _add_client(sums: Sums, client: ClientReading) -> None:
    sums.in_flight_messages += client.in_flight_sent
    sums.open_ids += client.in_flight_received
    sums.queued_messages += client.queued_messages
    sums.queued_bytes += client.queued_size
