"""Rows about what the broker keeps: retained topics, an offline session's queue, the archive."""

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

from tests.bench.brokers import POSTGRES_DATABASE, Profile, Running
from tests.bench.busy import Stopwatch
from tests.bench.channels import Channel, Client, Transport, open_channel
from tests.bench.frames import (
    DISCONNECT_FRAME,
    EVERY_TOPIC,
    PAYLOAD_SIZE,
    PINGREQ_FRAME,
    PINGRESP_FRAME,
    publish_frame,
)
from tests.bench.generator import DRAIN_IDLE_S, Plan, Subscriber, measure, open_load
from tests.bench.model import Bound, Effort, Gain, Metric, Outcome, Scenario
from tests.bench.poller import CollectorPaused, Poller
from tests.bench.scenarios_routing import cost_metric, plan_of, run_load

ROWS_TIMEOUT_S = 120.0
ROWS_INTERVAL_S = 0.05
SETTLE_S = 0.5


def count_rows(running: Running, table: str) -> int:
    """Rows of ``table``, a name written in this package, as another process sees them."""
    if running.postgres is not None:
        query = f"SELECT count(*) FROM {table}"
        return int(running.postgres.psql(query, database=POSTGRES_DATABASE))
    with closing(sqlite3.connect(f"file:{running.database}?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def wait_for_rows(running: Running, table: str, expected: int) -> list[str]:
    """Wait until ``table`` has ``expected`` rows; what is wrong if it never has."""
    deadline = time.perf_counter() + ROWS_TIMEOUT_S
    while (found := count_rows(running, table)) < expected and time.perf_counter() < deadline:
        running.wait(ROWS_INTERVAL_S)
    return [] if found == expected else [f"{found} rows in {table}, {expected} expected"]


def _retained_frames(count: int) -> list[bytes]:
    return [
        publish_frame(
            f"plant/{n // 10_000:02d}/line/{n // 100 % 100:02d}/sensor/{n % 100:02d}",
            n.to_bytes(4, "big") + bytes([0x40 | n & 0x0F]) * (PAYLOAD_SIZE - 4),
            retain=True,
        )
        for n in range(count)
    ]


class RetainedLoad:
    """Publishers that set every retained topic once, as fast as the broker reads."""

    def __init__(self, running: Running, effort: Effort) -> None:
        self.frames = _retained_frames(effort.retained_topics)
        self._poller = Poller()
        self._ready = 0
        self._channels = [
            open_channel(Transport.TCP, running.port, Client(client_id=f"pub-{n:02d}")).channel
            for n in range(effort.pairs)
        ]
        for channel in self._channels:
            self._poller.add(channel, partial(self._read, channel))

    def publish(self) -> list[str]:
        """Send everything, each publisher ending with PINGREQ, and wait for every PINGRESP."""
        publishers = len(self._channels)
        blocks = [b"".join(self.frames[n::publishers]) + PINGREQ_FRAME for n in range(publishers)]
        with CollectorPaused():
            for channel, block in zip(self._channels, blocks, strict=True):
                self._poller.send(channel, block)
            done = self._poller.run_until(
                lambda: self._ready == publishers, lambda: self._ready, ROWS_TIMEOUT_S
            )
        return [] if done else [f"{self._ready} of {publishers} publishers were answered"]

    def close(self) -> None:
        """Close every connection."""
        self._poller.close()

    def _read(self, channel: Channel) -> None:
        self._ready += channel.receive() == PINGRESP_FRAME


def replay_retained(running: Running, frames: list[bytes]) -> Outcome:
    """Subscribe to ``#``: messages a second until all have come, and what is wrong with them."""
    size, chunks, received = len(frames[0]), list[bytes](), 0
    stopwatch = Stopwatch(running)
    channel, early = open_channel(
        Transport.TCP, running.port, Client(client_id="sub-00", topic_filter="#")
    )
    chunks.append(early)
    poller = Poller()

    def read() -> None:
        nonlocal received
        chunks.append(channel.receive())
        received += len(chunks[-1])

    received += len(early)
    poller.add(channel, read)
    with CollectorPaused():
        poller.run_until(lambda: received >= size * len(frames), lambda: received, DRAIN_IDLE_S)
    elapsed_s, busy = stopwatch.read()
    poller.close()
    data = b"".join(chunks)
    found = {data[at : at + size] for at in range(0, len(data), size)}
    right = len(data) == size * len(frames) and found == set(frames)
    problems = [] if right else [f"replay: {len(data) // size} of {len(frames)} retained messages"]
    return Outcome(
        figures={"replay": len(frames) / elapsed_s}, busy={"replay": busy}, problems=problems
    )


def run_retained(running: Running, effort: Effort, *, on_disk: bool) -> Outcome:
    """Set the topics, count what they cost, and read them all back.

    What is ``on_disk`` is ingested when another process can read the last row.
    """
    load = RetainedLoad(running, effort)
    running.wait(SETTLE_S)
    before = running.resident_bytes()
    try:
        stopwatch = Stopwatch(running)
        problems = load.publish()
        if on_disk:
            problems += wait_for_rows(running, "retainedmessages", effort.retained_topics)
        elapsed_s, busy = stopwatch.read()
    finally:
        load.close()
    running.wait(SETTLE_S)
    each = (running.resident_bytes() - before) / effort.retained_topics
    replay = replay_retained(running, load.frames)
    ingest = effort.retained_topics / elapsed_s
    return Outcome(
        figures={"ingest": ingest, "resident": each, **replay.figures},
        busy={"ingest": busy, **replay.busy},
        problems=problems + replay.problems,
    )


def run_retained_ceiling(running: Running, effort: Effort) -> Outcome:
    """``run_retained`` without what only a real broker has."""
    outcome = run_retained(running, effort, on_disk=False)
    del outcome.figures["resident"]
    return outcome


def run_offline(running: Running, effort: Effort) -> Outcome:
    """Publish to a persistent session that is away, then let it come back and drain its queue."""
    away = Client(client_id="sub-00", clean=False, topic_filter=EVERY_TOPIC, qos=1)
    channel = open_channel(Transport.TCP, running.port, away).channel
    channel.send(DISCONNECT_FRAME)
    channel.close()
    load = open_load(running.ports, Plan(qos=1, publishers=effort.pairs, subscribers=0))
    try:
        measured = measure(load, running, warm_up_s=effort.warm_up_s, seconds=effort.seconds)
    finally:
        load.poller.close()
    drained = _drain(running, measured.tally.acknowledged)
    return Outcome(
        figures={"rate": measured.per_second, **drained.figures},
        busy={"rate": measured.busy, **drained.busy},
        problems=measured.tally.problems() + drained.problems,
    )


def run_publish_only(running: Running, effort: Effort) -> Outcome:
    """QoS 1 publishers without a subscriber: what the generator can do of ``run_offline``."""
    load = open_load(running.ports, Plan(qos=1, publishers=effort.pairs, subscribers=0))
    try:
        measured = measure(load, running, warm_up_s=effort.warm_up_s, seconds=effort.seconds)
    finally:
        load.poller.close()
    return Outcome(
        figures={"rate": measured.per_second},
        busy={"rate": measured.busy},
        problems=measured.tally.problems(),
    )


def _drain(running: Running, expected: int) -> Outcome:
    poller = Poller()
    stopwatch = Stopwatch(running)
    opened = open_channel(Transport.TCP, running.port, Client(client_id="sub-00", clean=False))
    subscriber = Subscriber(poller, opened, 1, lambda _frames, _count: None)
    poller.run_until(
        lambda: subscriber.received >= expected, lambda: subscriber.received, DRAIN_IDLE_S
    )
    elapsed_s, busy = stopwatch.read()
    poller.run_until(lambda: False, lambda: subscriber.received, idle_s=SETTLE_S)
    poller.close()
    problems = []
    if subscriber.received != expected:
        problems.append(f"{subscriber.received} drained of {expected} acknowledged")
    return Outcome(
        figures={"drain": subscriber.received / elapsed_s}, busy={"drain": busy}, problems=problems
    )


def run_default(running: Running, effort: Effort, *, qos: int, shape: str = "pairs") -> Outcome:
    """Pairs for a minute; the rate counts until the last row of the last message is there."""
    plan = plan_of(effort, qos=qos, shape=shape)
    load, spent_s = open_load(running.ports, plan), running.processor_s()
    stopwatch = Stopwatch(running)
    try:
        measured = measure(load, running, warm_up_s=0, seconds=effort.sustained_s)
    finally:
        load.poller.close()
    delivered_s, _ = stopwatch.read()
    problems = measured.tally.problems()
    problems += wait_for_rows(running, "mcparchive", measured.tally.sent)
    elapsed_s, busy = stopwatch.read()
    cost_us = (running.processor_s() - spent_s) / measured.tally.sent * 1e6
    problems += wait_for_rows(running, "mcplastval", effort.pairs * len(plan.variants))
    return Outcome(
        figures={
            "rate": measured.tally.sent / elapsed_s,
            "lag": elapsed_s - delivered_s,
            "cost": cost_us,
        },
        busy={"rate": busy},
        problems=problems,
    )


def _retained_scenario(
    profile: Profile, configuration: str, bounds: dict[str, tuple[Bound, Bound]]
) -> Scenario:
    titles = {"ingest": "ingest", "resident": "memory", "replay": "replay to #"}
    units = {"ingest": "msg/s", "resident": "B each", "replay": "msg/s"}
    return Scenario(
        name="retained-sqlite" if profile is Profile.SQLITE else "retained-memory",
        metrics=tuple(
            Metric(
                name=name,
                title=f"200,000 retained topics, {configuration}: {titles[name]}",
                unit=units[name],
                smaller_is_better=name == "resident",
                required=required,
                aim=aim,
            )
            for name, (required, aim) in bounds.items()
        ),
        run=partial(run_retained, on_disk=profile is Profile.SQLITE),
        configuration=f"{configuration}, QoS 0",
        profile=profile,
        ceiling=run_retained_ceiling,
    )


def default_scenario(
    name: str, title: str, qos: int, rate: tuple[Bound, Bound], configuration: str, profile: Profile
) -> Scenario:
    """Pairs for a minute, with sessions, an archive and last values over ``#`` in a database.

    Args:
        name: The scenario's, without its QoS.
        title: What it measures, without its QoS.
        qos: The publishers' and subscribers'.
        rate: What is required of the rate, and what is aimed at.
        configuration: What the broker keeps where.
        profile: The broker's.
    """
    required, aim = rate
    return Scenario(
        name=f"{name}-qos{qos}",
        metrics=(
            Metric(
                name="rate",
                title=f"{title}, QoS {qos}, 50 pairs, 60 s, every row there",
                unit="msg/s",
                required=required,
                aim=aim,
            ),
            Metric(
                name="lag",
                title="from the last delivery to the last row",
                unit="s",
                smaller_is_better=True,
            ),
        ),
        run=partial(run_default, qos=qos),
        configuration=configuration,
        profile=profile,
        once=True,
        ceiling=partial(run_load, qos=qos),
    )


def offline_scenario(
    name: str, title: str, rate: tuple[Bound, Bound], configuration: str, profile: Profile
) -> Scenario:
    """Messages for a session that is away, which then comes back. Arguments as above."""
    required, aim = rate
    return Scenario(
        name=name,
        metrics=(
            Metric(name="rate", title=title, unit="msg/s", required=required, aim=aim),
            Metric(name="drain", title="the same session back: drained", unit="msg/s"),
        ),
        run=run_offline,
        configuration=configuration,
        profile=profile,
        ceiling=run_publish_only,
    )


def _default_scenario(qos: int) -> Scenario:
    return default_scenario(
        "default",
        "default configuration",
        qos,
        (Bound(20_000), Bound(50_000)),
        "archive and last value over # in SQLite",
        Profile.DEFAULT,
    )


def _mixed_default_scenario() -> Scenario:
    plain = _default_scenario(1)
    rate, lag = plain.metrics
    title = "default configuration, QoS 1, 50 pairs, ten topics each in turn, 60 s, every row there"
    return replace(
        plain,
        name="default-qos1-mixed",
        metrics=(
            replace(rate, title=title, gain=Gain(1.3, 2)),
            lag,
            cost_metric("the broker's"),
        ),
        run=partial(run_default, qos=1, shape="mixed"),
        ceiling=partial(run_load, qos=1, shape="mixed"),
    )


SCENARIOS = (
    _retained_scenario(
        Profile.ROUTING,
        "memory",
        {
            "ingest": (Bound(150_000), Bound(300_000)),
            "resident": (Bound(1024), Bound(0.6 * 1024)),
            "replay": (Bound(250_000), Bound(400_000)),
        },
    ),
    _retained_scenario(
        Profile.SQLITE,
        "SQLite",
        {
            "ingest": (Bound(20_000), Bound(50_000)),
            "replay": (Bound(100_000), Bound(250_000)),
        },
    ),
    offline_scenario(
        "offline",
        "QoS 1 into an offline persistent session, 50 publishers",
        (Bound(25_000), Bound(50_000)),
        "SQLite, durable before PUBACK, window 20",
        Profile.SQLITE,
    ),
    _default_scenario(0),
    _default_scenario(1),
    _mixed_default_scenario(),
)
