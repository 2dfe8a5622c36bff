"""Queues and views that follow a partition of a log in memory, and what the queues should be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.support.followed_log import LATENESS_MS
from tests.support.followed_views import PLACE, SETTINGS, Stage

from monstermq_projector.queues import PartitionQueues, QueueDesk
from monstermq_shared.bus.control import encode_facts, kind_of
from monstermq_shared.bus.facts import Ack, Drop, Fact, Marker, Release
from monstermq_shared.messages import Subscription
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, StampedRecord
from monstermq_shared.sessions.distributed.queue_limits import QueueBounds
from monstermq_shared.sessions.distributed.queues.cuts import CutTable
from monstermq_shared.stores.queue_changes import OpenId
from monstermq_shared.testing.builders import NOON_MS, make_record
from monstermq_shared.topics import matches
from monstermq_shared.views.log_fold import Batch, FoldCounts
from monstermq_shared.views.log_follower import LogFollower
from monstermq_shared.views.log_lanes import CommitCounts, Lanes

PARTITIONS = 4


class QueueStage(Stage):
    """A log, a database, views, and the queues.

    Attributes:
        gaps: What was told of them: the partition, and where it goes on.
    """

    def __init__(self, prng: Random | None = None) -> None:
        super().__init__(prng)
        self.gaps: list[tuple[int, int]] = []
        self.new_queues()

    def new_queues(self) -> None:
        """Another process: nothing is known in memory."""
        self.queues = QueueDesk(
            database=self.database,
            new_table=lambda: CutTable(
                PARTITIONS, lambda _: PLACE.number, topic_levels_max=10, route_cache_max=100
            ),
            partitions=PARTITIONS,
            lateness_ms=LATENESS_MS,
            bounds=QueueBounds(8 * PARTITIONS, 1_000_000),
            tell_gap=self._tell_gap,
        )

    async def _tell_gap(self, partition: int, to: int) -> None:
        self.gaps.append((partition, to))

    def new_follower(self) -> LogFollower[Batch]:
        self.lanes = Lanes(
            views=self.views,
            queues=PartitionQueues(self.queues),
            log=SETTINGS,
            database=self.database,
            partition=PLACE,
            outage=self.desk.outage,
            counts=CommitCounts(),
            folds=FoldCounts(),
        )
        return LogFollower(self.desk, PLACE, self.lanes)

    def rows(self) -> dict[str, dict[int, int]]:
        """Return client -> offset -> QoS, as the database has it."""
        rows = self.database.queues_of(PLACE).rows
        return {client_id: dict(at) for client_id, at in rows.items() if at}

    def say(self, *facts: Fact) -> int:
        """Append facts; return their offset."""
        return self.say_at(NOON_MS, *facts)

    def say_at(self, time_ms: int, *facts: Fact) -> int:
        """Append facts that are said at some time; return their offset."""
        text = encode_facts(facts).encode()
        record = ControlRecord(CONTROL_TOPIC, text, time_ms, 0, kind_of(facts[0]))
        return self.log.append(record).offset


@dataclass(slots=True)
class _Known:
    """What the log has said of a client."""

    epoch: int = -1
    incarnation: int = -1
    at: int = -1
    filters: dict[str, int] = field(default_factory=dict)


class Writer:
    """Appends what edges would, at random, and folds it at once, without window or memory lost.

    Args:
        stage: Whose log.
        prng: Decides.

    Attributes:
        rows: Client -> offset -> QoS: what is not acknowledged.
        open_ids: (client, packet id) -> what it is open since.
    """

    def __init__(self, stage: QueueStage, prng: Random) -> None:
        self.rows: dict[str, dict[int, int]] = {"a": {}, "b": {}}
        self.open_ids: dict[tuple[str, int], OpenId] = {}
        self._stage = stage
        self._prng = prng
        self._known = {name: _Known() for name in self.rows}
        self._acts: tuple[Callable[[str], None], ...] = (
            *[self._publish] * 6,
            *[self._acknowledge] * 3,
            self._mark,
            self._drop,
            self._double,
            self._stamp,
            self._release,
        )

    def act(self) -> None:
        """Append one record."""
        self._prng.choice(self._acts)(self._prng.choice("ab"))

    def _publish(self, _: str) -> None:
        topic, qos = self._prng.choice("xy"), self._prng.randrange(3)
        entry = self._stage.log.append(make_record(0, topic, qos=qos))
        self._match(entry.offset, topic, qos)

    def _match(self, offset: int, topic: str, qos: int) -> None:
        for client_id, known in self._known.items():
            granted = [
                at for topic_filter, at in known.filters.items() if matches(topic_filter, topic)
            ]
            if min(qos, max(granted, default=0)):
                self.rows[client_id][offset] = min(qos, max(granted))

    def _double(self, _: str) -> None:
        entries = self._stage.log.entries
        old = self._prng.choice(entries) if entries else None
        if old is not None:
            self._stage.log.append(old.record(), sequence=old.sequence)

    def _acknowledge(self, client_id: str) -> None:
        waiting = [*self.rows[client_id]]
        some = self._prng.sample(waiting, min(len(waiting), self._prng.randint(1, 3)))
        self._stage.say(Ack(client_id=client_id, offsets=tuple(some)))
        for offset in some:
            del self.rows[client_id][offset]

    def _drop(self, client_id: str) -> None:
        waiting = sorted(self.rows[client_id])[: self._prng.randint(0, 2)]
        below = waiting[-1] + 1 if waiting else 0
        self._stage.say(Drop(client_id=client_id, below=below, count=len(waiting)))
        self._forget(client_id, below)

    def _forget(self, client_id: str, below: int) -> None:
        rows = self.rows[client_id]
        self.rows[client_id] = {at: qos for at, qos in rows.items() if at >= below}

    def _mark(self, client_id: str) -> None:
        known, prng = self._known[client_id], self._prng
        epoch = max(0, known.epoch + prng.choice((-1, 0, 1, 1)))
        begins = epoch > known.epoch and prng.random() < 0.3
        incarnation = epoch if begins or known.incarnation < 0 else known.incarnation
        names = prng.sample(["x", "y", "#"], prng.randint(0, 2))
        some: tuple[Subscription, ...] = tuple((name, prng.randrange(3), 0) for name in names)
        is_whole = prng.random() < 0.6
        offset = self._stage.say(
            Marker(
                client_id=client_id,
                epoch=epoch,
                incarnation=incarnation,
                whole=some if is_whole else None,
                add=() if is_whole else some,
                remove=("y",) if prng.random() < 0.3 else (),
            )
        )
        if epoch < known.epoch:
            return
        marker = self._stage.log.entries[offset]
        assert marker.offset == offset
        if known.incarnation < incarnation:
            self._forget(client_id, offset)
            for key, at in [*self.open_ids.items()]:
                if key[0] == client_id and at.epoch < incarnation:
                    del self.open_ids[key]
        known.epoch, known.incarnation, known.at = epoch, incarnation, offset
        filters = {} if is_whole else known.filters
        known.filters = filters | {name: qos for name, qos, _ in some}
        if "y" in known.filters and _removes(marker.record().payload):
            del known.filters["y"]

    def _stamp(self, client_id: str) -> None:
        epoch = max(0, self._known[client_id].epoch - self._prng.randrange(2))
        packet_id = self._prng.randint(1, 3)
        record = StampedRecord(make_record(0, "x", qos=2), packet_id, epoch)
        record.client_id = client_id
        offset = self._stage.log.append(record).offset
        if epoch >= self._known[client_id].epoch:
            self.open_ids[client_id, packet_id] = OpenId(offset, epoch)
            self._match(offset, "x", 2)

    def _release(self, client_id: str) -> None:
        packet_id = self._prng.randint(1, 3)
        opened = self.open_ids.get((client_id, packet_id))
        since = 0 if opened is None else max(0, opened.since - self._prng.randrange(2))
        self._stage.say(Release(client_id=client_id, packet_id=packet_id, since=since))
        if opened is not None and opened.since == since:
            del self.open_ids[client_id, packet_id]


def _removes(text: bytes) -> bool:
    return b'"del":["y"]' in text
