"""What the MCP server counts, as Prometheus metrics."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from monstermq_mcp.counts import Counts


class CountsCollector(Collector):
    """Shows the numbers as they are when somebody asks.

    Args:
        counts: They are.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """See ``Collector.collect``."""
        counts = self._counts
        yield CounterMetricFamily(
            "monstermq_mcp_requests", "Requests of MCP clients.", value=counts.requests
        )
        refused = CounterMetricFamily(
            "monstermq_mcp_refused",
            "Requests of MCP clients that were refused before anything was done.",
            labels=["reason"],
        )
        for reason, count in (
            ("host_or_origin", counts.foreign),
            ("token", counts.strangers),
            ("size", counts.large),
            ("time", counts.slow),
        ):
            refused.add_metric([reason], count)
        yield refused
        for name, text, count in (
            ("connections_cut", "Connections that made room for others.", counts.cut),
            ("calls", "Calls of tools.", counts.calls),
            (
                "calls_refused",
                "Calls beyond those that are answered at a time.",
                counts.calls_refused,
            ),
            ("calls_timed_out", "Calls not answered in time.", counts.calls_timed_out),
            ("calls_failed", "Calls that failed, whatever was asked.", counts.calls_failed),
            (
                "watches_refused",
                "Watches that could not begin, or ended before their time.",
                counts.watches_refused,
            ),
            ("messages_dropped", "Messages without room in a watch.", counts.messages_dropped),
        ):
            yield CounterMetricFamily(f"monstermq_mcp_{name}", text, value=count)
