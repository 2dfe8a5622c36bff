"""What the MCP server counts, for metrics. Its own thread raises the numbers, any may read them."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Plain numbers.

    Attributes:
        requests: HTTP requests that were let in.
        foreign: Refused, because of their host or origin.
        strangers: Refused, because of their token.
        large: Refused, because of their size.
        slow: Refused, because they took too long to arrive.
        cut: Connections that made room for others.
    """

    requests: int = 0
    foreign: int = 0
    strangers: int = 0
    large: int = 0
    slow: int = 0
    cut: int = 0
