"""The row about Kafka into MQTT: how soon a record of somebody else's topic is delivered.

Beside it stands raw Kafka in the same run: as many records, read back by a consumer.
"""

import asyncio
import time

from tests.bench.brokers import Profile, Running
from tests.bench.busy import Busy, Stopwatch
from tests.bench.kafka_places import KafkaPlace
from tests.bench.model import Bound, Effort, Metric, Outcome, Scenario
from tests.bench.poller import CollectorPaused
from tests.bench.raw_kafka import PARTITIONS, PATIENCE_S, Latencies, RawKafka
from tests.bench.scenarios_kafka import LATENCY_PER_S, LATENCY_SLICES, PAYLOAD_SIZE
from tests.bench.scenarios_latency import percentile_ms

from monstermq.mqtt_link import MqttLink, Received, address_of

ASK_S = 0.1
_DUE_SIZE = 16


class ThroughIngress(RawKafka):
    """The same producer, and an MQTT subscriber instead of the consumer.

    Args:
        place: Where.
        port: Of the broker that reads the topic.
    """

    def __init__(self, place: KafkaPlace, port: int) -> None:
        super().__init__(place, PAYLOAD_SIZE)
        self.topic, self.headers = place.ingress_topic, []
        self.value = b"x" * (PAYLOAD_SIZE - _DUE_SIZE)
        self._port = port
        self._topics: set[bytes] = set()

    async def open_reader(self) -> None:
        """See ``RawKafka``."""
        address = address_of(f"mqtt://127.0.0.1:{self._port}")
        self._link = MqttLink(address, "subscriber", self._receive)
        await self._link.connect()
        await self._link.subscribe(["+/bench"], 1)

    async def close_reader(self) -> None:
        """See ``RawKafka``."""
        await self._link.close()

    async def read(self) -> None:
        """See ``RawKafka``."""
        await self._link.ended()
        raise RuntimeError("the broker has closed the connection")

    def _receive(self, message: Received) -> None:
        self._topics.add(message.topic)
        self.took([message.payload], time.perf_counter_ns())

    async def begin(self) -> None:
        """Return when something comes of every partition: a new group begins at their ends."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self._topics) < PARTITIONS:
                nobody = Latencies([], [])
                await asyncio.gather(*(self.send_one(n, nobody) for n in range(PARTITIONS)))
                await asyncio.sleep(ASK_S)


def run_ingress(running: Running, effort: Effort) -> Outcome:
    """Ingress and raw Kafka in turn, a slice each, at the same fixed rate."""
    place = running.kafka
    assert place is not None
    slice_s = effort.seconds / LATENCY_SLICES
    ours, theirs = Latencies([], []), Latencies([], [])
    generator_s = broker_s = 0.0
    with (
        CollectorPaused(),
        RawKafka(place, PAYLOAD_SIZE) as raw,
        ThroughIngress(place, running.port) as load,
    ):
        load.run(load.begin())
        for each in (load, raw):
            each.latencies(LATENCY_PER_S, effort.warm_up_s)
        for _ in range(LATENCY_SLICES):
            stopwatch = Stopwatch(running)
            for mine, found in zip(ours, load.latencies(LATENCY_PER_S, slice_s), strict=True):
                mine.extend(found)
            elapsed_s, busy = stopwatch.read()
            generator_s += busy.generator * elapsed_s
            broker_s += busy.broker * elapsed_s
            for mine, found in zip(theirs, raw.latencies(LATENCY_PER_S, slice_s), strict=True):
                mine.extend(found)
    figures = {
        f"{name}{percentile}": percentile_ms(found.delivered, share)
        for name, found in (("", ours), ("raw-", theirs))
        for percentile, share in (("p50", 0.5), ("p99", 0.99))
    }
    measured_s = slice_s * LATENCY_SLICES
    return Outcome(
        figures={"over": figures["p99"] - figures["raw-p99"], **figures},
        busy={"over": Busy(generator=generator_s / measured_s, broker=broker_s / measured_s)},
    )


SCENARIOS = (
    Scenario(
        name="ingress-latency",
        metrics=(
            Metric(
                name="over",
                title="Kafka into MQTT at 1,000 msg/s, QoS 1: p99 over raw Kafka's",
                unit="ms",
                smaller_is_better=True,
                required=Bound(15),
                aim=Bound(5),
            ),
            *(
                Metric(
                    name=name,
                    title=f"Kafka into MQTT, {told}",
                    unit="ms",
                    smaller_is_better=True,
                    rests_on=("over",),
                )
                for name, told in (
                    ("p99", "p99"),
                    ("raw-p99", "raw Kafka's p99"),
                    ("p50", "p50"),
                    ("raw-p50", "raw Kafka's p50"),
                )
            ),
        ),
        run=run_ingress,
        configuration="Kafka, one edge that reads a topic of others; open loop, one record each ms",
        profile=Profile.KAFKA_INGRESS,
    ),
)
