"""What the readers of a shared log keep with their marks in PostgreSQL, and whose rows they are."""

import asyncio
from collections.abc import Mapping, Sequence

import orjson

from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import LogState, StoredLogState
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.rows import Place
from monstermq_shared.stores.postgres.tables import TableKind, columns
from monstermq_shared.stores.sql import load_queries

QUERIES = load_queries(__package__, "log_state.sql")

_COMMITS_IN_ONE_GO = 100
_FENCES_IN_ONE_GO = 2_000

FENCES = TableKind(
    name="fences",
    create=[QUERIES["fences_table"]],
    columns=columns(
        "projection text, generation smallint, partition integer, upto bigint, newest_ms bigint, "
        "clients json"
    ),
    key=["projection", "generation", "partition", "upto"],
)


def columns_of(log: LogState | None) -> tuple[str | None, str | None, str | None, str | None]:
    """Return what a watermark takes of it: log_id, last_id, runs and skips."""
    if log is None:
        return None, None, None, None
    skips = orjson.dumps([*log.skips]).decode() if log.skips else None
    return log.log_id, log.last_id, orjson.dumps(dict(log.runs)).decode(), skips


async def put_fences(
    connection: Connection, projections: Sequence[str], place: Place, upto: int, log: LogState
) -> None:
    """Write the fences of a commit, and forget old ones, in the transaction that is open."""
    if not log.fences:
        return
    key = ([*set(projections)], *place)
    newest_ms = max(time_ms for _, time_ms in log.fences.values())
    clients = orjson.dumps(dict(log.fences)).decode()
    await connection.execute(QUERIES["put_fences"], *key, upto, newest_ms, clients)
    await connection.execute(QUERIES["forget_fences"], *key, log.fences_from_ms)


async def read_states(
    connection: Connection, place: Place, projections: Sequence[str] | None = None
) -> dict[str, StoredLogState]:
    """Return what is kept for each projection; in a transaction that sees one moment.

    Args:
        connection: Where.
        place: The partition.
        projections: Those that are wanted; None: all.
    """
    fences: dict[str, dict[str, tuple[int, int]]] = {}
    wanted = None if projections is None else [*projections]
    count = 0
    cursor = await connection.cursor(QUERIES["fences"], *place, wanted)
    while rows := await cursor.fetch(_COMMITS_IN_ONE_GO):
        for projection, clients in rows:
            found = fences.setdefault(projection, {})
            for client_id, (epoch, time_ms) in orjson.loads(clients).items():
                found[client_id] = (epoch, time_ms)
                count += 1
            if count >= _FENCES_IN_ONE_GO:
                # There may be a million, and the loop has others to serve.
                count = 0
                await asyncio.sleep(0)
    return {
        projection: StoredLogState(
            mark=Mark(reflected, restart),
            log_id=log_id,
            last_id=last_id,
            runs={} if runs is None else orjson.loads(runs),
            fences=fences.get(projection, {}),
            skips=() if skips is None else tuple(orjson.loads(skips)),
        )
        for projection, reflected, restart, log_id, last_id, runs, skips in await connection.fetch(
            QUERIES["log_states"], *place, wanted
        )
    }


def begin_rows(
    starts: Mapping[Partition, Mapping[str, int]],
) -> dict[str, tuple[list[str], list[int], list[int]]]:
    """Return generation -> projections, partitions and offsets of the marks to begin with."""
    rows: dict[str, tuple[list[str], list[int], list[int]]] = {}
    for partition, offsets in starts.items():
        projections, numbers, begins = rows.setdefault(partition.generation, ([], [], []))
        for projection, offset in offsets.items():
            projections.append(projection)
            numbers.append(partition.number)
            begins.append(offset)
    return rows


async def belong_to(connection: Connection, where: str, generation: str) -> None:
    """Take a log for the database's own, in a transaction that is open.

    Raises:
        StartupError: It has another.
    """
    owner = await connection.fetchval(QUERIES["has_owner"])
    if owner is None:
        # Now for sure: others start as well.
        owner = await read_owner(connection)
    if owner is None:
        await connection.execute(QUERIES["set_owner"], generation)
    elif owner != generation:
        raise of_another_log(where, owner, generation)


async def read_owner(connection: Connection) -> str | None:
    """Return the log that the database belongs to, None if it has none."""
    row = await connection.fetchrow(QUERIES["owner"])
    return None if row is None else row["generation"]


async def check_owner(connection: Connection, where: str, generation: str) -> None:
    """Refuse to write rows of a log that the database does not belong to any more.

    Raises:
        StartupError: It was given to another.
    """
    owner: str | None = await connection.fetchval(QUERIES["hold_owner"])
    if owner is not None and generation not in {owner, owner + SESSIONS_SUFFIX}:
        raise of_another_log(where, owner, generation)


async def adopt(connection: Connection, generation: str | None) -> str | None:
    """Make the database another log's, in a transaction that is open; return whose it was.

    All tenures end, so that whoever still works for the log before finds out.
    """
    owner = await read_owner(connection)
    if owner != generation:
        await connection.execute(QUERIES["set_owner"], generation)
        await connection.execute(QUERIES["end_tenures"])
    return owner


def of_another_log(where: str, owner: str, wanted: str) -> StartupError:
    """Return the refusal of a database whose rows are of another log."""
    return StartupError(
        f"PostgreSQL at {where}: its rows are of the log {owner}, and this start is on {wanted}; "
        "positions of two logs do not mix. Set Postgres.Url to another database, or to another "
        "schema with currentSchema, or give this one to the new log, once nothing else runs on "
        "it, with: monstermq db adopt",
        exit_code=ExitCode.STORE_OF_ANOTHER_LOG,
    )
