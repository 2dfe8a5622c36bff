"""What is saved of a damaged database: everything that is not on its bad pages."""

import asyncio
import random
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.sqlite_database import open_database

from monstermq_shared.errors import ConfigError, StartupError, StoreDamaged, StoreUnavailable
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ClientChanges, Commit, InFlightState
from monstermq_shared.stores.ports import Log
from monstermq_shared.stores.sqlite.recovery import Recovered, recover_file
from monstermq_shared.stores.sqlite.salvage import IntegerKeys, Row, Salvage, TextKeys
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    PARTITION,
    RETAINED,
    commit_archive,
    commit_once,
    make_queue,
    make_record,
    make_session,
)
from monstermq_shared.testing.database_contract import ALL
from monstermq_shared.testing.session_store_contract import load_all

PAGE = 2048
INTERIOR_PAGE = 5
ARCHIVED = 6_000
BOOTS = 3


async def fill(path: Path) -> None:
    """Make a database with rows in every table, over a few boots."""
    for boot in range(1, BOOTS + 1):
        database = await open_database(path)
        await database.begin_boot(Log(PARTITION.generation, boot))
        first = boot << 40
        records = [
            Record(
                f"plant/line{n % 200}/temp",
                b'{"value":%d}' % n,
                1,
                True,
                "p",
                NOON_MS + n,
                first + n,
            )
            for n in range(ARCHIVED // BOOTS)
        ]
        sessions = {
            f"client{n}": ClientChanges(
                session=make_session(f"client{n}"),
                subscriptions={f"plant/line{k}/temp": 1 for k in range(40)},
                queued=make_queue(records[:150]),
                open_ids={7: first},
                in_flight={9: (first, InFlightState.SENT)},
            )
            for n in range(5)
        }
        commit = Commit(
            upto=records[-1].offset + 1,
            sessions=sessions,
            messages={RETAINED: {record.topic: record for record in records}},
            archives={ARCHIVE: records},
        )
        await commit_once(database, commit, *ALL)
        await database.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of such a database."""
    path = tmp_path_factory.mktemp("sound") / "x.db"
    asyncio.run(fill(path))
    return path.read_bytes()


def with_bad_pages(content: bytes, pages: Sequence[int], seed: int = 1) -> bytes:
    damaged = bytearray(content)
    noise = random.Random(seed)
    for page in pages:
        damaged[page * PAGE : (page + 1) * PAGE] = noise.randbytes(PAGE)
    return bytes(damaged)


def leaves_of(content: bytes, root: int) -> list[int]:
    """Return the leaves of a table in order of rowid; pages are counted from 0.

    See "B-tree Pages" of SQLite's file format.
    """
    page = content[root * PAGE : (root + 1) * PAGE]
    if page[0] != INTERIOR_PAGE:
        return [root]
    (cells,) = struct.unpack_from(">H", page, 3)
    pointers = [*struct.unpack_from(f">{cells}H", page, 12), 8]  # the rightmost is in the header
    children = [struct.unpack_from(">I", page, pointer)[0] - 1 for pointer in pointers]
    return [leaf for child in children for leaf in leaves_of(content, child)]


def rows(recovered: Recovered) -> dict[str, int]:
    return {table.name: table.rows for table in recovered.tables}


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def files_like(path: Path) -> dict[str, bytes]:
    """Return the content of a file and of those beside it whose names begin with its name."""
    return {at.name: at.read_bytes() for at in path.parent.glob(f"{path.name}*")}


SOUND_ROWS = {
    "retainedmessages": 200,
    "mcparchive": ARCHIVED,
    "sessions": 5,
    "queuedmessages": 150 * BOOTS,
    "subscriptions": 5 * 40,
    "queuedmessagesclients": 5 * 150 * BOOTS,
    "open_ids": 5,
    "inflight": 5,
}


async def test_of_a_sound_database_everything_is_copied(tmp_path: Path) -> None:
    await fill(tmp_path / "x.db")
    recovered = recover_file(tmp_path / "x.db", tmp_path / "new.db")
    assert recovered.complete
    assert rows(recovered) == SOUND_ROWS
    marks = "generation, partition, projection, reflected, restart"
    columns = {**dict.fromkeys([*SOUND_ROWS, "generations"], "*"), "watermarks": marks}
    for table, names in columns.items():
        every = f"SELECT {names} FROM {table} ORDER BY 1, 2, 3, 4"
        if table == "generations":
            every = f"SELECT {names} FROM {table}"
        assert query(tmp_path / "new.db", every) == query(tmp_path / "x.db", every)
    database = await open_database(tmp_path / "new.db")
    assert await database.log() == Log(PARTITION.generation, BOOTS)
    await database.close()
    assert query(tmp_path / "new.db", "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("seed", range(8))
async def test_bad_pages_lose_only_what_is_on_them(tmp_path: Path, sound: bytes, seed: int) -> None:
    """Half of the seeds damage one stretch in the middle, half single pages all over the file."""
    prng = random.Random(seed)
    count = len(sound) // PAGE
    first = prng.randrange(count // 4, 3 * count // 4)
    pages = range(first, first + 8) if seed % 2 else prng.sample(range(count // 10, count), 8)
    path = tmp_path / "x.db"
    damaged = with_bad_pages(sound, pages, seed)
    path.write_bytes(damaged)
    with pytest.raises(StoreDamaged, match=r"monstermq db recover \S+x\.db \S+x\.db\.recovered"):
        await open_database(path)
    recovered = recover_file(path, tmp_path / "new.db")
    assert path.read_bytes() == damaged
    copied = rows(recovered)
    left = "SELECT count(*) FROM queuedmessagesclients"
    ((links,),) = query(tmp_path / "new.db", left)
    assert sum(SOUND_ROWS.values()) - sum(copied.values()) < 8 * PAGE / 20
    assert copied["mcparchive"] > 0.9 * ARCHIVED
    assert query(tmp_path / "new.db", "PRAGMA integrity_check") == [("ok",)]
    database = await open_database(tmp_path / "new.db")
    assert await database.log() == Log(PARTITION.generation, BOOTS)
    sessions = await load_all(database)
    assert len(sessions) == copied["sessions"]
    assert sum(at.queued_messages for at in sessions) == links
    await commit_archive(database, make_record(1))
    await database.close()


def test_what_is_lost_is_told(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(sound)
    ((root,),) = query(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'mcparchive'")
    assert isinstance(root, int)
    path.write_bytes(with_bad_pages(sound, leaves_of(sound, root - 1)[10:30:2]))
    recovered = recover_file(path, tmp_path / "new.db")
    (archive,) = [table for table in recovered.tables if table.name == "mcparchive"]
    assert archive.lost == ARCHIVED - archive.rows > 0
    assert not recovered.complete
    everything_else = {name: count for name, count in SOUND_ROWS.items() if name != "mcparchive"}
    assert {name: rows(recovered)[name] for name in everything_else} == everything_else


def test_a_file_that_was_cut_off_keeps_what_is_before(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(sound[: len(sound) * 4 // 5 // PAGE * PAGE])
    recovered = recover_file(path, tmp_path / "new.db")
    assert rows(recovered)["mcparchive"] > ARCHIVED // 2
    assert not recovered.complete


async def test_what_is_only_in_the_log_is_saved_and_the_log_is_left(tmp_path: Path) -> None:
    path, copy = tmp_path / "x.db", tmp_path / "copy.db"
    database = await open_database(path)
    await commit_archive(database, *(make_record(n) for n in range(9)))
    for suffix in ("", "-wal"):
        (tmp_path / f"copy.db{suffix}").write_bytes((tmp_path / f"x.db{suffix}").read_bytes())
    await database.close()
    before = files_like(copy)
    assert rows(recover_file(copy, tmp_path / "new.db"))["mcparchive"] == 9
    assert files_like(copy) == before


async def test_rows_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE sessions SET information = '{' WHERE client_id = 'client2'")
        connection.execute("UPDATE mcparchive SET time = 'noon' WHERE position = (1 << 40) + 5")
        connection.execute("UPDATE mcparchive SET topic = x'ff' WHERE position = (2 << 40) + 5")
        connection.execute("DELETE FROM queuedmessages WHERE position = 1 << 40")
        connection.commit()
    recovered = recover_file(path, tmp_path / "new.db")
    assert rows(recovered)["sessions"] == 4
    assert rows(recovered)["mcparchive"] == ARCHIVED - 2
    assert recovered.dropped == 4  # links whose message is gone
    database = await open_database(tmp_path / "new.db")
    assert {at.row.client_id for at in await load_all(database)} == {
        f"client{n}" for n in (0, 1, 3, 4)
    }
    await database.close()


async def test_positions_go_on_beyond_what_was_saved_if_the_meta_row_is_lost(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.db"
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM monstermq_meta")
        connection.execute("CREATE TABLE notes (x)")
        connection.commit()
    recovered = recover_file(path, tmp_path / "new.db")
    assert recovered.left_out == ["notes"]
    assert rows(recovered) == SOUND_ROWS
    database = await open_database(tmp_path / "new.db")
    assert await database.log() == Log(PARTITION.generation, BOOTS)
    await database.close()


async def test_nothing_is_made_of_nothing(tmp_path: Path, sound: bytes) -> None:
    count = len(sound) // PAGE
    files = {
        "noise": random.Random(1).randbytes(100_000),
        "page1": sound[:100] + with_bad_pages(sound, range(8))[100:],
        "rest": with_bad_pages(sound, range(40, count)),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    await (await open_database(tmp_path / "hollow")).close()
    for name in ("noise", "page1", "hollow"):
        with pytest.raises(StoreDamaged, match="db restore"):
            recover_file(tmp_path / name, tmp_path / "new.db")
    (tmp_path / "empty").touch()
    with pytest.raises(StartupError, match="0 bytes"):
        recover_file(tmp_path / "empty", tmp_path / "new.db")
    with pytest.raises(StoreUnavailable, match="no such database"):
        recover_file(tmp_path / "missing", tmp_path / "new.db")
    assert files_like(tmp_path / "new.db") == {}


async def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await fill(path)
    (tmp_path / "new.db").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = path.read_bytes()
    for target in ("new.db", "dangling", "x.db", "x.db-wal", "x.db.lock"):
        with pytest.raises(ConfigError, match="choose another name"):
            recover_file(path, tmp_path / target)
    assert (tmp_path / "new.db").read_text() == "mine"
    assert path.read_bytes() == before


async def test_a_database_in_use_is_left_to_its_broker(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "x.db")
    with pytest.raises(StartupError, match="in use"):
        recover_file(tmp_path / "x.db", tmp_path / "new.db")
    await database.close()


# Feeling the way over pages that cannot be read


class Pages:
    """A table in pages of a few rows; reading a bad one fails, as SQLite fails."""

    def __init__(self, rows_: list[int], size: int, bad: set[int]) -> None:
        self._pages = [rows_[at : at + size] for at in range(0, len(rows_), size)]
        self._bad = bad
        self.readable = [row for n, page in enumerate(self._pages) if n not in bad for row in page]

    def fetch(self, low: object, limit: int) -> list[Row]:
        """Return rows; like a tree, it looks at the page where the key would be."""
        found: list[Row] = []
        for number, page in enumerate(self._pages):
            if page[-1] < int(str(low)):
                continue
            if number in self._bad:
                raise sqlite3.DatabaseError("malformed")
            for row in page:
                if row >= int(str(low)):
                    found.append((row,))
                    if len(found) == limit:
                        return found
        return found


@given(
    gaps=st.lists(st.integers(1, 4), min_size=30, max_size=120),
    bad=st.sets(st.integers(0, 12), max_size=6),
)
def test_every_row_on_a_good_page_is_read_once_and_in_order(gaps: list[int], bad: set[int]) -> None:
    values = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    pages = Pages(values, 8, bad)
    kept: list[Row] = []
    keys = IntegerKeys()
    stretches = Salvage(pages.fetch, keys, 0, kept.extend).read(keys.key(0), keys.key(10_000))
    assert [row for (row,) in kept] == pages.readable
    assert bool(stretches) == (len(pages.readable) < len(values))


def test_a_page_that_leads_round_in_a_circle_is_left() -> None:
    def fetch(low: object, limit: int) -> list[Row]:
        return [(3,), (2,)][:limit]

    kept: list[Row] = []
    keys = IntegerKeys()
    assert Salvage(fetch, keys, 0, kept.extend).read(keys.key(0), keys.key(100)) > 0
    assert len(kept) < 100


def test_text_keys_are_in_the_order_of_the_column() -> None:
    keys = TextKeys()
    texts = sorted(["", "a", "a\0", "a/b", "b", "\u00e4", "\U0001f600"], key=str.encode)
    assert [keys.key(text) for text in texts] == sorted(map(str.encode, texts))
    for wrong in (None, 3, b"a"):
        with pytest.raises(sqlite3.DataError):
            keys.key(wrong)
