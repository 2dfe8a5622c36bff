"""Rows about one edge on the Kafka bus, beside what raw Kafka does in the same run.

Server, edge and generator share the machine.
"""

import asyncio
import time
from dataclasses import replace
from functools import partial
from itertools import cycle

from tests.bench.brokers import Profile, Running, another_edge
from tests.bench.busy import Busy, Stopwatch
from tests.bench.channels import Channel, Client, Closed, Transport, open_channel, wait_for_bytes
from tests.bench.frames import DISCONNECT_FRAME, publish_frame
from tests.bench.generator import WINDOWS
from tests.bench.kafka_places import KafkaPlace
from tests.bench.kafka_writer import bus_writer
from tests.bench.model import Bound, Effort, Gain, Metric, Outcome, Scenario
from tests.bench.poller import CollectorPaused
from tests.bench.raw_kafka import PARTITIONS, Latencies, RawKafka
from tests.bench.scenarios_connections import run_connects
from tests.bench.scenarios_latency import LatencyLoad, percentile_ms
from tests.bench.scenarios_routing import measure_plan, plan_of

from monstermq_shared.messages import MessageRun

PAYLOAD_SIZE = 64
LATENCY_PER_S = 1_000
LATENCY_SLICES = 10
"""In turn with as many of raw Kafka: what the machine does meanwhile hits both."""
FOLLOWED_PER_S = 100_000
FOLLOWED_RUN = 20
FOLLOWED_TOPICS = [b"f-%02d/bench" % number for number in range(50)]
EDGES_ARE_STARTED = "all processes are started"
EDGES_TIMEOUT_S, EDGES_INTERVAL_S = 60.0, 0.05
SENTINELS = 200
"""Messages on topics of their own: surely in every partition one."""


def _place(running: Running) -> KafkaPlace:
    assert running.kafka is not None
    return running.kafka


# -- rates -----------------------------------------------------------------------------------------


