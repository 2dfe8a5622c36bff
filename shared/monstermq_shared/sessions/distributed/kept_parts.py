"""Where a kept session's delivery of one partition stands (E3, E5, E6)."""

from enum import Enum, auto

from monstermq_shared.sessions.window import Segment
from monstermq_shared.stores.queues import QueueAsk


class PartPhase(Enum):
    """How what a partition has for a session is delivered."""

    MARK = auto()
    """Its marker has not been read back: what is matched is for rows."""
    WAIT = auto()
    """The rows do not reflect the marker; what is matched from it on waits in memory."""
    PAGE = auto()
    """The rows below the marker are read; what is matched from it on waits in memory."""
    LIVE = auto()
    """All rows below the marker are read: what is matched is delivered."""


class Part:
    """One partition that is not simply live.

    Attributes:
        phase: See above.
        mark: The offset of the newest own marker: below it from rows, from it on live.
        next_offset: Rows are read from there on.
        lost: From there on what is matched was passed over for want of room, and is for rows; None
            if nothing was.
        buffer: What was matched from the marker on.
        ask: The page that is being read.
    """

    __slots__ = ("ask", "buffer", "lost", "mark", "next_offset", "phase")

    def __init__(self, phase: PartPhase, lost: int | None = None) -> None:
        self.phase = phase
        self.mark = -1
        self.next_offset = 0
        self.lost = lost
        self.buffer: list[Segment] = []
        self.ask: QueueAsk | None = None

    def marked(self, offset: int) -> None:
        """Its marker has been read back."""
        self.mark = offset
        self.phase = PartPhase.WAIT
        if self.lost is not None:
            self.next_offset, self.lost = self.lost, None
