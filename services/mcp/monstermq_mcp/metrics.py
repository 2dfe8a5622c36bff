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
        yield CounterMetricFamily(
            "monstermq_mcp_connections_cut",
            "Connections of MCP clients that made room for others.",
            value=counts.cut,
        )
