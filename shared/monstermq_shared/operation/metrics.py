"""What the metrics of all processes have in common."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

T = TypeVar("T")


def registry_with(collector: Collector) -> CollectorRegistry:
    """Return a registry with a collector, the process's metrics and the garbage collector's."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(collector)
    return registry


def build_info(version: str) -> Metric:
    """Return the metric that tells the version."""
    build = GaugeMetricFamily("monstermq_build_info", "The version.", labels=["version"])
    build.add_metric([version], 1)
    return build


def counted(table: Iterable[tuple[str, str, Callable[[T], float]]], source: T) -> Iterator[Metric]:
    """Yield a counter for each name, text and reading of a table."""
    for name, text, read in table:
        yield CounterMetricFamily(f"monstermq_{name}", text, value=read(source))
