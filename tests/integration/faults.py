"""One scene for every mix of stores: a broker under load whose database gets into trouble.

Publishers of QoS 1 and 2, subscribers of both that are there, a persistent session that is away,
archives, last values, retained messages, and two neighbours who need none of it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import yaml
from tests.integration.observing import Neighbours, fetch, until_ready
from tests.support.broker import RunningBroker
from tests.support.ledger import Ledger
from tests.support.load import Cast, PersistentClient, message_maker, retained_maker
from tests.support.postgres import PostgresServer
from tests.support.tables import PostgresTables, SqliteTables, Tables

ROUND_S = 30.0
SETTLE_S = 60.0
"""How long the broker may take to deliver all it owes."""

READY_S = 60.0
"""How long it may take to notice that the database is back."""

EXCHANGES = 5
"""Times that the neighbours talk while the database is in trouble."""

BEGINS = " fail, and are repeated: "
ENDS = ": works again"
MISSING = re.compile(
    r"view (?P<view>\w+) in (?P<store>\w+): what came between the positions "
    r"(?P<from>\d+:\d+) and (?P<to>\d+:\d+) may be missing"
)
BOOT_SHIFT = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Where everything is stored; the group MCP is the one whose place is varied.

    The group ``Own`` has its archive beside the sessions: it shows what was accepted, and at which
    position.
    """

    name: str
    sessions: str = "POSTGRES"
    retained: str = "POSTGRES"
    group: str = "POSTGRES"

    def __str__(self) -> str:
        """Return its name, for the ids of tests."""
        return self.name

    def config(self, url: str, **extra: Any) -> str:
        """Return the configuration, with sections that replace or add to it."""
        archived = ["load/#"]
        settings = {
            "SessionStoreType": self.sessions,
            "RetainedStoreType": self.retained,
            "Postgres": {"Url": url},
            "ArchiveGroups": [
                {
                    "Name": "MCP",
                    "TopicFilter": archived,
                    "LastValType": self.group,
                    "ArchiveType": self.group,
                },
                {"Name": "Own", "TopicFilter": archived, "ArchiveType": self.sessions},
            ],
        }
        return str(yaml.safe_dump(settings | extra))


POSTGRES = Mix(name="all in PostgreSQL")
SQLITE = Mix(name="all in SQLite", sessions="SQLITE", retained="SQLITE", group="SQLITE")
VIEWS_IN_POSTGRES = Mix(name="sessions in SQLite", sessions="SQLITE")
ARCHIVE_IN_SQLITE = Mix(name="archive in SQLite", group="SQLITE")
RETAINED_IN_MEMORY = Mix(name="retained in memory", retained="MEMORY")
MIXES = (POSTGRES, VIEWS_IN_POSTGRES, ARCHIVE_IN_SQLITE, RETAINED_IN_MEMORY)


