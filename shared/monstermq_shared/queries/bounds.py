"""How much one question may ask for. What is beyond is refused with a sentence, never cut off."""

from monstermq_shared.errors import QueryRefused
from monstermq_shared.records import TIMESTAMP_MS_MAX

ROWS_DEFAULT = 100
"""Rows of an answer, where the asker does not say."""

ROWS_MAX = 1000
"""Rows of an answer at most."""

FILTERS_MAX = 100
"""Topics and filters of one question."""

FILTER_LEVELS_MAX = 1000
"""Levels of a topic or filter; each costs something, wherever it is compared."""

PAYLOAD_START_MAX = 64 * 1024
"""Bytes of each payload that a question can ask for."""

PAYLOAD_WHOLE = 2**31 - 1
"""In place of such a number: payloads as they are. A page still ends by its bytes."""

PAYLOAD_START_DEFAULT = 2048
"""Bytes of each payload, where the asker does not say."""

PAGE_SIZE_MAX = 4 * 1024 * 1024
"""Bytes of topics and payloads after which a page ends, whatever its rows."""

TEXT_SHOWN_MAX = 2048
"""Characters of a description, and of a config, in an answer."""

TEXT_SIZE_MAX = 1024
"""Characters of a name or description that is looked for."""

WILDCARDS_MAX = 16
"""Places of a pattern where any text may stand."""

SQL_SIZE_MAX = 16 * 1024
"""Characters of an SQL statement."""

CELL_SIZE_MAX = 2048
"""Characters, or bytes, of one value in the answer to an SQL statement."""

TIMEOUT_S_DEFAULT = 10.0
"""Seconds after which a query is given up, where nobody says."""

# A page holds what its rows may be cut to, unless topics are very long.
assert ROWS_MAX * PAYLOAD_START_DEFAULT <= PAGE_SIZE_MAX


def check_rows(limit: int) -> None:
    """Refuse a number of rows that is none.

    Raises:
        QueryRefused: It is below 1 or above ``ROWS_MAX``.
    """
    if not 1 <= limit <= ROWS_MAX:
        raise QueryRefused(f"limit is {limit}; give a number from 1 to {ROWS_MAX}")


def check_payload_start(size: int) -> None:
    """Refuse a number of payload bytes that is none.

    Raises:
        QueryRefused: It is negative, or above ``PAYLOAD_START_MAX`` and not ``PAYLOAD_WHOLE``.
    """
    if size != PAYLOAD_WHOLE and not 0 <= size <= PAYLOAD_START_MAX:
        raise QueryRefused(
            f"the payloads' size limit is {size}; give a number of bytes from 0 to "
            f"{PAYLOAD_START_MAX}"
        )


def check_times(start_ms: int | None, end_ms: int | None) -> None:
    """Refuse a stretch of time that is none.

    Raises:
        QueryRefused: It begins after it ends, or lies outside the years 1970 to 9999.
    """
    for name, moment in (("start", start_ms), ("end", end_ms)):
        if moment is not None and not 0 <= moment <= TIMESTAMP_MS_MAX:
            raise QueryRefused(f"the {name} time lies outside the years 1970 to 9999")
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise QueryRefused("the start time is after the end time; swap them")
