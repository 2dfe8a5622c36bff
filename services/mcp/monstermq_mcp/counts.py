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
        calls: Calls of tools that were begun.
        calls_refused: Calls that were turned away, because too many were being answered.
        calls_timed_out: Calls that a database has not answered in time.
        calls_failed: Calls that failed for a reason that the caller cannot repair.
        watches_refused: Watches that could not begin, or ended before their time.
        messages_dropped: Messages that came in a watch and found no room.
    """

    requests: int = 0
    foreign: int = 0
    strangers: int = 0
    large: int = 0
    slow: int = 0
    cut: int = 0
    calls: int = 0
    calls_refused: int = 0
    calls_timed_out: int = 0
    calls_failed: int = 0
    watches_refused: int = 0
    messages_dropped: int = 0