class Scene:
    """A broker on a mix of stores, and everybody around it.

    Args:
        broker: Not yet started.
        cast: Empty; its publishers and subscribers are made here.
        mix: What is where.
        server: Where what is in PostgreSQL is.
        url: Database -> how the broker reaches it; without, straight to the server.
        extra: More of the configuration.
    """

    def __init__(
        self,
        broker: RunningBroker,
        cast: Cast,
        mix: Mix,
        server: PostgresServer,
        *,
        url: Callable[[str], str] | None = None,
        **extra: Any,
    ) -> None:
        self.broker = broker
        self.cast = cast
        self.mix = mix
        self.server = server
        self.database = server.create_database()
        self.config = mix.config((url or server.url)(self.database), **extra)
        for qos in (1, 2):
            for name in (f"pub{qos}-a", f"pub{qos}-b"):
                cast.add_publisher(name, message_maker(name, qos))
            cast.add_publisher(f"ret{qos}", retained_maker(f"ret{qos}", qos))
            cast.add_subscriber(f"sub{qos}", "load/#", qos)
        self.live = [*cast.subscribers]
        self.sleeper = cast.add_subscriber("sleeper", "load/#", 2)

    @property
    def ledger(self) -> Ledger:
        """What was sent, acknowledged and received."""
        return self.cast.ledger

    @property
    def port(self) -> int:
        """Where the broker serves MQTT."""
        return self.broker.tcp_port

    async def begin(self) -> None:
        """Start the broker; everybody subscribes, one leaves, and the load begins."""
        await asyncio.to_thread(self.broker.start, self.config)
        await self.cast.subscribe(self.port)
        await self.sleeper.drop()
        await self.cast.connect(self.port, self.cast.publishers)
        await self.some_load(100)

    async def some_load(self, packets: int) -> None:
        """Return after so many more packets have gone or come."""
        await self.ledger.packets(packets, ROUND_S)

    async def come_back(self) -> None:
        """Everybody connects again whose connection has ended, but the one who is away."""
        clients: list[PersistentClient] = [*self.live, *self.cast.publishers]
        absent = [client for client in clients if not client.is_connected]
        await self.cast.connect(self.port, absent)

    async def restart_broker(self) -> None:
        """Start a broker that has ended, and bring everybody back."""
        await self.cast.gone()
        self.ledger.assert_kept()
        await asyncio.to_thread(self.broker.start, self.config)
        await self.come_back()

    # -- trouble ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def trouble(self, *said: str) -> AsyncIterator[Neighbours]:
        """Assert that the trouble which the block makes is told, and disturbs nobody else.

        It begins in the block and lasts until its end at least; ``over`` waits for its end.

        Args:
            said: What ``/ready`` must say of it, beside the database's address.
        """
        neighbours = await Neighbours.settle_in(self.broker)
        try:
            await neighbours.exchange()
            yield neighbours
            await self.until_told(*said)
            for _ in range(EXCHANGES):
                await neighbours.exchange()
            newcomers = await Neighbours.settle_in(self.broker)
            await newcomers.exchange()
            newcomers.move_out()
        finally:
            neighbours.move_out()

    async def until_told(self, *said: str) -> None:
        """Ask ``/ready`` until it names the database and says what is the matter."""
        words = ("PostgreSQL at", f"/{self.database}:", *said)
        body = ""
        try:
            async with asyncio.timeout(READY_S):
                while not all(word in body for word in words):
                    body = await until_ready(self.broker, 503, READY_S)
        except TimeoutError:
            raise AssertionError(f"/ready does not say {words}: {body}") from None

    async def over(self) -> None:
        """Return once the broker is ready again and everything flows."""
        await until_ready(self.broker, 200, READY_S)
        acknowledged = len(self.ledger.acknowledged)
        enough = acknowledged + 10 * len(self.cast.publishers)
        await self.ledger.until(lambda: len(self.ledger.acknowledged) > enough, ROUND_S)

    def complaints(self) -> list[str]:
        """Return all lines of the log that are warnings or worse."""
        pattern = re.compile(r"\S+Z (WARNING|ERROR|CRITICAL) ")
        return [line for line in self.broker.log_text().splitlines() if pattern.match(line)]

    def assert_logged(self, troubles: int) -> None:
        """Assert that each trouble has one line when it began and one when it ended, and no more.

        Only those that were met by somebody can be told, so there may be fewer of them.
        """
        complaints = self.complaints()
        begun = [line for line in complaints if BEGINS in line]
        ended = [line for line in complaints if ENDS in line]
        others = [line for line in complaints if line not in begun and line not in ended]
        assert not others, "\n".join(complaints)
        assert len(begun) == len(ended) == troubles, "\n".join(complaints)
        assert all("PostgreSQL at" in line and self.database in line for line in begun), begun

    def views_named_as_missing(self) -> set[str]:
        """Return the views of which a start has said that they may miss something."""
        return {found["view"] for found in MISSING.finditer(self.broker.log_text())}

    def named_as_missing(self) -> Callable[[int], bool]:
        """Return position -> whether a start has said that the group's archive may miss it."""
        ranges = [
            range(_position(found["from"]), _position(found["to"]))
            for found in MISSING.finditer(self.broker.log_text())
            if found["view"] == "MCPArchive"
        ]
        return lambda position: any(position in missing for missing in ranges)

    # -- the end ---------------------------------------------------------------------------------

    async def rest(self) -> None:
        """Publish nothing new, and wait until only the one who is away is owed anything."""
        for publisher in self.cast.publishers:
            publisher.stop()
        await self.come_back()
        await self.ledger.until(self._is_at_rest, SETTLE_S)
        self.ledger.assert_kept()

    def _is_at_rest(self) -> bool:
        owed = any(self.ledger.owed(subscriber.client_id) for subscriber in self.live)
        return not owed and all(publisher.idle for publisher in self.cast.publishers)

    async def finish(self, *, is_missing: Callable[[int], bool] = lambda _: False) -> None:
        """Assert that nothing was lost nor doubled: in the tables, and for the one who was away.

        Args:
            is_missing: Position -> whether it may be missing in a view elsewhere.
        """
        await self.rest()
        await self._until_shown()
        self._check_archives(is_missing)
        await self._check_last_writes()
        queued = self.tables(self.mix.sessions).queued(self.sleeper.client_id)
        self.ledger.assert_archived(queued)
        await self.cast.settle(self.port, SETTLE_S)
        print(self.ledger.summary())

    async def _until_shown(self) -> None:
        """Wait until the views elsewhere have come up with the sessions."""
        while True:
            _, text = await fetch(self.broker, "/metrics")
            lags = re.findall(r"^monstermq_projection_lag_records\S* (\S+)$", text, re.MULTILINE)
            assert lags
            if not any(map(float, lags)):
                return

    def _check_archives(self, is_missing: Callable[[int], bool]) -> None:
        own = self.tables(self.mix.sessions).archived("ownarchive")
        self.ledger.assert_archived(payload for _, payload in own)
        found = self.tables(self.mix.group).archived("mcparchive")
        lost = dict(own).keys() - dict(found).keys()
        unexpected = sorted(position for position in lost if not is_missing(position))
        assert not unexpected, f"{len(unexpected)} are missing, such as {unexpected[:5]}"
        assert [row for row in own if row[0] not in lost] == found

    async def _check_last_writes(self) -> None:
        last_writes = {topic: payloads[-1] for topic, payloads in self.ledger.retained.items()}
        assert await self.read_retained() == last_writes
        if self.mix.retained != "MEMORY":
            assert self.tables(self.mix.retained).retained() == last_writes
        last_values = self.tables(self.mix.group).retained("mcplastval")
        assert last_values.items() >= last_writes.items()

    async def read_retained(self) -> dict[str, bytes]:
        """Return what a new subscription is sent, of the topics on which something is retained."""
        reader = await self.cast.peer(self.port)
        await reader.connect("reader")
        await reader.subscribe(("load/retained/#", 0))
        seen: dict[str, bytes] = {}
        while len(seen) < len(self.ledger.retained):
            message = await reader.receive()
            seen[message.topic] = message.payload
        await reader.disconnect()
        return seen

    def tables(self, store_type: str) -> Tables:
        """Return the tables of a store type."""
        if store_type == "SQLITE":
            return SqliteTables(self.broker.directory / "monstermq.db")
        return PostgresTables(self.server, self.database)


def _position(written: str) -> int:
    boot, _, counter = written.partition(":")
    return (int(boot) << BOOT_SHIFT) + int(counter)
