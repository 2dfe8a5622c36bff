"""Rows about others under attack: for each cause the worst wait of a canary (``canary.py``)."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.bench import attacks_questions as questions
from tests.bench import attacks_subscriptions as subscriptions
from tests.bench import attacks_traffic as traffic
from tests.bench.brokers import Profile, Running
from tests.bench.canary import Canary
from tests.bench.model import Attack, Bound, Effort, Metric, Outcome
from tests.bench.stage import Stage

BOUND_MS, AIM_MS = 250, 100
Steps = Callable[[Stage], Iterator[None]]
"""An attack: up to its ``yield`` it prepares."""


def run_attack(running: Running, effort: Effort, *, steps: Steps) -> Outcome:
    """Prepare, let the canary sing, attack; figures in milliseconds, ``took`` in seconds."""
    with Stage(running, effort) as stage:
        attack = steps(stage)
        next(attack)
        with Canary(running.port, running.operation_port) as canary:
            start = time.perf_counter()
            next(attack, None)
            took_s = time.perf_counter() - start
            stage.run_for(effort.seconds)
            waits = canary.stop()
        return Outcome(
            figures={
                "message": waits.message,
                "ping": waits.ping,
                "health": waits.health,
                "stored": waits.stored,
                "lateness": waits.lateness,
                "took": took_s,
            },
            problems=stage.problems + waits.problems,
        )


def _metric(name: str, title: str, *, is_bounded: bool = True) -> Metric:
    return Metric(
        name=name,
        title=title,
        unit="ms",
        smaller_is_better=True,
        required=Bound(BOUND_MS) if is_bounded else None,
        aim=Bound(AIM_MS) if is_bounded else None,
    )


def _attack(name: str, cause: str, steps: Steps, *, profile: Profile = Profile.WATCHED) -> Attack:
    return Attack(
        name=f"canary-{name}",
        metrics=(
            _metric("message", cause),
            _metric("ping", f"{cause}: PINGREQ"),
            _metric("health", f"{cause}: /health"),
            _metric("stored", f"{cause}: a stored message's PUBACK", is_bounded=False),
            _metric("lateness", f"{cause}: the canary's own lateness", is_bounded=False),
        ),
        configuration="as installed, with SQLite and the operation port",
        run=partial(run_attack, steps=steps),
        profile=profile,
        once=True,
    )


def _routing() -> Iterator[Attack]:
    yield _attack(
        "subscribe-cached",
        "1,000 filters subscribed over 65,000 remembered topics",
        subscriptions.subscribe_over_cached_topics,
    )
    yield _attack(
        "unsubscribe-cached",
        "1,000 filters unsubscribed over 65,000 remembered topics",
        subscriptions.unsubscribe_over_cached_topics,
    )
    yield _attack(
        "leave-cached",
        "a client with 1,000 filters leaves, 20,000 remembered topics",
        subscriptions.leave_over_cached_topics,
    )
    yield _attack(
        "deep-subscribe",
        "10,000 filters of 190 levels subscribed",
        subscriptions.subscribe_to_deep_filters,
    )
    for clients, whose in ((1, "one client's"), (100, "100 clients'")):
        yield _attack(
            f"deep-publish-{clients}",
            f"100 PUBLISHes into {whose} 10,000 filters of 190 levels",
            partial(subscriptions.publish_into_deep_filters, clients=clients),
        )
        yield _attack(
            f"wide-publish-{clients}",
            f"3,000 PUBLISHes into {whose} 10,000 filters of 14 levels and `/#`",
            partial(subscriptions.publish_into_wide_filters, clients=clients),
        )
    yield _attack(
        "leave-subscribed",
        "30 clients with 10,000 subscriptions each leave",
        subscriptions.leave_with_subscriptions,
    )
    yield _attack(
        "subscribe-packet",
        "SUBSCRIBE with 100,000 filters",
        subscriptions.subscribe_in_one_packet,
    )
    yield _attack(
        "unsubscribe-packet",
        "UNSUBSCRIBE with 170,000 filters",
        subscriptions.unsubscribe_in_one_packet,
    )
    yield _attack(
        "subscribe-sys",
        "100 clients SUBSCRIBE `$SYS/#` 1,000 times",
        subscriptions.subscribe_to_sys,
    )


def _sessions() -> Iterator[Attack]:
    for is_kept, kind in ((False, ""), (True, "retained ")):
        yield _attack(
            f"wills{'-retained' if is_kept else ''}",
            f"1,000 clients with {kind}64 KB wills vanish",
            partial(traffic.vanish_with_wills, is_kept=is_kept),
        )
    for size in (10, 1_000):
        yield _attack(
            f"wipe-{size}",
            f"a session with 300,000 queued messages of {size:,} B is wiped",
            partial(traffic.wipe_a_queue, size=size),
        )
    yield _attack("reload", "100 SIGHUPs with a PKCS#12 file", traffic.reload_certificates)
    for profile, where in ((Profile.WATCHED, "SQLite"), (Profile.WATCHED_MEMORY, "memory")):
        for count, size, shown in ((300_000, 1_000, "1 KB"), (600, 511 * 1024, "511 KB")):
            yield _attack(
                f"retained-{shown.replace(' ', '').lower()}-{where.lower()}",
                f"{count:,} retained messages of {shown} come into {where}",
                partial(traffic.retain_much, count=count, size=size),
                profile=profile,
            )
        for is_committed, when in ((True, "with"), (False, "just given")):
            yield _attack(
                f"{'replay' if is_committed else 'replay-retaining'}-{where.lower()}",
                f"`#` from {where} {when} 100,000 retained topics to 300 clients",
                partial(traffic.replay_everything, is_committed=is_committed),
                profile=profile,
            )
        yield _attack(
            f"subscribe-retained-{where.lower()}",
            f"1,000 filters subscribed over 100,000 retained topics in {where}",
            subscriptions.subscribe_over_retained_topics,
            profile=profile,
        )
        yield _attack(
            f"subscribe-retaining-{where.lower()}",
            f"the same while the topics come into {where}",
            subscriptions.subscribe_while_topics_are_retained,
            profile=profile,
        )


def _floods() -> Iterator[Attack]:
    for size, what in ((0, "empty fragments"), (1, "frames of one byte")):
        yield _attack(
            f"websocket-{size}",
            f"WebSocket {what} at full speed",
            partial(traffic.send_websocket_frames, size=size),
        )
    for topics, where in ((1, "one topic"), (1_000, "1,000 topics")):
        for is_heard, whom in ((False, "nobody"), (True, "one subscriber")):
            yield _attack(
                f"flood-{topics}-{'heard' if is_heard else 'unheard'}",
                f"8 QoS 0 flooders on {where} each, for {whom}",
                partial(traffic.flood, topics=topics, is_heard=is_heard),
            )
    for name, what, frames in (
        ("pings", "PINGREQs", traffic.pings),
        ("pubacks", "PUBACKs of unknown ids", traffic.unknown_acknowledgements),
        ("new-topics", "PUBLISHes on topics of one message", traffic.topics_of_one_message),
    ):
        yield _attack(
            f"chunks-{name}",
            f"{what} in chunks of 256 KiB",
            partial(traffic.send_packets, frames=frames),
        )
    for count, qos, clean in ((20_000, 0, True), (20_000, 1, True), (2_000, 1, False)):
        kind = "" if clean else "persistent "
        yield _attack(
            f"fan-out-qos{qos}{'' if clean else '-persistent'}",
            f"one PUBLISH to {count:,} {kind}subscribers, QoS {qos}",
            partial(traffic.fan_out, count=count, qos=qos, clean=clean),
        )


def _questions() -> Iterator[Attack]:
    for clients, who in ((1, "an MCP client asks"), (4, "4 MCP clients ask")):
        yield _attack(
            f"questions-{clients}",
            f"{who} for much of {questions.MESSAGES:,} messages of {questions.TOPICS:,} topics",
            partial(questions.ask_much, clients=clients),
            profile=Profile.ASKED,
        )


SCENARIOS = (
    _attack("none", "none: what the machine alone does", traffic.nothing),
    *_routing(),
    *_sessions(),
    *_floods(),
    *_questions(),
)
