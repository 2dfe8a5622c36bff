"""Rows about kept sessions on Kafka: an edge and projectors, as ``monstermq`` runs them.

Kafka, PostgreSQL, all processes of the broker and the generator share the machine.
"""

import random
import struct
import time
from collections.abc import Sequence
from functools import partial

from tests.bench.brokers import Profile, Running, another_edge
from tests.bench.busy import Stopwatch
from tests.bench.channels import (
    Client,
    Closed,
    TcpChannel,
    Transport,
    connect_socket,
    open_channel,
    wait_for_bytes,
)
from tests.bench.frames import (
    ANSWER_SIZE,
    CONNACK,
    DISCONNECT_FRAME,
    EVERY_TOPIC,
    PACKET_ID_AT,
    PAYLOAD_SIZE,
    PUBACK,
    answer_publishes,
    connect_frame,
    frame_size,
    publish_frame,
    subscribe_all_frame,
    topic_name,
)
from tests.bench.generator import DRAIN_IDLE_S, WINDOWS, Plan
from tests.bench.model import Bound, Effort, Metric, Outcome, Scenario
from tests.bench.poller import CollectorPaused, Poller
from tests.bench.scenarios_connections import CONNECTIONS_AT_ONCE
from tests.bench.scenarios_durable import wait_for_rows
from tests.bench.scenarios_latency import LatencyLoad
from tests.bench.scenarios_routing import measure_plan

FILTERS = 5
"""Subscriptions of each session that reconnects."""
QUEUED = 1_000
RESUMES = 5
TAKEOVERS = 20
UNDER_LOAD_PER_S = 1_000
AFTER_TAKEOVER_S = 0.5
RETURNING_PER_S = 200
QUEUE = "queuedmessagesclients"
ACCEPTED, RESUMED = bytes((CONNACK, 2, 0, 0)), bytes((CONNACK, 2, 1, 0))
SEED = 10

_DUE = struct.Struct(f">{PACKET_ID_AT + 2}xQ")


def _wait_for_none(running: Running) -> list[str]:
    """Wait until nobody is owed anything: what is acknowledged leaves no row."""
    return wait_for_rows(running, f"(SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM {QUEUE})) nobody", 1)


# -- rates -----------------------------------------------------------------------------------------


def run_pairs(running: Running, effort: Effort, *, qos: int) -> Outcome:
    """Pairs whose publishers and subscribers have kept sessions."""
    plan = Plan(
        qos=qos,
        publishers=effort.pairs,
        subscribers=effort.pairs,
        clean=False,
        clean_publishers=False,
    )
    stack_s = running.processor_s()
    measured = measure_plan(running, effort, plan)
    stack_s = running.processor_s() - stack_s
    problems = measured.tally.problems() + _wait_for_none(running)
    return Outcome(
        figures={"rate": measured.per_second, "cost": stack_s / measured.tally.sent * 1e6},
        busy={"rate": measured.busy},
        problems=problems,
    )


# -- reconnects ------------------------------------------------------------------------------------


class _Returner:
    """A session that is connected, told so, says goodbye, sees the close, and comes again."""

    def __init__(self, poller: Poller, port: int, client_id: str) -> None:
        self.completed = 0
        self.refused = 0
        self._poller = poller
        self._port = port
        self._client_id = client_id

    def start(self) -> None:
        """Open a connection."""
        channel = TcpChannel(connect_socket(self._port))
        self._poller.add(channel, partial(self._read, channel))
        self._poller.send(channel, connect_frame(self._client_id, clean=False))

    def _read(self, channel: TcpChannel) -> None:
        try:
            received = channel.receive()
        except Closed:
            self._poller.remove(channel)
            channel.close()
            self.start()
            return
        if received == RESUMED:
            self.completed += 1
            self._poller.send(channel, DISCONNECT_FRAME)
        elif received:
            self.refused += 1


def run_reconnects(running: Running, effort: Effort) -> Outcome:
    """50 sessions with five subscriptions each come and go."""
    poller = Poller()
    names = [f"back-{number:02d}" for number in range(CONNECTIONS_AT_ONCE)]
    for name in names:
        _subscribe(running, name, [f"{name}/{number}/+" for number in range(FILTERS)])
    returners = [_Returner(poller, running.port, name) for name in names]
    try:
        with CollectorPaused():
            for returner in returners:
                returner.start()
            poller.run_for(effort.warm_up_s)
            before = sum(returner.completed for returner in returners)
            stopwatch = Stopwatch(running)
            poller.run_for(effort.seconds)
            elapsed_s, busy = stopwatch.read()
            completed = sum(returner.completed for returner in returners) - before
    finally:
        poller.close()
    refused = sum(returner.refused for returner in returners)
    return Outcome(
        figures={"rate": completed / elapsed_s},
        busy={"rate": busy},
        problems=[f"{refused} were not resumed"] if refused else [],
    )


