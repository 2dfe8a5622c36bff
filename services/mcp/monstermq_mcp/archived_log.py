"""The log where the bus keeps nothing once it is stored: an archive stands for it."""

import re
from dataclasses import replace

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.cursors import refused_position
from monstermq_shared.queries.history import HistoryPage, HistoryQuery, Message
from monstermq_shared.queries.live import LogPage, LogQuery, LogSource
from monstermq_shared.queries.ports import ArchiveQueries
from monstermq_shared.records import format_timestamp

# A place: the earliest time, that of the last message before it, then a cursor of the archive, or
# nothing: its beginning.
_PLACE = re.compile(r"(\d{1,15})-(\d{1,13})-(.*)", re.ASCII | re.DOTALL)


_PAGES_MAX = 100
"""Pages of one millisecond that are gone through to find a message in it."""


def _again(place: str) -> str:
    """Return what to go on with instead of a place: nobody shall miss what came since."""
    found = _PLACE.fullmatch(place)
    time = f" {format_timestamp(int(found[2]))}" if found else ""
    return f"startTime{time} instead of it: what came then is returned once more"


class ArchivedLog:
    """``LogQueries`` over the history of an archive group, whose order is that of time.

    So who goes on behind a place misses what came after the clock was set back, until it has caught
    up.

    Args:
        archive: Of the group.
    """

    def __init__(self, archive: ArchiveQueries) -> None:
        self._archive = archive

    async def read(self, query: LogQuery) -> LogPage:
        """Return messages from a place on; at once, also if there are none."""
        start_ms, cursor = await self._place(query)
        try:
            page = await self._page(query, start_ms, cursor)
        except QueryRefused as exc:
            if query.cursor is None:
                raise
            raise refused_position(_again(query.cursor)) from exc
        cursors = [
            f"{start_ms}-{row.time_ms}-{page.cursor_of(index)}"
            for index, row in enumerate(page.rows)
        ]
        return LogPage(
            messages=page.rows,
            source=LogSource.ARCHIVE,
            next_cursor=cursors[-1] if cursors else query.cursor or f"{start_ms}-{start_ms}-",
            cursors=cursors,
            more=page.more,
        )

    async def _place(self, query: LogQuery) -> tuple[int, str | None]:
        if query.cursor is not None:
            found = _PLACE.fullmatch(query.cursor)
            if found is None:
                raise QueryRefused("this is no position of the log; begin with a time instead")
            return int(found[1]), found[3] or None
        if query.start_ms is not None:
            return query.start_ms, None
        newest = await self._archive.history(
            HistoryQuery(filters=query.filters, limit=query.limit, payload_limit=0)
        )
        if not newest.rows:
            return 0, None
        oldest = newest.rows[-1]
        return oldest.time_ms, await self._before(query, oldest)

    async def _before(self, query: LogQuery, message: Message) -> str | None:
        """Return the cursor of the place before a message, None if it is the first of its time."""
        cursor = None
        for _ in range(_PAGES_MAX):
            page = await self._page(replace(query, payload_limit=0), message.time_ms, cursor)
            ids = [row.message_id for row in page.rows]
            if message.message_id in ids:
                index = ids.index(message.message_id)
                return page.cursor_of(index - 1) if index else cursor
            following = page.cursor_after(len(page.rows))
            if following is None:
                break
            cursor = following
        return cursor

    async def _page(self, query: LogQuery, start_ms: int, cursor: str | None) -> HistoryPage:
        return await self._archive.history(
            HistoryQuery(
                filters=query.filters,
                start_ms=start_ms,
                newest_first=False,
                limit=query.limit,
                cursor=cursor,
                payload_limit=query.payload_limit,
            )
        )
