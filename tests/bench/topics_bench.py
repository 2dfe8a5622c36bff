"""How fast and how large the two indexes of topics are."""

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from monstermq_shared.topic_index import TopicIndex
from monstermq_shared.topic_tree import TopicTree

T = TypeVar("T")

_DEVICES_PER_LINE = 200
_PAGE = 1_000


def run(large: bool) -> list[str]:
    """Measure both indexes; return the rows of the report.

    Rates are per second of processor time, memory is what the interpreter has allocated.

    Args:
        large: A million subscriptions and 200,000 topics rather than 10,000 of each.
    """
    return [
        *_subscription_rows(1_000_000 if large else 10_000),
        *_topic_rows(200_000 if large else 10_000),
    ]


def _subscription_rows(count: int) -> list[str]:
    devices = _devices(count)
    (filters, index), adding_s = _timed(partial(_subscribe, devices))
    topics = [f"plant/{device}/temperature" for device in devices[:100_000]]
    found, matching_s = _timed(lambda: [len(index.match(topic)) for topic in topics])
    assert len(index) == len(filters) == count
    assert found == [1] * len(topics), "every device has one subscriber"
    size = _allocated(partial(_subscribe, devices)) / count
    title = f"{count:,} subscriptions, mixed wildcards:"
    return [
        f"{title} match, uncached  {len(topics) / matching_s:,.0f} topics/s",
        f"{title} memory, filters included  {size:,.0f} B each",
        f"{title} add  {count / adding_s:,.0f} /s",
    ]


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


def _topic_rows(count: int) -> list[str]:
    topics = [f"plant/{device}/temperature" for device in _devices(count)]
    tree, new_s = _timed(lambda: _set_all(TopicTree(), topics))
    _, again_s = _timed(lambda: _set_all(tree, topics))
    size = _allocated(lambda: _set_all(TopicTree(), topics)) / count
    title = f"{count:,} topics:"
    rows = [
        f"{title} set, new  {count / new_s:,.0f} /s",
        f"{title} set, existing  {count / again_s:,.0f} /s",
        f"{title} memory beyond topic and value  {size:,.0f} B each",
    ]
    for topic_filter in ("#", "plant/+/+/+/temperature"):
        found, paging_s = _timed(partial(_find_all, tree, topic_filter))
        assert found == sorted(topics)
        rows.append(f"{title} pages of {_PAGE:,} by {topic_filter}  {count / paging_s:,.0f} /s")
    return rows


def _set_all(tree: TopicTree[None], topics: list[str]) -> TopicTree[None]:
    for topic in topics:
        tree.set(topic, None)
    return tree


def _find_all(tree: TopicTree[None], topic_filter: str) -> list[str]:
    found: list[str] = []
    while page := tree.find(topic_filter, after=found[-1] if found else "", limit=_PAGE):
        found += [topic for topic, _ in page]
    return found


def _devices(count: int) -> list[str]:
    """Return the levels that name a device, of as many devices, in no order."""
    devices = []
    for number in range(count):
        line = number // _DEVICES_PER_LINE
        devices.append(f"site{line % 100}/line{line // 100}/device{number}")
    random.Random(1).shuffle(devices)
    return devices


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result and the seconds of processor time, without the garbage collector's."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        result = work()
        return result, max(time.process_time() - start, 1e-9)
    finally:
        gc.enable()


def _allocated(build: Callable[[], object]) -> int:
    """Return how many bytes the result of ``build`` takes."""
    gc.collect()
    tracemalloc.start()
    try:
        result = build()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        del result
        return size
    finally:
        tracemalloc.stop()
