"""What a commit changes in the session tables, sorted by the statement that writes it."""

from collections.abc import Mapping
from typing import Any

import orjson

from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import ClientChanges, SessionChanges, SessionRow, Trim
from monstermq_shared.stores.sqlite.rows import time_text


class Batch:
    """The changes of all clients.

    Attributes:
        ended: Clients of which everything goes first.
        sessions: Rows of ``sessions``.
        messages: Offset -> record, once however many clients it is for.
        subscriptions, open_ids, in_flight: What is put and deleted in the tables of these names.
        queued: Client -> offset -> size and QoS, as the statement ``put_links`` reads them.
        dequeued: Client -> offsets.
        unknown: Client -> those of the latter whose size nobody has said.
        trims: What comes last.
        grown: Client -> how many messages, and bytes, its queue has more than before.
        to_count: Clients for which that is not known, because rows were there already, or not there
            any more: theirs are counted.
    """

    def __init__(self, changes: SessionChanges) -> None:
        self.ended: list[str] = []
        self.sessions: list[tuple[object, ...]] = []
        self.messages: dict[int, Record] = {}
        self.subscriptions = Rows("subscriptions")
        self.open_ids = Rows("open_ids")
        self.in_flight = Rows("inflight")
        self.queued: dict[str, dict[int, int]] = {}
        self.dequeued: dict[str, list[int]] = {}
        self.unknown: dict[str, list[int]] = {}
        self.trims: dict[str, Trim] = {}
        self.grown: dict[str, list[int]] = {}
        self.to_count: set[str] = set()
        self._sizes: dict[int, int] = {}
        for client_id, change in changes.items():
            self._add(client_id, change)

    def _add(self, client_id: str, change: ClientChanges) -> None:
        if change.ended:
            self.ended.append(client_id)
        if change.session is not None:
            self.sessions.append(session_row(change.session))
        if change.queued or change.dequeued:
            self._add_queue(client_id, change.queued, change.dequeued)
        if change.trim is not None:
            self.trims[client_id] = change.trim
        if change.subscriptions:
            self.subscriptions.add(client_id, change.subscriptions)
        if change.open_ids:
            self.open_ids.add(client_id, change.open_ids)
        if change.in_flight:
            self.in_flight.add(client_id, change.in_flight)

    def _add_queue(
        self,
        client_id: str,
        queued: Mapping[int, tuple[Record, int]],
        dequeued: Mapping[int, int | None],
    ) -> None:
        total = 0
        if queued:
            self.queued[client_id] = links = self._links(queued)
            total = sum(link >> 2 for link in links.values())
        if dequeued:
            self.dequeued[client_id] = [*dequeued]
            sizes = dequeued.values()
            if None in sizes:
                self.unknown[client_id] = [at for at, size in dequeued.items() if size is None]
            total -= sum(filter(None, sizes))
        self.grown[client_id] = [len(queued) - len(dequeued), total]

    def _links(self, queued: Mapping[int, tuple[Record, int]]) -> dict[int, int]:
        messages, sizes = self.messages, self._sizes
        links: dict[int, int] = {}
        for offset, (record, qos) in queued.items():
            size = sizes.get(offset)
            if size is None:
                messages[offset] = record
                size = sizes[offset] = size_of(record)
            links[offset] = size << 2 | qos
        return links


class Rows:
    """What is put into a table whose rows belong to clients, and what is deleted from it.

    Args:
        table: Its name.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self.put: dict[str, dict[Any, Any]] = {}
        self.deleted: dict[str, list[Any]] = {}

    def add(self, client_id: str, mapping: Mapping[Any, Any]) -> None:
        """Sort what has a value from what is to be deleted."""
        put = {key: value for key, value in mapping.items() if value is not None}
        if put:
            self.put[client_id] = put
        if len(put) < len(mapping):
            self.deleted[client_id] = [key for key, value in mapping.items() if value is None]


def session_row(session: SessionRow) -> tuple[object, ...]:
    """Return the columns that the statement ``put_sessions`` writes."""
    will = session.will
    return (
        session.client_id,
        session.clean,
        session.connected,
        time_text(session.updated_ms),
        orjson.dumps(session.information).decode(),
        *(
            (None, None, None, None)
            if will is None
            else (will.topic, will.payload, will.qos, will.retain)
        ),
        session.incarnation,
    )
