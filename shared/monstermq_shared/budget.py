"""How much work may be done before others have their turn, counted instead of timed.

One event loop serves everybody. Whatever one packet, one client's end or one message to many causes
is paid for here, and what there is no budget for waits for the next turn. Counting is cheaper than
reading the clock, and the same on every machine, so tests can count too.
"""

AMPLE = 1 << 40
"""More than anybody uses up: what is left where nobody else waits for a turn."""


class Budget:
    """Work that is left in this turn of the event loop; a unit is about a microsecond.

    Attributes:
        left: Units. What has been begun is finished, so it may fall below 0.
        busy: Work is under way that must be finished before anybody else is served.
    """

    __slots__ = ("busy", "left")

    def __init__(self) -> None:
        self.left = AMPLE
        self.busy = False
