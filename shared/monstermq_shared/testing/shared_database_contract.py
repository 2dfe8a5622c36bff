# ruff: noqa: D102 - the names of the tests say what holds
"""What a database must do that several processes share, each reading a log of many partitions."""

from typing import Protocol

import pytest

from monstermq_shared.errors import StartupError, StoreConflict
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import (
    ClientChanges,
    Commit,
    LogState,
    Quarantined,
    StoredLogState,
    Tenure,
)
from monstermq_shared.stores.ports import (
    Database,
    KeepsLogState,
    KeepsQuarantine,
    OwnedByLog,
    ReflectedReader,
)
from monstermq_shared.stores.quarantine import ROWS_MAX, SIZE_MAX, VALUE_SIZE_MAX
from monstermq_shared.testing.builders import (
    NOON_MS,
    PARTITION,
    RETAINED,
    commit_once,
    make_record,
    make_session,
)
from monstermq_shared.testing.session_store_contract import load_all

GENERATION = PARTITION.generation
LOG_ID = "kafka:Zm9v:monstermq"
RUN, OTHER_RUN = "00112233445566ff", "77696c6c00000003"


class SharedDatabase(Database, KeepsLogState, KeepsQuarantine, OwnedByLog, Protocol):
    """What the suite is run on."""


def log_state(number: int, **fences: tuple[int, int]) -> LogState:
    """Make what a commit keeps of the log, different for each number."""
    return LogState(
        log_id=LOG_ID,
        last_id=f"{NOON_MS + number}:{RUN}:{number}",
        runs={RUN: [number, NOON_MS + number], OTHER_RUN: [2**62, NOON_MS]},
        fences=fences,
    )


def garbage(offset: int, value: bytes = b"{", *, time_ms: int | None = None) -> Quarantined:
    """Make a record that is none."""
    return Quarantined(
        offset=offset,
        time_ms=NOON_MS + offset if time_ms is None else time_ms,
        reason="not a bus record",
        key=b"\xff\x00",
        value=value,
        headers=(("m", b"\x00\xff"), ("h\x00\ud800", b"")),
    )


async def state(
    database: SharedDatabase, projection: str = "a", partition: Partition = PARTITION
) -> StoredLogState:
    """Return what is kept for one projection."""
    return (await database.log_states(partition))[projection]


