"""What runs beside a broker in its process, and is no part of it: the MCP server."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from prometheus_client.registry import Collector

from monstermq_edge.engines.ports import Host


class Companion(Protocol):
    """Starts after the broker's engine, and stops before it.

    Attributes:
        collector: What ``/metrics`` shows of it.
    """

    @property
    def collector(self) -> Collector:
        """See above."""
        ...

    async def start(self) -> None:
        """Begin, without keeping the broker waiting.

        Raises:
            MonsterError: It cannot; the broker does not start either.
        """
        ...

    async def stop(self) -> None:
        """End, in bounded time. It may be called twice, and without a start."""
        ...

    def concerns(self) -> list[str]:
        """Return what is wrong with it; the broker serves its own clients all the same."""
        ...

    def urls(self) -> list[str]:
        """Return what its clients can connect to."""
        ...


Companions: TypeAlias = Callable[[Host, Callable[[], None]], list[Companion]]
"""Makes them of the broker's host, and of what makes sure that its loop turn is finished; called in
its loop, once the databases are open."""


def none(_host: Host, _touch: Callable[[], None]) -> list[Companion]:
    """Make none."""
    return []