def _subscribe(running: Running, client_id: str, filters: Sequence[str]) -> None:
    """Let a session begin, with subscriptions of QoS 1, and go."""
    client = Client(client_id=client_id, clean=False)
    channel = open_channel(Transport.TCP, running.port, client).channel
    channel.send(subscribe_all_frame(filters, 1))
    wait_for_bytes(channel, b"", 4 + len(filters))
    channel.send(DISCONNECT_FRAME)
    channel.close()


# -- who comes back --------------------------------------------------------------------------------


class _Comer:
    """Connects, and notes when what comes; it acknowledges all of it.

    Attributes:
        connack_s: When CONNACK came, after it began; likewise the others.
        first_s: When the first message came.
        live_s: When the first one came that was published after it began, by a ``LatencyLoad``.
        last_s: When the last message came.
        received: Messages.
    """

    def __init__(self, poller: Poller, port: int, client_id: str, payload_size: int) -> None:
        self.connack_s = self.first_s = self.live_s = self.last_s = -1.0
        self.received = 0
        self._poller = poller
        self._payload_size = payload_size
        self._tail = b""
        self._began_ns = time.perf_counter_ns()
        self.channel = TcpChannel(connect_socket(port))
        poller.add(self.channel, self._read)
        poller.send(self.channel, connect_frame(client_id, clean=False))

    def leave(self) -> None:
        """Say goodbye."""
        self._poller.remove(self.channel)
        self.channel.send(DISCONNECT_FRAME)
        self.channel.close()

    def _read(self) -> None:
        chunk = self._tail + self.channel.receive()
        now_s = (time.perf_counter_ns() - self._began_ns) / 1e9
        if self.connack_s < 0:
            if chunk[:4] not in (ACCEPTED, RESUMED):
                raise Closed(f"CONNECT was answered with {chunk[:4].hex()}")
            self.connack_s, chunk = now_s, chunk[4:]
        size = frame_size(1, self._payload_size)
        count = len(chunk) // size
        frames, self._tail = chunk[: count * size], chunk[count * size :]
        if not count:
            return
        self.received += count
        self.last_s = now_s
        if self.first_s < 0:
            self.first_s = now_s
        if self.live_s < 0 and _DUE.unpack_from(frames, (count - 1) * size)[0] > self._began_ns:
            self.live_s = now_s
        answers = answer_publishes(PUBACK, frames, self._payload_size)
        self._poller.answer(self.channel, answers)


def _publish(running: Running, topics: Sequence[str]) -> None:
    """Publish a message on each, and return when all are acknowledged."""
    channel = open_channel(Transport.TCP, running.port, Client(client_id="pub-00")).channel
    frames = [
        publish_frame(topic, b"q" * PAYLOAD_SIZE, qos=1, packet_id=number + 1)
        for number, topic in enumerate(topics)
    ]
    channel.send(b"".join(frames))
    wait_for_bytes(channel, b"", ANSWER_SIZE * len(frames))
    channel.close()


def _come_for(poller: Poller, port: int, count: int) -> _Comer:
    """Let the session come that is away, and go when it has so many messages."""
    comer = _Comer(poller, port, "away", PAYLOAD_SIZE)
    poller.run_until(lambda: comer.received >= count, lambda: comer.received, DRAIN_IDLE_S)
    comer.leave()
    return comer


def run_resume(running: Running, effort: Effort) -> Outcome:
    """A session comes back to rows of 1,000 messages; the slowest of some is told."""
    poller = Poller()
    topics = [topic_name(number % 50) for number in range(QUEUED)]
    comers: list[_Comer] = []
    _subscribe(running, "away", [EVERY_TOPIC])
    problems = []
    try:
        for _ in range(max(1, round(RESUMES * effort.attack_share))):
            _publish(running, topics)
            problems += wait_for_rows(running, QUEUE, QUEUED)
            with CollectorPaused():
                comers.append(_come_for(poller, running.port, QUEUED))
            problems += _wait_for_none(running)
    finally:
        poller.close()
    if any(comer.received != QUEUED for comer in comers):
        problems.append(f"{[comer.received for comer in comers]} came of {QUEUED} each")
    return Outcome(
        figures={
            "first": max(comer.first_s for comer in comers) * 1e3,
            "last": max(comer.last_s for comer in comers) * 1e3,
        },
        problems=problems,
    )


