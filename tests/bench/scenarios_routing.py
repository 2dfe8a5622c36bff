"""Rows about messages passed on: rates by QoS and shape, shares of TCP over TLS and WebSocket."""

import time
from collections.abc import Iterator
from functools import partial

from tests.bench.brokers import Profile, Running
from tests.bench.busy import Stopwatch
from tests.bench.channels import Client, Transport, open_channel
from tests.bench.frames import EVERY_TOPIC, ONE_VARIANT, PAYLOAD_SIZE, TEN_VARIANTS
from tests.bench.generator import Load, Measured, Plan, measure, open_load, open_publishers
from tests.bench.model import SHARE, Bound, Effort, Gain, Metric, Outcome, Scenario, times
from tests.bench.poller import CollectorPaused

SLOW_READ_INTERVAL_S = 0.01
SLOW_READ_BYTES = 4096


def run_load(
    running: Running,
    effort: Effort,
    *,
    qos: int,
    shape: str = "pairs",
    transport: Transport = Transport.TCP,
    clean: bool = True,
) -> Outcome:
    """Pairs, mixed (ten topics in turn), single (one message at a time), to one, or to many."""
    plan = plan_of(effort, qos=qos, shape=shape, transport=transport, clean=clean)
    measured = measure_plan(running, effort, plan)
    return Outcome(
        figures={"rate": measured.per_second, "cost": measured.cost_us},
        busy={"rate": measured.busy},
        problems=measured.tally.problems(),
    )


def plan_of(
    effort: Effort,
    *,
    qos: int,
    shape: str = "pairs",
    transport: Transport = Transport.TCP,
    clean: bool = True,
    payload_size: int = PAYLOAD_SIZE,
) -> Plan:
    """Who is there in a load of a shape, see ``run_load``."""
    return Plan(
        qos=qos,
        publishers=1 if shape == "fan-out" else effort.pairs,
        subscribers={"fan-in": 1, "fan-out": effort.fan_out}.get(shape, effort.pairs),
        transport=transport,
        clean=clean,
        variants=TEN_VARIANTS if shape == "mixed" else ONE_VARIANT,
        window=1 if shape == "single" else None,
        payload_size=payload_size,
    )


def measure_plan(running: Running, effort: Effort, plan: Plan) -> Measured:
    """Run a load by itself."""
    load = open_load(running.ports, plan)
    try:
        return measure(load, running, warm_up_s=effort.warm_up_s, seconds=effort.seconds)
    finally:
        load.poller.close()


def run_share(running: Running, effort: Effort, *, qos: int, transport: Transport) -> Outcome:
    """The same pairs over TCP and over ``transport``, in the same process of the broker."""
    plain = run_load(running, effort, qos=qos)
    wrapped = run_load(running, effort, qos=qos, transport=transport)
    rate = wrapped.figures["rate"]
    return Outcome(
        figures={"rate": rate, "share": rate / plain.figures["rate"]},
        busy={"TCP": plain.busy["rate"], "rate": wrapped.busy["rate"]},
        problems=plain.problems + wrapped.problems,
    )


def run_outrun(running: Running, effort: Effort) -> Outcome:
    """Publishers that wait for PUBACK only, and one subscriber that reads now and then."""
    reader = Client(
        client_id="sub-00",
        topic_filter=EVERY_TOPIC,
        qos=1,
        receive_buffer_bytes=SLOW_READ_BYTES,
    )
    receiving = open_channel(Transport.TCP, running.port, reader)
    load = Load(1, open_publishers(running.ports, effort.pairs), [receiving])
    load.wait_for_acknowledgements_only()
    slow = load.subscribers[0]
    load.poller.remove(slow.channel)
    try:
        with CollectorPaused():
            load.start()
            stopwatch = Stopwatch(running)
            deadline = time.perf_counter() + effort.seconds
            while (now := time.perf_counter()) < deadline:
                load.poller.run_until_time(now + SLOW_READ_INTERVAL_S)
                slow.read()
            elapsed_s, busy = stopwatch.read()
            delivered, acknowledged = load.delivered, load.acknowledged
            load.poller.add(slow.channel, slow.read)
            tally = load.finish()
    finally:
        load.poller.close()
    return Outcome(
        figures={"delivered": delivered / elapsed_s, "acknowledged": acknowledged / elapsed_s},
        busy={"acknowledged": busy},
        problems=tally.problems(),
    )


