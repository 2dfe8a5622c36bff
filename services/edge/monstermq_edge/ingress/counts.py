"""What came from Kafka topics of others, as Prometheus metrics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(slots=True, kw_only=True)
class IngressCounts:
    """Of one topic; but for the last two, every number only grows.

    Attributes:
        messages: Messages that the log has.
        refused: Records that could not become messages.
        own: Records that were from this broker's own archives.
        passed_over: Records that say nothing: notes of a broker, tombstones without a topic.
        missed: Records that Kafka had deleted before they were read.
        lag: Records that are there, and are not known to be on the log.
        under_way: Records of them that were read.
    """

    topic: str
    messages: int = 0
    refused: int = 0
    own: int = 0
    passed_over: int = 0
    missed: int = 0
    lag: int = 0
    under_way: int = 0


class IngressCollector(Collector):
    """Shows the numbers as they are when somebody asks.

    Args:
        counts: They are.
    """

    def __init__(self, counts: Sequence[IngressCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """See ``Collector.collect``."""
        for name, text in (
            ("messages", "Messages from Kafka topics of others that the log has."),
            ("refused", "Records of Kafka topics of others that could not become messages."),
            ("own", "Records of Kafka topics that were from this broker's own archives."),
            ("passed_over", "Records that are notes of a broker, or tombstones without a topic."),
            ("missed", "Records that Kafka had deleted before they became messages."),
        ):
            family = CounterMetricFamily(f"monstermq_ingress_{name}", text, labels=["topic"])
            for counts in self._counts:
                family.add_metric([counts.topic], getattr(counts, name))
            yield family
        for name, text in (
            ("lag", "Records of Kafka topics of others that are no messages yet."),
            ("under_way", "Those of them that were read, on their way to the log."),
        ):
            gauge = GaugeMetricFamily(f"monstermq_ingress_{name}_records", text, labels=["topic"])
            for counts in self._counts:
                gauge.add_metric([counts.topic], getattr(counts, name))
            yield gauge