class LogStateContract:
    """Subclass it with a fixture ``database`` that has all stores and keeps log states."""

    @pytest.fixture
    async def tenure(self, database: SharedDatabase) -> Tenure:
        return await database.begin(PARTITION, ["a", "b"])

    async def test_nothing_is_known_before_the_first_mark(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        assert await database.log_states(PARTITION) == {}
        assert await database.log_states(PARTITION._replace(generation="never seen")) == {}
        assert await database.positions(tenure.partition.generation) == {}

    async def test_it_comes_back_as_it_was_committed_for_each_projection(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        log = log_state(7, **{"client": (3, NOON_MS), "'\"\\{}\u0000\U0001f600": (4, NOON_MS)})
        await database.commit(tenure, Commit(upto=8, restart=5, log=log))
        expected = StoredLogState(
            mark=Mark(8, 5),
            log_id=LOG_ID,
            last_id=log.last_id,
            runs=dict(log.runs),
            fences=dict(log.fences),
        )
        assert await database.log_states(PARTITION) == {"a": expected, "b": expected}
        assert await database.log_states(PARTITION, ["b", "c"]) == {"b": expected}

    async def test_partitions_and_generations_are_apart(self, database: SharedDatabase) -> None:
        places = [
            PARTITION,
            PARTITION._replace(number=11),
            PARTITION._replace(generation=f"{GENERATION}-sessions"),
        ]
        for number, partition in enumerate(places):
            commit = Commit(upto=number + 1, log=log_state(number, c=(number, NOON_MS)))
            await commit_once(database, commit, "a", partition=partition)
        for number, partition in enumerate(places):
            found = await state(database, partition=partition)
            assert found.last_id == log_state(number).last_id
            assert found.fences == {"c": (number, NOON_MS)}
        assert await database.positions(GENERATION) == {("a", 0): 1, ("a", 11): 2}
        assert await database.positions(f"{GENERATION}-sessions") == {("a", 0): 3}
        assert await database.positions("never seen") == {}

    async def test_a_commit_without_it_leaves_it(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        await database.commit(tenure, Commit(upto=8, log=log_state(7, c=(1, NOON_MS))))
        await database.commit(tenure, Commit(upto=9))
        found = await state(database)
        assert (found.mark, found.last_id) == (Mark(9, 9), log_state(7).last_id)
        assert found.fences == {"c": (1, NOON_MS)}

    async def test_a_projection_that_is_ahead_keeps_its_own(self, database: SharedDatabase) -> None:
        await commit_once(database, Commit(upto=20, log=log_state(19)), "ahead")
        tenure = await database.begin(PARTITION, ["a", "ahead"])
        await database.commit(tenure, Commit(upto=8, log=log_state(7)))
        ahead, behind = await state(database, "ahead"), await state(database, "a")
        assert (ahead.mark.reflected, ahead.last_id) == (20, log_state(19).last_id)
        assert ahead.runs[RUN] == [19, NOON_MS + 19]
        assert (behind.mark.reflected, behind.last_id) == (8, log_state(7).last_id)

    async def test_fences_gather_and_the_newest_of_a_client_counts(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        first = log_state(7, kept=(1, NOON_MS), newer=(2, NOON_MS))
        await database.commit(tenure, Commit(upto=8, log=first))
        await database.commit(tenure, Commit(upto=9, log=log_state(8)))
        last = log_state(10, newer=(9, NOON_MS + 5), other=(8, NOON_MS + 5))
        await database.commit(tenure, Commit(upto=11, log=last))
        found = await state(database)
        assert found.fences == {
            "kept": (1, NOON_MS),
            "newer": (9, NOON_MS + 5),
            "other": (8, NOON_MS + 5),
        }

    async def test_old_fences_are_forgotten(self, database: SharedDatabase, tenure: Tenure) -> None:
        await database.commit(tenure, Commit(upto=8, log=log_state(7, old=(1, NOON_MS))))
        log = log_state(8, new=(2, NOON_MS + 100))
        log.fences_from_ms = NOON_MS + 50
        await database.commit(tenure, Commit(upto=9, log=log))
        assert (await state(database)).fences == {"new": (2, NOON_MS + 100)}

    async def test_first_marks_are_made_once_and_begin_no_tenure(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        other = PARTITION._replace(number=3)
        await database.begin_marks(LOG_ID, {PARTITION: {"a": 5, "c": 0}, other: {"a": 7}})
        await database.begin_marks("another", {PARTITION: {"a": 9, "c": 9}, other: {"b": 2}})
        assert await database.positions(GENERATION) == {
            ("a", 0): 5,
            ("c", 0): 0,
            ("a", 3): 7,
            ("b", 3): 2,
        }
        found = await state(database)
        assert (found.mark, found.log_id, found.last_id) == (Mark(5, 5), LOG_ID, None)
        assert (found.runs, found.fences) == ({}, {})
        await database.commit(tenure, Commit(upto=6, log=log_state(5)))
        assert (await state(database, "b")).mark == Mark(6, 6)
        assert (await database.begin(other, ["a"])).marks == {"a": Mark(7, 7)}

    async def test_first_marks_come_too_late_for_one_that_has_committed(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        await database.commit(tenure, Commit(upto=6, log=log_state(5)))
        await database.begin_marks("another", {PARTITION: {"a": 99}})
        assert (await state(database)).mark == Mark(6, 6)

    async def test_who_has_a_projection_and_how_often_it_was_committed_is_told(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        await database.commit(tenure, Commit(upto=6, log=log_state(5)))
        mine = (tenure.version, tenure.token)
        assert await database.versions(GENERATION) == {("a", 0): mine, ("b", 0): mine}
        other = await database.begin(PARTITION, ["b"])
        assert await database.versions(GENERATION) == {
            ("a", 0): mine,
            ("b", 0): (other.version, other.token),
        }
        assert await database.versions("never seen") == {}

    async def test_fences_of_two_commits_up_to_one_offset_are_not_mixed(
        self, database: SharedDatabase, tenure: Tenure
    ) -> None:
        """One is ahead, and has fences from further down; the other comes there later."""
        ahead = await database.begin(PARTITION, ["a"])
        log = log_state(5, early=(1, NOON_MS), late=(3, NOON_MS))
        await database.commit(ahead, Commit(upto=6, log=log))
        both = await database.begin(PARTITION, ["a", "b"])
        await database.commit(both, Commit(upto=6, log=log_state(5, late=(3, NOON_MS))))
        assert (await state(database)).fences == {"early": (1, NOON_MS), "late": (3, NOON_MS)}
        assert (await state(database, "b")).fences == {"late": (3, NOON_MS)}

    async def test_a_page_tells_what_it_reflects(self, database: SharedDatabase) -> None:
        store = database.message_store(RETAINED)
        assert isinstance(store, ReflectedReader)
        for number, topic in enumerate(["a/1", "a/2", "b"]):
            record = make_record(number + 10, topic)
            await commit_once(
                database,
                Commit(upto=number + 11, messages={RETAINED: {topic: record}}),
                "retained",
                partition=PARTITION._replace(number=number),
            )
        await database.begin(PARTITION._replace(number=5), ["retained"])
        view = ("retained", GENERATION)
        page = await store.find_reflected(view, "a/#", after="", limit=10)
        assert [record.topic for record in page.records] == ["a/1", "a/2"]
        assert page.reflected == {0: 11, 1: 12, 2: 13}
        rest = await store.find_reflected(view, "#", after="a/1", limit=1)
        assert [record.topic for record in rest.records] == ["a/2"]
        for name, generation in (("another", GENERATION), ("retained", "never seen")):
            page = await store.find_reflected((name, generation), "b", after="", limit=10)
            assert (len(page.records), page.reflected) == (1, {})

    async def test_sessions_belong_to_the_partition_that_claimed_them(
        self, database: SharedDatabase
    ) -> None:
        other = Partition(f"{GENERATION}-sessions", 3)
        row = make_session("there", incarnation=4)
        row.epoch, row.run, row.expiry_s = 9, RUN, 0
        here = {"here": ClientChanges(session=make_session("here"), subscriptions={"x": 1})}
        there = {"there": ClientChanges(session=row, subscriptions={"y": 1})}
        await commit_once(database, Commit(upto=1, sessions=here), "sessions")
        await commit_once(database, Commit(upto=5, sessions=there), "sessions", partition=other)
        (mine,) = await load_all(database)
        assert (mine.row.client_id, mine.row.epoch, mine.row.run) == ("here", None, "")
        async with database.sessions.load(other) as snapshot:
            (stored,) = [session async for page in snapshot.pages() for session in page]
        assert (stored.row, stored.subscriptions) == (row, {"y": 1})
        async with database.sessions.load(other._replace(number=4)) as snapshot:
            assert [page async for page in snapshot.pages()] == []

    async def test_a_session_that_another_partition_claims_moves_there(
        self, database: SharedDatabase
    ) -> None:
        other = Partition("another log-sessions", 3)
        changes = {"a": ClientChanges(session=make_session("a"))}
        await commit_once(database, Commit(upto=1, sessions=changes), "sessions")
        await commit_once(database, Commit(upto=1, sessions=changes), "sessions", partition=other)
        assert await load_all(database) == []
        async with database.sessions.load(other) as snapshot:
            assert [len(page) async for page in snapshot.pages()] == [1]

    async def test_a_database_takes_one_log_and_no_other(self, database: SharedDatabase) -> None:
        await database.belong_to(LOG_ID)
        await database.belong_to(LOG_ID)
        with pytest.raises(StartupError, match="monstermq db adopt") as refused:
            await database.belong_to("kafka:Zm9v:another")
        assert LOG_ID in str(refused.value)
        assert refused.value.exit_code == ExitCode.STORE_OF_ANOTHER_LOG

    async def test_a_database_that_is_adopted_takes_the_new_log(
        self, database: SharedDatabase
    ) -> None:
        assert await database.adopt(LOG_ID) is None
        assert await database.adopt("another") == LOG_ID
        with pytest.raises(StartupError, match="another"):
            await database.belong_to(LOG_ID)
        assert await database.adopt(None) == "another"
        await database.belong_to(LOG_ID)

    async def test_whoever_works_for_the_log_before_finds_out(
        self, database: SharedDatabase
    ) -> None:
        await database.belong_to(GENERATION)
        tenures = [
            await database.begin(partition, ["a"])
            for partition in (PARTITION, Partition(f"{GENERATION}-sessions", 3))
        ]
        await database.adopt("another")
        for tenure in tenures:
            with pytest.raises(StoreConflict):
                await database.commit(tenure, Commit(upto=1))
            with pytest.raises(StartupError, match="monstermq db adopt"):
                await database.begin(tenure.partition, ["a"])
        await database.begin(Partition("another", 0), ["a"])


class QuarantineContract:
    """Subclass it with a fixture ``database`` that keeps what is no record."""

    async def add(self, database: SharedDatabase, *records: Quarantined, number: int = 0) -> None:
        commit = Commit(upto=records[-1].offset + 1, quarantined=records)
        await commit_once(database, commit, "a", partition=PARTITION._replace(number=number))

    async def test_nothing_is_kept_at_first(self, database: SharedDatabase) -> None:
        assert await database.quarantined(limit=10) == []
        assert await database.quarantined_at(PARTITION, 3) is None
        assert await database.quarantine_counts() == (0, 0)

    async def test_what_is_no_record_comes_back(self, database: SharedDatabase) -> None:
        await self.add(database, garbage(3, b"\xff\x00"))
        entry = await database.quarantined_at(PARTITION, 3)
        assert entry is not None
        assert entry.partition == PARTITION
        found = entry.record
        assert (found.offset, found.time_ms, found.reason) == (3, NOON_MS + 3, "not a bus record")
        assert (found.key, found.value, found.size) == (b"\xff\x00", b"\xff\x00", 4)
        assert [value for _, value in found.headers] == [b"\x00\xff", b""]
        assert found.headers[0][0] == "m"
        assert found.headers[1][0].startswith("h")

    async def test_the_list_has_the_newest_of_all_partitions_first(
        self, database: SharedDatabase
    ) -> None:
        await self.add(database, garbage(1), garbage(9))
        await self.add(database, garbage(5), number=2)
        found = await database.quarantined(limit=2)
        assert [(at.partition.number, at.record.offset) for at in found] == [(0, 9), (2, 5)]
        assert [(at.record.value, at.record.size) for at in found] == [(b"", 3)] * 2

    async def test_what_is_read_again_is_kept_once(self, database: SharedDatabase) -> None:
        await self.add(database, garbage(1, b"first"))
        await self.add(database, garbage(1, b"again"))
        assert await database.quarantine_counts() == (1, 0)
        entry = await database.quarantined_at(PARTITION, 1)
        assert entry is not None
        assert entry.record.value == b"first"

    async def test_a_large_value_is_cut(self, database: SharedDatabase) -> None:
        await self.add(database, garbage(1, b"x" * 10_000_000))
        entry = await database.quarantined_at(PARTITION, 1)
        assert entry is not None
        assert (len(entry.record.value), entry.record.size) == (VALUE_SIZE_MAX, 10_000_002)

    async def test_older_ones_make_room_and_are_counted(self, database: SharedDatabase) -> None:
        await self.add(database, *(garbage(offset) for offset in range(ROWS_MAX - 1)))
        await self.add(database, *(garbage(offset) for offset in range(ROWS_MAX, ROWS_MAX + 3)))
        assert await database.quarantine_counts() == (ROWS_MAX, 2)
        assert await database.quarantined_at(PARTITION, 1) is None
        assert await database.quarantined_at(PARTITION, 2) is not None
        flood = [garbage(offset) for offset in range(2_000, 2_000 + 2 * ROWS_MAX)]
        await self.add(database, *flood, number=1)
        await self.add(database, garbage(9_999), number=2)
        assert await database.quarantine_counts() == (2 * ROWS_MAX + 1, 2 + ROWS_MAX)

    async def test_its_bytes_are_bounded(self, database: SharedDatabase) -> None:
        fitting = SIZE_MAX // VALUE_SIZE_MAX
        for offset in range(fitting + 3):
            await self.add(database, garbage(offset, b"x" * VALUE_SIZE_MAX))
        kept, dropped = await database.quarantine_counts()
        assert (kept, dropped) == (fitting - 1, 4)
