"""How fast and how large the tree of topics is."""

import gc
import tracemalloc
from collections.abc import Callable
from functools import partial

from tests.bench.model import LARGE, Effort
from tests.bench.scenarios_topics import device_levels, timed

from monstermq_shared.topic_tree import TopicTree

_PAGE = 1_000


def run(effort: Effort) -> list[str]:
    """Measure the tree; return the rows of the report.

    Rates are per second of processor time, memory is what the interpreter has allocated.
    """
    count = effort.stored_rows
    topics = [f"plant/{device}/temperature" for device in device_levels(count)]
    tree, new_s = timed(lambda: _set_all(TopicTree(), topics))
    _, again_s = timed(lambda: _set_all(tree, topics))
    size = _allocated(lambda: _set_all(TopicTree(), topics)) / count
    title = f"{count:,} topics:"
    rows = [
        f"{title} set, new  {count / new_s:,.0f} /s",
        f"{title} set, existing  {count / again_s:,.0f} /s",
        f"{title} memory beyond topic and value  {size:,.0f} B each",
    ]
    for topic_filter in ("#", "plant/+/+/+/temperature"):
        found, paging_s = timed(partial(_find_all, tree, topic_filter))
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


if __name__ == "__main__":
    print(*run(LARGE), sep="\n")
