"""The rows about many subscriptions: the index of topic filters alone, in a fresh process."""

import gc
import multiprocessing
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

import psutil
from tests.bench.model import Bound, Component, Effort, Metric, Outcome

from monstermq_shared.topic_index import TopicIndex

T = TypeVar("T")

_DEVICES_PER_LINE = 200
_TOPICS_ASKED_MAX = 100_000


def run_subscriptions(effort: Effort) -> Outcome:
    """Let a process of its own subscribe and match, so that all its growth is the index."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(_measure_subscriptions, effort.subscriptions).result()


def _measure_subscriptions(count: int) -> Outcome:
    """Rates per second of processor time; resident memory, the filters included.

    Each topic is asked for once and has one subscriber, so no answer is there already.
    """
    devices = device_levels(count)
    topics = [f"plant/{device}/temperature" for device in devices[:_TOPICS_ASKED_MAX]]
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    (filters, index), adding_s = timed(partial(_subscribe, devices))
    grown = process.memory_info().rss - before
    found, matching_s = timed(lambda: [len(index.match(topic)) for topic in topics])
    problems = []
    if len(index) != len(filters) or found != [1] * len(topics):
        problems.append(f"{len(index)} of {count} subscriptions, {sum(found)} found")
    return Outcome(
        figures={
            "match": len(topics) / matching_s,
            "resident": grown / count,
            "add": count / adding_s,
        },
        problems=problems,
    )


def _subscribe(devices: list[str]) -> tuple[list[str], TopicIndex[int]]:
    """Subscribe to each device: half exactly, a quarter with one ``+``, a quarter with ``#``.

    The filters are kept beside the index, as sessions keep them.
    """
    filters: list[str] = []
    index: TopicIndex[int] = TopicIndex()
    for number, device in enumerate(devices):
        if number % 4 == 0:
            topic_filter = f"plant/+/{device.partition('/')[2]}/temperature"
        elif number % 4 == 1:
            topic_filter = f"plant/{device}/#"
        else:
            topic_filter = f"plant/{device}/temperature"
        filters.append(topic_filter)
        index.add(topic_filter, number, number % 3)
    return filters, index


def device_levels(count: int) -> list[str]:
    """The levels that name a device, of as many devices, in no order."""
    devices = []
    for number in range(count):
        line = number // _DEVICES_PER_LINE
        devices.append(f"site{line % 100}/line{line // 100}/device{number}")
    random.Random(1).shuffle(devices)
    return devices


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The result and the seconds of processor time, without the garbage collector's."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        result = work()
        return result, max(time.process_time() - start, 1e-9)
    finally:
        gc.enable()


_TITLE = "1,000,000 subscriptions, mixed wildcards"

SCENARIOS = (
    Component(
        name="subscriptions",
        metrics=(
            Metric(
                name="match",
                title=f"{_TITLE}: match, uncached",
                unit="topics/s",
                required=Bound(150_000),
            ),
            Metric(
                name="resident",
                title=f"{_TITLE}: memory",
                unit="B each",
                smaller_is_better=True,
                required=Bound(700),
            ),
            Metric(name="add", title=f"{_TITLE}: added", unit="/s"),
        ),
        run=run_subscriptions,
        configuration="the index alone, in a process of its own",
    ),
)
