"""What uvloop says to whoever writes to a connection that has just been lost.

asyncio's own loop drops such bytes and goes on. uvloop raises a ``RuntimeError``, until the
protocol has been told of the loss. Libraries that were made for asyncio do not expect that.
"""

_SAID = "the handler is closed"


def is_lost_write(exc: RuntimeError) -> bool:
    """Whether it says that the connection was lost, and nothing worse."""
    return _SAID in str(exc)
