"""Rows about an archive in Kafka: what is published is a record there."""

import asyncio
import time

from tests.bench.brokers import Profile, Running
from tests.bench.busy import Stopwatch
from tests.bench.generator import Plan, measure, open_load
from tests.bench.kafka_places import KafkaPlace
from tests.bench.model import Bound, Effort, Metric, Outcome, Scenario
from tests.bench.raw_kafka import RawKafka
from tests.bench.scenarios_routing import measure_plan, plan_of

PAYLOAD_SIZE = 64
RAW_BATCH = 400
"""Records in a batch of raw Kafka: as many as a full commit of ours has for a partition."""

RECORDS_TIMEOUT_S = 120.0
RECORDS_INTERVAL_S = 0.1
MICROSECONDS = 1_000_000


def _plan(effort: Effort) -> Plan:
    return plan_of(effort, qos=0, payload_size=PAYLOAD_SIZE)


def _wait_for_records(running: Running, place: KafkaPlace, expected: int) -> list[str]:
    """Wait until Kafka has ``expected`` records; what is wrong if it never has."""
    deadline = time.perf_counter() + RECORDS_TIMEOUT_S
    while (found := asyncio.run(place.records())) < expected and time.perf_counter() < deadline:
        running.wait(RECORDS_INTERVAL_S)
    return [] if found == expected else [f"{found} records in Kafka, {expected} expected"]


def run_archive(running: Running, effort: Effort) -> Outcome:
    """Pairs for a minute; the rate counts until the last message is a record in Kafka."""
    place = running.kafka
    assert place is not None
    load = open_load(running.ports, _plan(effort))
    broker_s, server_s = running.processor_s(), place.processor_s()
    stopwatch = Stopwatch(running)
    try:
        measured = measure(load, running, warm_up_s=0, seconds=effort.sustained_s)
    finally:
        load.poller.close()
    delivered_s, _ = stopwatch.read()
    sent = measured.tally.sent
    problems = measured.tally.problems() + _wait_for_records(running, place, sent)
    elapsed_s, busy = stopwatch.read()
    broker_s, server_s = running.processor_s() - broker_s, place.processor_s() - server_s
    with RawKafka(place, PAYLOAD_SIZE) as raw:
        raw_rate = raw.rate(RAW_BATCH, warm_up_s=effort.warm_up_s, seconds=effort.seconds)
    return Outcome(
        figures={
            "rate": sent / elapsed_s,
            "lag": elapsed_s - delivered_s,
            "broker": broker_s / sent * MICROSECONDS,
            "server": server_s / sent * MICROSECONDS,
            "raw": raw_rate,
        },
        busy={"rate": busy},
        problems=problems,
    )


def run_ceiling(running: Running, effort: Effort) -> Outcome:
    """The same messages, which the null broker only delivers."""
    measured = measure_plan(running, effort, _plan(effort))
    return Outcome(figures={"rate": measured.per_second}, busy={"rate": measured.busy})


SCENARIOS = (
    Scenario(
        name="kafka-archive",
        metrics=(
            Metric(
                name="rate",
                title="Kafka archive of #, QoS 0, 50 pairs, 60 s, every record there",
                unit="msg/s",
                required=Bound(40_000),
                aim=Bound(80_000),
            ),
            Metric(
                name="lag",
                title="from the last delivery to the last record",
                unit="s",
                smaller_is_better=True,
            ),
            Metric(
                name="broker",
                title="the broker's processor time per message",
                unit="µs",
                smaller_is_better=True,
            ),
            Metric(
                name="server",
                title="Kafka's processor time per message",
                unit="µs",
                smaller_is_better=True,
            ),
            Metric(
                name="raw",
                title="raw Kafka: sent and read back",
                unit="/s",
                rests_on=("rate",),
            ),
        ),
        run=run_archive,
        configuration="64 bytes; sessions in SQLite, the archive in Kafka, one server",
        profile=Profile.KAFKA_ARCHIVE,
        once=True,
        ceiling=run_ceiling,
    ),
)
