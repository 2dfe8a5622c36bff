"""A page of an answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from monstermq_shared.queries.cursors import Cursors, Place

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """Some rows of an answer.

    Attributes:
        rows: They are.
        more: Whether others follow them.
        cursor_of: Returns the cursor with which the page after one of the rows begins, by its
            index. Who shows fewer rows than there are goes on after the last one shown.
    """

    rows: Sequence[Row]
    more: bool
    cursor_of: Callable[[int], str]

    def cursor_after(self, shown: int) -> str | None:
        """Return the cursor with which to go on after the first rows; None if nothing follows.

        Args:
            shown: How many of the rows were used, at least 1 unless there are none.
        """
        if not self.rows or (shown >= len(self.rows) and not self.more):
            return None
        return self.cursor_of(min(shown, len(self.rows)) - 1)


def page_of(
    rows: Sequence[Row],
    *,
    more: bool,
    cursors: Cursors,
    question: str,
    place: Callable[[Row], Place],
) -> Page[Row]:
    """Return a page whose cursors are sealed when they are asked for.

    Args:
        rows: Its rows.
        more: Whether others follow.
        cursors: Seals.
        question: What was asked.
        place: Returns where a row stands.
    """
    return Page(
        rows=rows, more=more, cursor_of=lambda index: cursors.seal(question, place(rows[index]))
    )
