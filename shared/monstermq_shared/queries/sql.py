"""Questions in SQL: what can be asked, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.bounds import PAGE_SIZE_MAX, ROWS_DEFAULT, SQL_SIZE_MAX, check_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuery:
    """One statement that reads; one that is wrong is refused when it is made, or when it is run.

    Attributes:
        text: The statement, in the database's own SQL.
        limit: Rows at most.
        size_max: Bytes of values after which no further row is taken.
    """

    text: str
    limit: int = ROWS_DEFAULT
    size_max: int = PAGE_SIZE_MAX

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: It is empty or too long, contains NUL, or a bound is out of its bounds.
        """
        check_rows(self.limit)
        if not self.text.strip():
            raise QueryRefused("the SQL is empty; give one SELECT statement")
        if len(self.text) > SQL_SIZE_MAX:
            raise QueryRefused(f"the SQL is longer than {SQL_SIZE_MAX} characters")
        if "\0" in self.text:
            raise QueryRefused("the SQL contains NUL")


@dataclass(frozen=True, slots=True)
class CutValue:
    """The beginning of a value that is longer than ``bounds.CELL_SIZE_MAX``.

    Attributes:
        start: Its first characters or bytes.
        size: How many it has in all.
    """

    start: str | bytes
    size: int


Cell = None | bool | int | float | str | bytes | CutValue
"""One value; what the database has no such type for is a text, times in ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlAnswer:
    """What a statement returned.

    Attributes:
        columns: Their names, in order.
        rows: The rows, each with a value for every column.
        more: Whether there were further rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    more: bool


class TableKind(StrEnum):
    """What a table keeps."""

    ARCHIVE = "every message of an archive group"
    LAST_VALUES = "the last message of every topic of an archive group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table that may be read.

    Attributes:
        name: Its name.
        type: Its type, as the database calls it.
    """

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that may be read.

    Attributes:
        name: Its name, as it must be written in SQL: quoted where it has to be.
        kind: What it keeps.
        columns: What it has.
    """

    name: str
    kind: TableKind
    columns: Sequence[Column]