def _rate_scenario(
    name: str, title: str, required: Bound, aim: Bound, *, qos: int, shape: str = "pairs"
) -> Scenario:
    run = partial(run_load, qos=qos, shape=shape)
    metric = Metric(name="rate", title=title, unit="msg/s", required=required, aim=aim)
    window = "window 100" if qos == 0 else "window 20"
    return Scenario(
        name=name, metrics=(metric,), run=run, configuration=f"routing, {window}", ceiling=run
    )


def cost_metric(whose: str) -> Metric:
    """A row below that of a rate: on a machine that others use, it tells more than the rate."""
    return Metric(
        name="cost",
        title=f"{whose} processor time per message",
        unit="µs",
        smaller_is_better=True,
        rests_on=("rate",),
    )


def _users_scenario(shape: str, bounds: tuple[Bound, Bound], gain: Gain, *, qos: int) -> Scenario:
    """What most users have, and a bulk path for equal topics in a row cannot help with.

    Mixed is a gateway of many sensors; single is a sensor, or home automation: a message now and
    then.
    """
    run = partial(run_load, qos=qos, shape=shape)
    required, aim = bounds
    told, configuration = {
        "mixed": ("ten topics each in turn", "no topic twice in a row"),
        "single": ("one message at a time each", "window 1"),
    }[shape]
    rate = Metric(
        name="rate",
        title=f"QoS {qos}, 50 pairs, {told}",
        unit="msg/s",
        required=required,
        aim=aim,
        gain=gain,
    )
    return Scenario(
        name=f"qos{qos}-{shape}",
        metrics=(rate, cost_metric("the broker's")),
        run=run,
        configuration=f"routing, {configuration}",
        ceiling=run,
    )


def _share_scenarios() -> Iterator[Scenario]:
    for transport, required in ((Transport.TLS, 0.6), (Transport.WEBSOCKET, 0.5)):
        for qos in (0, 1):
            run = partial(run_share, qos=qos, transport=transport)
            title = f"QoS {qos}, 50 pairs over {transport}"
            yield Scenario(
                name=f"qos{qos}-pairs-{transport.lower()}",
                metrics=(
                    Metric(name="rate", title=title, unit="msg/s"),
                    Metric(
                        name="share",
                        title=f"{title}: share of TCP",
                        unit=SHARE,
                        required=Bound(required),
                        rests_on=("TCP", "rate"),
                    ),
                ),
                run=run,
                configuration=f"routing, {transport}",
                ceiling=partial(run_load, qos=qos, transport=transport),
            )


SCENARIOS = (
    _rate_scenario("qos0-pairs", "QoS 0, 50 pairs", times(4), times(6), qos=0),
    _rate_scenario("qos0-fan-in", "QoS 0, 50 to 1", times(5), times(8), qos=0, shape="fan-in"),
    _rate_scenario("qos0-fan-out", "QoS 0, 1 to 100", times(5), times(8), qos=0, shape="fan-out"),
    _rate_scenario("qos1-pairs", "QoS 1, 50 pairs", times(1.5), times(3), qos=1),
    _rate_scenario("qos1-fan-in", "QoS 1, 50 to 1", times(2.5), times(5), qos=1, shape="fan-in"),
    _rate_scenario("qos1-fan-out", "QoS 1, 1 to 100", times(1.2), times(2), qos=1, shape="fan-out"),
    _users_scenario("mixed", (times(3), times(6)), Gain(2.5, 3.5), qos=0),
    _users_scenario("mixed", (times(3), times(5)), Gain(2, 3), qos=1),
    _users_scenario("single", (times(0.8), times(1.1)), Gain(1.3, 1.7), qos=0),
    _users_scenario("single", (times(0.8), times(1.1)), Gain(1.3, 1.7), qos=1),
    _rate_scenario("qos2-pairs", "QoS 2, 50 pairs", times(1.5), times(3), qos=2),
    Scenario(
        name="persistent-pairs",
        metrics=(
            Metric(
                name="rate",
                title="QoS 1, 50 pairs, online persistent subscribers",
                unit="msg/s",
                required=Bound(15_000),
                aim=Bound(40_000),
            ),
        ),
        run=partial(run_load, qos=1, clean=False),
        configuration="SQLite, window 20",
        profile=Profile.SQLITE,
        ceiling=partial(run_load, qos=1),
    ),
    *_share_scenarios(),
    Scenario(
        name="outrun",
        metrics=(
            Metric(
                name="acknowledged",
                title="50 publishers outrun a QoS 1 subscriber: acknowledged",
                unit="msg/s",
            ),
            Metric(
                name="delivered",
                title="meanwhile delivered (then drained: all)",
                unit="msg/s",
                rests_on=("acknowledged",),
            ),
        ),
        run=run_outrun,
        configuration="routing; the subscriber reads every 10 ms",
    ),
)
