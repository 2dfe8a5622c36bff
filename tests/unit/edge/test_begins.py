"""Where an edge begins to read, by how far the view of what is retained and the queues are (E1)."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from monstermq_edge.engines.kafka.begins import Begin, Begins, SharedDatabase
from monstermq_shared.config import BrokerConfig, StoreType, load_config
from monstermq_shared.errors import BusUnavailable, StartupError
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, LogState
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.queue_changes import Cut, OpenId, QueueChanges
from monstermq_shared.testing.builders import NOON_MS, commit_once
from monstermq_shared.views.catalogue import QUEUES, RETAINED_VIEW

GENERATION = "kafka:cluster:monster"
PLACE = Partition(GENERATION, 0)
RUN = b"a run of"
END = 100


class Log:
    """A log of one partition."""

    def __init__(self, first: int = 0, end: int = END) -> None:
        self.first, self.end = first, end

    async def end_positions(self) -> Mapping[int, int]:
        return {0: self.end}

    async def first_positions(self) -> Mapping[int, int]:
        return {0: self.first}


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


def config(tmp_path: Path, version: int = 2) -> BrokerConfig:
    path = tmp_path / "c.yaml"
    path.write_text(
        "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
        f"Kafka: {{Servers: k, Bus: {{Enabled: true, ProtocolVersion: {version}}}}}\n"
    )
    return load_config(path, {}).config


async def find(
    database: MemoryDatabase, loaded: BrokerConfig, messages: Log | None = None
) -> Begin:
    opened = {StoreType.POSTGRES: cast("SharedDatabase", database)}
    return await Begins(opened, loaded, GENERATION).find(messages or Log(), Log())


async def commit(database: MemoryDatabase, upto: int, *projections: str) -> None:
    """Move marks, with a client whose newest marker is at ``upto`` in each of them."""
    log = LogState(
        log_id=GENERATION,
        last_id=None,
        runs={RUN.hex(): [upto, NOON_MS]},
        fences={"client": (upto, NOON_MS)},
    )
    changes = QueueChanges(
        cuts={"client": Cut(upto, upto - 1, 1, (), NOON_MS)},
        open_ids={("client", upto): OpenId(upto - 1, upto)},
    )
    queues = changes if QUEUES in projections else None
    await commit_once(
        database, Commit(upto=upto, log=log, queues=queues), *projections, partition=PLACE
    )


def fence(begin: Begin) -> int:
    """Return the lowest epoch of the client that counts where reading begins."""
    fences = begin.engine.fences
    return next(epoch for epoch in range(END) if fences.admits(0, "client", epoch))


async def test_whoever_is_first_begins_views_at_the_end_and_queues_at_the_first_offset(
    database: MemoryDatabase, tmp_path: Path
) -> None:
    begin = (await find(database, config(tmp_path), Log(first=20))).engine
    assert (begin.messages, begin.queues, begin.sessions) == ({0: END}, {0: 20}, {0: 0})
    assert begin.reading == {0: 20}
    marks = await database.positions(GENERATION)
    assert (marks[RETAINED_VIEW, 0], marks[QUEUES, 0]) == (END, 20)


async def test_reading_begins_at_the_lower_mark_with_what_is_known_there(
    database: MemoryDatabase, tmp_path: Path
) -> None:
    """R1, R3: what is known above it would hide what counts."""
    loaded = config(tmp_path)
    await commit(database, 10, RETAINED_VIEW)
    await commit(database, 30, QUEUES)
    begin = await find(database, loaded)
    assert (begin.engine.reading, fence(begin)) == ({0: 10}, 10)
    assert begin.known_messages[0].highest(RUN) == 10
    await commit(database, 50, RETAINED_VIEW)
    begin = await find(database, loaded)
    assert (begin.engine.reading, fence(begin)) == ({0: 30}, 30)
    assert begin.known_messages[0].highest(RUN) == 30


async def test_open_ids_are_as_of_the_mark_of_the_queues(
    database: MemoryDatabase, tmp_path: Path
) -> None:
    await commit(database, 30, RETAINED_VIEW, QUEUES)
    begin = (await find(database, config(tmp_path))).engine
    assert [*begin.inbound.openings("client", 30)] == [(0, 29, 30)]


async def test_without_kept_sessions_nobody_waits_for_queues(
    database: MemoryDatabase, tmp_path: Path
) -> None:
    await commit(database, 60, RETAINED_VIEW)
    begin = await find(database, config(tmp_path, version=1))
    assert (begin.engine.reading, fence(begin)) == ({0: 60}, 60)
    assert (QUEUES, 0) not in await database.positions(GENERATION)


async def test_a_gap_before_the_queues_waits_for_a_projector(
    database: MemoryDatabase, tmp_path: Path
) -> None:
    await commit(database, 30, QUEUES)
    with pytest.raises(BusUnavailable, match="the queues reflect it up to 30"):
        await find(database, config(tmp_path), Log(first=40))


async def test_queues_beyond_the_end_are_of_another_log(
    database: MemoryDatabase, tmp_path: Path
) -> None:
    await commit(database, END + 1, QUEUES)
    with pytest.raises(StartupError, match="the queues reflect it up to 101"):
        await find(database, config(tmp_path))
