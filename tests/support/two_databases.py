"""A local host whose views stand in two databases: both are SQLite files, one is called PostgreSQL.

What a host does with databases does not depend on their kind, so this needs no server.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.local_bus import WALL_MS, LinkRecorder, a_run

from monstermq_edge.engines.local import databases
from monstermq_edge.engines.local.host import LocalHost
from monstermq_edge.faults import Faults
from monstermq_shared.budget import Budget
from monstermq_shared.clock import SystemClock, WallHistory
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.counters import Counters
from monstermq_shared.errors import MonsterError, StoreUnavailable
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.ports import AttachRequest
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.needed import StoresNeeded
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.sqlite import SqliteDatabase

ARCHIVE_ELSEWHERE = {"Name": "G", "TopicFilter": ["a/#"], "ArchiveType": "POSTGRES"}

PATIENCE_S = 20.0


class AwayDatabase(SqliteDatabase):
    """A database that can be made to take no commit.

    Attributes:
        away: Whether it takes none now.
        refused: Set when it has refused one.
        gone: What ``lost`` says.
    """

    away = False
    gone: str | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.refused = asyncio.Event()

    @property
    def lost(self) -> str | None:
        """See ``Database.lost``."""
        return self.gone

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        """See ``Database.commit``."""
        if self.away:
            self.refused.set()
            raise StoreUnavailable("restarting")
        return await super().commit(tenure, commit)


class TwoDatabases:
    """Runs of a host on the same two files.

    Attributes:
        failed: Done when a run told a reason to end the process, which is its result.
        opened: The databases of the last run.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failed: asyncio.Future[MonsterError] = asyncio.get_running_loop().create_future()
        self.opened: dict[StoreType, AwayDatabase] = {}
        self._directory = directory
        monkeypatch.setattr(databases, "open_database", self._open)

    async def _open(
        self,
        store_type: StoreType,
        _: BrokerConfig,
        needed: StoresNeeded,
        *,
        marks: Database | None,
    ) -> AwayDatabase:
        del marks
        opened = await AwayDatabase.open(
            str(self._directory / f"{store_type}.db"),
            session_store=needed.session_store,
            message_stores=needed.message_stores,
            archive_stores=needed.archive_stores,
        )
        assert isinstance(opened, AwayDatabase)
        self.opened[store_type] = opened
        return opened

    @property
    def elsewhere(self) -> AwayDatabase:
        """The database beside the session store's."""
        return self.opened[StoreType.POSTGRES]

    async def run(self, *groups: dict[str, Any], **changes: Any) -> LocalHost:
        """Return a host that is open and runs, with sessions in SQLite."""
        config = BrokerConfig.from_layers(
            {
                "SessionStoreType": "SQLITE",
                "RetainedStoreType": "SQLITE",
                "SQLite": {"MinFreeMb": 0, "CommitDelayMs": 0},
                "ArchiveGroups": [*groups],
                **changes,
            }
        )
        clock = SystemClock()
        counters = Counters()
        host = LocalHost(
            config,
            clock=clock,
            history=WallHistory(clock),
            counters=counters,
            budget=Budget(),
            faults=Faults(counters, clock),
            system_values=lambda _: [],
            fail=self.failed.set_result,
        )
        await host.open()
        loop = asyncio.get_running_loop()

        def touch() -> None:
            loop.call_soon(host.end_turn)

        host.start(touch)
        return host

    async def kill(self, host: LocalHost) -> None:
        """End a run without what a stop does; only the files are closed."""
        await host._maintenance.stop()
        await host._driver.stop()
        await host._followers.stop(None)
        await host.databases.close()


def connect(host: LocalHost, client_id: str) -> tuple[Session, LinkRecorder]:
    """Return the session of a clean client, and what it hears."""
    link = LinkRecorder()
    request = AttachRequest(client_id=client_id, clean=True, will=None, information={})
    return host.engine.attach(link, request, WALL_MS), link


def publish(host: LocalHost, session: Session, topic: str, *, retain: bool = False) -> None:
    """Publish a message of 100 bytes with QoS 1."""
    run = a_run(topic, [b"x" * 100], qos=1)
    run.retain = retain
    host.engine.publish(session, run, WALL_MS)
    host.end_turn()


async def caught_up(host: LocalHost) -> None:
    """Return when everything is committed."""
    async with asyncio.timeout(PATIENCE_S):
        assert await host.drain(within_s=PATIENCE_S)