def run_through_kafka(
    running: Running, effort: Effort, *, qos: int, shape: str = "pairs"
) -> Outcome:
    """A load, and before it raw Kafka with batches that hold as many messages at a time."""
    place = _place(running)
    plan = plan_of(effort, qos=qos, shape=shape, payload_size=PAYLOAD_SIZE)
    with RawKafka(place, PAYLOAD_SIZE) as raw:
        batch = max(1, effort.pairs * WINDOWS[qos] // PARTITIONS)
        raw_rate = raw.rate(batch, warm_up_s=effort.warm_up_s, seconds=effort.seconds)
    edge_s, kafka_s = running.processor_s(), place.processor_s()
    measured = measure_plan(running, effort, plan)
    edge_s, kafka_s = running.processor_s() - edge_s, place.processor_s() - kafka_s
    sent = measured.tally.sent
    return Outcome(
        figures={
            "rate": measured.per_second,
            "raw": raw_rate,
            "edge-cost": edge_s / sent * 1e6,
            "kafka-cost": kafka_s / sent * 1e6,
        },
        busy={"rate": measured.busy},
        problems=measured.tally.problems(),
    )


def _rate_scenario(
    name: str,
    title: str,
    bounds: tuple[Bound | None, Bound | None] = (None, None),
    *,
    qos: int,
    shape: str = "pairs",
    gain: Gain | None = None,
) -> Scenario:
    required, aim = bounds
    return Scenario(
        name=name,
        metrics=(
            Metric(name="rate", title=title, unit="msg/s", required=required, aim=aim, gain=gain),
            Metric(name="raw", title="raw Kafka: sent and read back", unit="/s"),
            *(
                Metric(
                    name=f"{part}-cost",
                    title=f"{whose} processor time per message",
                    unit="µs",
                    smaller_is_better=True,
                    rests_on=("rate",),
                )
                for part, whose in (("edge", "the edge's"), ("kafka", "Kafka's"))
            ),
        ),
        run=partial(run_through_kafka, qos=qos, shape=shape),
        configuration=f"Kafka, one edge, window {WINDOWS[qos]}, payloads of 64 bytes",
        profile=Profile.KAFKA,
    )


def run_through_edges(running: Running, effort: Effort) -> Outcome:
    """The load of ten topics in turn, once both edges share the port."""
    for _ in range(int(EDGES_TIMEOUT_S / EDGES_INTERVAL_S)):
        if EDGES_ARE_STARTED in running.output.read_text(encoding="utf-8"):
            return run_through_kafka(running, effort, qos=1, shape="mixed")
        running.wait(EDGES_INTERVAL_S)
    raise RuntimeError(f"not all edges were started: {running.last_words()}")


def _edges_scenario() -> Scenario:
    """Of 50 pairs half are of two edges: the one reads what the other has written."""
    title = "Kafka: QoS 1, 50 pairs, ten topics each in turn, two edges on one port"
    one = _rate_scenario("kafka-edges-qos1-mixed", title, qos=1)
    told = {"edge-cost": "both edges' processor time per message"}
    return replace(
        one,
        metrics=tuple(
            replace(metric, title=told.get(metric.name, metric.title)) for metric in one.metrics
        ),
        run=run_through_edges,
        configuration="Kafka, two edges, window 20, payloads of 64 bytes",
        profile=Profile.KAFKA_EDGES,
    )


# -- latency ---------------------------------------------------------------------------------------


def run_latency(running: Running, effort: Effort) -> Outcome:
    """Pairs and raw Kafka in turn, a slice each, at the same fixed rate."""
    slice_s = effort.seconds / LATENCY_SLICES
    theirs = Latencies([], [])
    # As raw Kafka's are, so that a generator that is late makes neither worse.
    load = LatencyLoad(running, effort, LATENCY_PER_S, PAYLOAD_SIZE, since_due=False)
    generator_s = broker_s = 0.0
    try:
        with CollectorPaused(), RawKafka(_place(running), PAYLOAD_SIZE) as raw:
            load.publish_for(effort.warm_up_s)
            raw.latencies(LATENCY_PER_S, effort.warm_up_s)
            load.forget()
            for _ in range(LATENCY_SLICES):
                stopwatch = Stopwatch(running)
                load.publish_for(slice_s)
                elapsed_s, busy = stopwatch.read()
                generator_s += busy.generator * elapsed_s
                broker_s += busy.broker * elapsed_s
                for mine, found in zip(theirs, raw.latencies(LATENCY_PER_S, slice_s), strict=True):
                    mine.extend(found)
            problems = load.finish()
    finally:
        load.close()
    measured_s = slice_s * LATENCY_SLICES
    busy = Busy(generator=generator_s / measured_s, broker=broker_s / measured_s)
    return Outcome(
        figures=_latency_figures(load, theirs),
        busy=dict.fromkeys(("delivered-over", "acknowledged-over"), busy),
        problems=problems,
    )


def _latency_figures(load: LatencyLoad, theirs: Latencies) -> dict[str, float]:
    figures = {"lateness": percentile_ms(load.lateness_ns, 0.99)}
    pairs = {
        "delivered": (load.latencies_ns, theirs.delivered),
        "acknowledged": (load.acknowledged_ns, theirs.acknowledged),
    }
    for name, (ours_ns, theirs_ns) in pairs.items():
        for percentile, share in (("p50", 0.5), ("p99", 0.99)):
            figures[f"{name}-{percentile}"] = percentile_ms(ours_ns, share)
            figures[f"{name}-raw-{percentile}"] = percentile_ms(theirs_ns, share)
        over = figures[f"{name}-p99"] - figures[f"{name}-raw-p99"]
        figures[f"{name}-over"] = over
    return figures


def _latency_metrics(name: str, title: str) -> tuple[Metric, ...]:
    over = f"{name}-over"
    return (
        Metric(
            name=over,
            title=f"{title} at 1,000 msg/s, QoS 1: p99 over raw Kafka's",
            unit="ms",
            smaller_is_better=True,
            required=Bound(5),
            aim=Bound(2),
        ),
        *(
            Metric(
                name=f"{name}-{part}",
                title=f"{title}, {told}",
                unit="ms",
                smaller_is_better=True,
                rests_on=(over,),
            )
            for part, told in (
                ("p99", "p99"),
                ("raw-p99", "raw Kafka's p99"),
                ("p50", "p50"),
                ("raw-p50", "raw Kafka's p50"),
            )
        ),
    )


# -- following -------------------------------------------------------------------------------------


def run_following(running: Running, effort: Effort) -> Outcome:
    """Somebody else writes 100,000 messages a second, and nobody at this edge wants them."""
    with CollectorPaused():
        edge_s, kafka_s, began = running.processor_s(), _place(running).processor_s(), time.time()
        written = asyncio.run(_write(_place(running), effort.seconds))
        elapsed_s = time.time() - began
        late_s = _see_the_end(running)
        edge_s = running.processor_s() - edge_s
        kafka_s = _place(running).processor_s() - kafka_s
    return Outcome(
        figures={
            "share": edge_s / written * FOLLOWED_PER_S,
            "written": written / elapsed_s,
            "behind": late_s,
            "kafka-cost": kafka_s / written * 1e6,
        }
    )


async def _write(place: KafkaPlace, seconds: float) -> int:
    """Write at a fixed rate; how many messages that were."""
    payloads = [b"x" * PAYLOAD_SIZE] * FOLLOWED_RUN
    runs = (MessageRun.of(topic, payloads, 0) for topic in cycle(FOLLOWED_TOPICS))
    async with bus_writer(place) as writer:
        return await writer.write_steadily(runs, FOLLOWED_PER_S, seconds)


def _see_the_end(running: Running) -> float:
    """Wait until messages written now have come through the edge; how many seconds it took."""
    client = Client(client_id="end", topic_filter="end/+", qos=0)
    channel = open_channel(Transport.TCP, running.port, client).channel
    began = time.perf_counter()
    frames = b"".join(publish_frame(f"end/{number:03d}", b"end") for number in range(SENTINELS))
    channel.send(frames)
    wait_for_bytes(channel, b"", len(frames), timeout_s=60)
    channel.close()
    return time.perf_counter() - began


# -- takeover --------------------------------------------------------------------------------------


def run_takeover(running: Running, effort: Effort) -> Outcome:
    """Clients connect to the other edge, to and fro, while they are connected to one."""
    waits_ns: list[int] = []
    problems: list[str] = []
    with another_edge(running) as another, CollectorPaused():
        ports = (running.port, another.port)
        for number in range(2 * effort.pairs):
            client = Client(client_id=f"taken-{number:03d}")
            old = open_channel(Transport.TCP, ports[number % 2], client).channel
            began_ns = time.perf_counter_ns()
            new = open_channel(Transport.TCP, ports[1 - number % 2], client).channel
            waits_ns.append(time.perf_counter_ns() - began_ns)
            if not _is_ended(old):
                problems.append(f"{client.client_id} is connected twice")
            new.send(DISCONNECT_FRAME)
            for channel in (old, new):
                channel.close()
    figures = {
        "p99": percentile_ms(waits_ns, 0.99),
        "p50": percentile_ms(waits_ns, 0.5),
    }
    return Outcome(figures=figures, problems=problems)


def _is_ended(channel: Channel) -> bool:
    try:
        wait_for_bytes(channel, b"", 1)
    except Closed as error:
        return "no answer" not in str(error)
    return False


SCENARIOS = (
    _rate_scenario(
        "kafka-qos0-pairs", "Kafka: QoS 0, 50 pairs", (Bound(40_000), Bound(100_000)), qos=0
    ),
    _rate_scenario(
        "kafka-qos0-mixed",
        "Kafka: QoS 0, 50 pairs, ten topics each in turn",
        (Bound(30_000), Bound(80_000)),
        qos=0,
        shape="mixed",
        gain=Gain(1.5, 2),
    ),
    _rate_scenario(
        "kafka-qos1-pairs", "Kafka: QoS 1, 50 pairs", (Bound(25_000), Bound(60_000)), qos=1
    ),
    _rate_scenario(
        "kafka-qos1-mixed",
        "Kafka: QoS 1, 50 pairs, ten topics each in turn",
        qos=1,
        shape="mixed",
        gain=Gain(1.5, 2),
    ),
    _edges_scenario(),
    Scenario(
        name="kafka-latency",
        metrics=(
            *_latency_metrics("delivered", "Kafka: end to end"),
            *_latency_metrics("acknowledged", "Kafka: PUBLISH to PUBACK"),
            Metric(
                name="lateness",
                title="p99 of the generator's own lateness",
                unit="ms",
                smaller_is_better=True,
            ),
        ),
        run=run_latency,
        configuration="Kafka, one edge, 50 pairs; open loop, one message each ms",
        profile=Profile.KAFKA,
    ),
    Scenario(
        name="kafka-following",
        metrics=(
            Metric(
                name="share",
                title="Kafka: an edge without subscribers follows 100,000 msg/s",
                unit="of a core",
                smaller_is_better=True,
                required=Bound(0.6),
                aim=Bound(0.35),
            ),
            Metric(name="written", title="meanwhile written", unit="msg/s"),
        ),
        run=run_following,
        configuration="Kafka, one edge, payloads of 64 bytes by another writer",
        profile=Profile.KAFKA,
    ),
    Scenario(
        name="kafka-connects",
        metrics=(
            Metric(
                name="rate",
                title="Kafka: connects a second, clean",
                unit="/s",
                required=Bound(1_000),
                aim=Bound(3_000),
            ),
        ),
        run=partial(run_connects, clean=True),
        configuration="Kafka, one edge; 50 at once",
        profile=Profile.KAFKA,
    ),
    Scenario(
        name="kafka-takeover",
        metrics=(
            Metric(
                name="p99",
                title="Kafka: takeover from edge to edge, connecting to CONNACK, p99",
                unit="ms",
                smaller_is_better=True,
                required=Bound(200),
                aim=Bound(50),
            ),
            Metric(name="p50", title="p50 of the same", unit="ms", smaller_is_better=True),
        ),
        run=run_takeover,
        configuration="Kafka, two edges",
        profile=Profile.KAFKA,
    ),
)
