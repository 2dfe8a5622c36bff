"""Records and changes with everything filled in that a test does not care about."""

from collections.abc import Iterable, Sequence

from monstermq_shared.messages import Will
from monstermq_shared.positions import Partition
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import ClientChanges, Commit, CommitResult, SessionRow
from monstermq_shared.stores.ports import PAGE_SIZE_MAX, Database, is_last_page

PARTITION = Partition("5f0e7a52-4c53-4f0c-9c5b-6d1d3c1b7a10", 0)
"""What tests commit to unless they say otherwise."""

RETAINED = "RetainedMessages"
"""The message store every database under test has."""

LAST_VALUES = "MCPLastval"
"""The message store beside it, of databases whose questions are tested."""

ARCHIVE = "MCPArchive"
"""The archive every database under test has."""

NOON_MS = 1_768_478_400_000
"""2026-01-15T12:00:00Z."""

AWKWARD_PAYLOADS = {
    "empty": b"",
    "not JSON": b"23.5 degrees",
    "JSON": b'{"value": 23.5}',
    "a NUL": b'"a\\u0000b"\x00',
    "not UTF-8": b"\xff\xfe\x80",
    "5 MB": b"\x00\xffabc" * 1_000_000,
}
"""What must come back as it was."""

AWKWARD_TEXTS = ["'", '"', "\\", "\\u0041", "a b", "\u00e4\u20ac\U0001f600", "\x01", "{}", "%_*?["]
"""Client ids and topics that a query must not stumble over."""


LARGE_PAYLOADS = [bytes([number]) * 300_000 for number in range(20)]
"""Four of them are a page; together they are not a multiple of its size."""


LONG_TEXTS = ["s", "l" * 65_000, "\u00e4" * 32_000, "long/" + "m" * 1_100, "s" * 1_024]
"""Parts of topics and client ids; some are longer than what they come with."""


def make_record(
    offset: int,
    topic: str = "plant/1",
    payload: bytes = b"23.5",
    *,
    timestamp_ms: int | None = None,
    qos: int = 1,
    retained: bool = True,
) -> Record:
    """Make a record; later offsets are later by a millisecond unless the time is given."""
    moment = NOON_MS + offset if timestamp_ms is None else timestamp_ms
    return Record(topic, payload, qos, retained, "publisher", moment, offset)


def make_session(
    client_id: str, *, incarnation: int = 1, connected: bool = True, will: Will | None = None
) -> SessionRow:
    """Make the row of a persistent session."""
    return SessionRow(
        client_id=client_id,
        incarnation=incarnation,
        clean=False,
        connected=connected,
        updated_ms=NOON_MS,
        information={"RemoteAddress": "192.0.2.1:4711", "SSL": False, "KeepAliveTimeSeconds": 60},
        will=will,
    )


def make_queue(records: Iterable[Record], *, qos: int = 1) -> dict[int, tuple[Record, int]]:
    """Make what ``ClientChanges.queued`` is."""
    return {record.offset: (record, qos) for record in records}


async def commit_once(
    database: Database, commit: Commit, *projections: str, partition: Partition = PARTITION
) -> CommitResult:
    """Commit under a tenure that is begun for it."""
    return await database.commit(await database.begin(partition, projections), commit)


async def commit_sessions(database: Database, upto: int, **changes: ClientChanges) -> CommitResult:
    """Commit changes of clients, whose ids are the names of the arguments."""
    return await commit_once(database, Commit(upto=upto, sessions=changes), "sessions")


async def commit_messages(
    database: Database, *records: Record, partition: Partition = PARTITION, store: str = RETAINED
) -> None:
    """Commit the records to a message store."""
    changes = {record.topic: record for record in records}
    upto = max(record.offset for record in records) + 1
    commit = Commit(upto=upto, messages={store: changes})
    await commit_once(database, commit, store, partition=partition)


async def commit_archive(
    database: Database, *records: Record, partition: Partition = PARTITION
) -> None:
    """Commit the records to the archive."""
    upto = max(record.offset for record in records) + 1
    commit = Commit(upto=upto, archives={ARCHIVE: records})
    await commit_once(database, commit, ARCHIVE, partition=partition)


def check_page(records: Sequence[Record], *, limit: int, size_max: int = PAGE_SIZE_MAX) -> bool:
    """Check that a page is no larger than it may be; return whether it is the last one."""
    assert len(records) <= limit
    assert sum(map(size_of, records[:-1])) < size_max
    return is_last_page(records, limit=limit, size_max=size_max)