def run_returning(running: Running, effort: Effort) -> Outcome:
    """200 sessions a second come back, each to one of two edges, and to a message that waits."""
    rng, poller = random.Random(SEED), Poller()
    count = int(RETURNING_PER_S * effort.seconds)
    topics = [f"r-{number:04d}/msg" for number in range(count)]
    for topic in topics:
        _subscribe(running, topic, [topic])
    _publish(running, topics)
    problems = wait_for_rows(running, QUEUE, count)
    with another_edge(running) as another, CollectorPaused():
        ports = (running.port, another.port)
        begun_s = time.perf_counter()
        comers = []
        for number, topic in enumerate(topics):
            poller.run_until_time(begun_s + number / RETURNING_PER_S)
            comers.append(_Comer(poller, rng.choice(ports), topic, PAYLOAD_SIZE))
        poller.run_until(
            lambda: all(comer.received for comer in comers),
            lambda: sum(comer.received for comer in comers),
            DRAIN_IDLE_S,
        )
        poller.close()
    missing = sum(comer.received != 1 for comer in comers)
    if missing:
        problems.append(f"{missing} of {count} did not get one message")
    waits_s = sorted(comer.first_s for comer in comers)
    return Outcome(
        figures={"slowest": waits_s[-1] * 1e3, "p50": waits_s[len(waits_s) // 2] * 1e3},
        problems=problems,
    )


# -- takeover --------------------------------------------------------------------------------------


def run_takeover(running: Running, effort: Effort) -> Outcome:
    """Sessions that get 1,000 messages a second connect to the other edge; the slowest is told."""
    count = max(2, round(TAKEOVERS * effort.attack_share))
    taken: list[_Comer] = []
    load = LatencyLoad(running, effort, UNDER_LOAD_PER_S)
    try:
        with another_edge(running) as another, CollectorPaused():
            load.publish_for(effort.warm_up_s)
            for number in range(count):
                name, ports = f"taken-{number:02d}", (running.port, another.port)
                _subscribe(running, name, [EVERY_TOPIC])
                old = _Comer(load.poller, ports[number % 2], name, PAYLOAD_SIZE)
                load.publish_for(AFTER_TAKEOVER_S)
                load.poller.remove(old.channel)
                new = _Comer(load.poller, ports[1 - number % 2], name, PAYLOAD_SIZE)
                load.publish_for(AFTER_TAKEOVER_S)
                new.leave()
                old.channel.close()
                taken.append(new)
            problems = load.finish()
    finally:
        load.close()
    if any(comer.live_s < 0 for comer in taken):
        problems.append("a session got no live message")
    return Outcome(
        figures={
            "connack": max(comer.connack_s for comer in taken) * 1e3,
            "live": max(comer.live_s for comer in taken) * 1e3,
        },
        problems=problems,
    )


# -- the rows --------------------------------------------------------------------------------------


def _pairs_scenario(qos: int, bounds: tuple[float, float]) -> Scenario:
    required, aim = map(Bound, bounds)
    return Scenario(
        name=f"kafka-kept-qos{qos}",
        metrics=(
            Metric(
                name="rate",
                title=f"Kafka: QoS {qos}, 50 pairs, kept sessions on both sides",
                unit="msg/s",
                required=required,
                aim=aim,
            ),
            Metric(
                name="cost",
                title="edge's and projectors' processor time per message",
                unit="µs",
                smaller_is_better=True,
                rests_on=("rate",),
            ),
        ),
        run=partial(run_pairs, qos=qos),
        configuration=f"Kafka, one edge, projectors running, window {WINDOWS[qos]}",
        profile=Profile.KAFKA_STACK,
    )


def _wait(name: str, title: str, bounds: tuple[float, float] | None) -> Metric:
    required, aim = map(Bound, bounds) if bounds else (None, None)
    return Metric(
        name=name, title=title, unit="ms", smaller_is_better=True, required=required, aim=aim
    )


SCENARIOS = (
    _pairs_scenario(1, (15_000, 40_000)),
    _pairs_scenario(2, (6_000, 15_000)),
    Scenario(
        name="kafka-kept-reconnects",
        metrics=(
            Metric(
                name="rate",
                title="Kafka: reconnects of kept sessions with 5 subscriptions",
                unit="/s",
                required=Bound(300),
                aim=Bound(1_000),
            ),
        ),
        run=run_reconnects,
        configuration="Kafka, one edge, projectors running; 50 at once",
        profile=Profile.KAFKA_STACK,
    ),
    Scenario(
        name="kafka-kept-resume",
        metrics=(
            _wait("first", "Kafka: back to 1,000 queued messages: to the first", (300, 100)),
            _wait("last", "back to 1,000 queued messages: to the last", (1_000, 300)),
        ),
        run=run_resume,
        configuration="Kafka, one edge, projectors running; slowest of 5",
        profile=Profile.KAFKA_STACK,
    ),
    Scenario(
        name="kafka-kept-takeover",
        metrics=(
            _wait("connack", "Kafka: kept session taken to another edge: to CONNACK", (200, 50)),
            _wait("live", "kept session taken to another edge: to the first live one", (500, 200)),
        ),
        run=run_takeover,
        configuration="Kafka, two edges, 1,000 msg/s; slowest of 20",
        profile=Profile.KAFKA_STACK,
    ),
    Scenario(
        name="kafka-kept-returning",
        metrics=(
            _wait("slowest", "Kafka: 200 kept sessions a second come back: slowest", (1_000, 300)),
            _wait("p50", "p50 of the same, to the first queued message", None),
        ),
        run=run_returning,
        configuration="Kafka, two edges, projectors running",
        profile=Profile.KAFKA_STACK,
    ),
)
