"""What is published of $SYS is bounded per tick, shared, and forgotten with its clients."""

import json
from collections.abc import Collection

import pytest
from tests.support.operation import settable_gauges

from monstermq_edge.operation import system_publisher as module
from monstermq_edge.operation.gauges import Gauges
from monstermq_edge.operation.system_publisher import CLIENTS_MAX, SystemPublisher
from monstermq_edge.operation.system_tree import ClientStatistics, SystemTree
from monstermq_shared.config import Sys
from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.system_watchers import SystemWatchers

INTERVAL_S = 10
TICK_S = 0.25


class Engine:
    """Takes what is published for so many watchers."""

    def __init__(self) -> None:
        self.system_watchers = SystemWatchers()
        self.watchers = 1
        self.published: list[tuple[str, bytes]] = []

    def publish_system(self, run: MessageRun) -> int:
        self.published.append((run.topic.decode(), run.payloads[0]))
        return self.watchers

    def take(self) -> list[tuple[str, bytes]]:
        published, self.published = self.published, []
        return published


class Stage:
    """A publisher, its clients, and the time."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.clients: dict[str, ClientStatistics] = {}
        self.looked_at = 0
        self.now_s = 0.0
        self.built = 0
        gauges, self.present = settable_gauges()
        self.publisher = SystemPublisher(
            self.engine,
            _Topics(self, gauges),
            client=self._client,
            client_ids=self.clients.keys(),
            config=Sys.model_validate({"IntervalS": INTERVAL_S}),
            now_s=0.0,
        )

    def _client(self, client_id: str) -> ClientStatistics | None:
        self.looked_at += 1
        return self.clients.get(client_id)

    def watch(self, topics: int = 1, clients: int = 1) -> None:
        self.engine.system_watchers.topics = topics
        self.engine.system_watchers.clients = clients

    def come(self, client_ids: Collection[str], *, connected: bool = True) -> None:
        for client_id in client_ids:
            self.clients[client_id] = ClientStatistics(client_id, connected, None, 0, 0)

    def tick(self) -> list[tuple[str, bytes]]:
        self.now_s += TICK_S
        self.publisher.tick(self.now_s)
        return self.engine.take()

    def passes(self, seconds: float) -> list[tuple[str, bytes]]:
        return [change for _ in range(int(seconds / TICK_S)) for change in self.tick()]

    @property
    def remembered(self) -> int:
        return len(self.publisher._clients)


class _Topics(SystemTree):
    """Counts how often the values are built."""

    def __init__(self, stage: Stage, gauges: Gauges) -> None:
        super().__init__(Counters(), gauges, version="1.2.3", started_s=0.0, started_ms=0)
        self._stage = stage

    def values(self, now_s: float) -> dict[str, bytes]:
        self._stage.built += 1
        return super().values(now_s)


def connected(changes: list[tuple[str, bytes]]) -> dict[str, bool]:
    """Return what was told of clients: id -> connected."""
    prefix = "$SYS/clients/"
    told = [(topic.split("/")[2], at) for topic, at in changes if topic.startswith(prefix)]
    assert len(dict(told)) == len(told), "each is told of once"
    return {client_id: json.loads(payload)["Connected"] for client_id, payload in told}


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_nothing_is_built_or_looked_at_while_nobody_watches(stage: Stage) -> None:
    stage.come(["a"])
    assert stage.passes(3 * INTERVAL_S) == []
    assert (stage.built, stage.looked_at) == (0, 0)


def test_who_watches_the_broker_alone_causes_no_look_at_clients(stage: Stage) -> None:
    stage.come(["a"])
    stage.watch(clients=0)
    assert stage.passes(2 * INTERVAL_S)
    assert stage.looked_at == 0


def test_a_tick_looks_at_so_many_clients_and_all_have_their_turn(stage: Stage) -> None:
    stage.come([f"c{number}" for number in range(4 * CLIENTS_MAX)])
    stage.watch()
    told: dict[str, bool] = {}
    for _ in range(5):
        before = stage.looked_at
        told |= connected(stage.tick())
        assert stage.looked_at - before <= CLIENTS_MAX
    assert len(told) == 4 * CLIENTS_MAX


def test_a_tick_causes_so_many_deliveries_and_nothing_is_left_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DELIVERIES_MAX", 100)
    stage.engine.watchers = 30
    stage.come([f"c{number}" for number in range(20)])
    stage.watch()
    ticks = [stage.tick() for _ in range(int(2 * INTERVAL_S / TICK_S) - 1)]
    assert max(map(len, ticks)) == 4, "the fourth brings it to the bound"
    changes = [change for tick in ticks for change in tick]
    assert len(connected(changes)) == 20
    names = [topic for topic, _ in changes if topic.startswith("$SYS/broker/")]
    assert sorted(names) == sorted(stage.publisher._tree.values(stage.now_s))


def test_clients_long_gone_are_told_of_once_and_forgotten(stage: Stage) -> None:
    stage.watch()
    for number in range(100):
        stage.come([f"passing{number}"])
        stage.come(["stays"])
        told = connected(stage.passes(1))
        assert told.pop(f"passing{number}") is True
        told.pop("stays", None)
        assert told == ({f"passing{number - 1}": False} if number else {})
        del stage.clients[f"passing{number}"]
        assert stage.remembered <= 3
    assert connected(stage.passes(2)) == {"passing99": False}
    assert stage.remembered == 1


def test_the_end_of_a_session_that_was_away_is_no_news(stage: Stage) -> None:
    stage.watch()
    stage.come(["away"], connected=False)
    assert connected(stage.passes(1)) == {"away": False}
    del stage.clients["away"]
    assert connected(stage.passes(3)) == {}
    assert stage.remembered == 0


def test_who_comes_later_is_told_everything_and_memory_goes_with_the_last(stage: Stage) -> None:
    client_ids = [f"c{number}" for number in range(2 * CLIENTS_MAX)]
    stage.come(client_ids)
    stage.watch()
    assert len(connected(stage.passes(2))) == len(client_ids)
    assert connected(stage.passes(2)) == {}
    stage.publisher.values("$SYS/#")
    assert len(connected(stage.passes(2))) == len(client_ids)
    stage.watch(0, 0)
    assert stage.tick() == []
    stage.watch()
    assert len(connected(stage.passes(2))) == len(client_ids), "some of it was not forgotten yet"
    stage.watch(0, 0)
    assert stage.passes(1) == []
    assert stage.remembered == 0


def test_a_thousand_subscriptions_share_one_reading(stage: Stage) -> None:
    stage.tick()
    for _ in range(1_000):
        assert stage.publisher.values("$SYS/broker/uptime") == [
            ("$SYS/broker/uptime", b"0 seconds")
        ]
    assert stage.built == 1
    stage.now_s = 7.0
    stage.tick()
    assert stage.publisher.values("$SYS/broker/uptime") == [("$SYS/broker/uptime", b"7 seconds")]
    assert stage.built == 2
