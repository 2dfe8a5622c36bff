"""A clean session of the local engine; ``persistent`` adds the queue."""

from collections.abc import Sequence

from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.session import ClientSession


class Session(ClientSession):
    """One client's session.

    Attributes:
        journal: Where facts go.
        held_turn: See ``Journal.after``.
        has_row: There is a row of this session in the database.
    """

    __slots__ = ("has_row", "held_turn", "journal")

    def __init__(self, client_id: str, journal: Journal, window: int) -> None:
        super().__init__(client_id, window)
        self.journal = journal
        self.held_turn = 0
        self.has_row = False

    @property
    def owes_answers(self) -> bool:
        """See ``ClientSession``: an answer waits for a commit."""
        return self.held_turn > self.journal.committed

    def answer(self, kind: Answer, packet_ids: Sequence[int], *, durable: bool) -> None:
        """See ``ClientSession``."""
        link = self.link
        if link is None:
            return
        journal = self.journal
        if durable or self.held_turn > journal.committed:
            journal.after(self, durable, link.answer, kind, packet_ids)
        else:
            link.answer(kind, packet_ids)  # as ``after`` does, which would be told it as an object
