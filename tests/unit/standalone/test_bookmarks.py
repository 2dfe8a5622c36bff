"""Where a replay goes on after a break."""

from monstermq.bookmarks import CountBookmark, Mark, PositionBookmark, TimeBookmark

NOON_MS = 1_768_478_400_000
LAST_MS = NOON_MS + 999


def at(*times_ms: int) -> list[Mark]:
    return [Mark(NOON_MS + each) for each in times_ms]


def test_a_file_is_counted() -> None:
    bookmark = CountBookmark(5)
    bookmark.skipped(at(0, 0))
    assert bookmark.options(LAST_MS) == "--skip 5"
    bookmark.passed(at(0, 1, 2))
    assert bookmark.options(LAST_MS) == "--skip 8"
    assert bookmark.options(LAST_MS, at(3)) == "--skip 9"


def test_an_archive_is_gone_on_with_at_its_last_time_and_behind_what_was_of_that() -> None:
    bookmark = TimeBookmark(NOON_MS, None, 3)
    asked = "--from 2026-01-15T12:00:00.000Z --to 2026-01-15T12:00:01.000Z --skip 3"
    assert bookmark.options(LAST_MS) == asked
    bookmark.skipped(at(0, 7, 7))
    # As long as nothing has arrived, everything is as it was asked for.
    assert bookmark.options(LAST_MS) == asked
    begin = "--from 2026-01-15T12:00:00.00"
    until = "Z --to 2026-01-15T12:00:01.000Z --skip"
    assert bookmark.options(LAST_MS, at(7)) == f"{begin}7{until} 3"
    bookmark.passed(at(7))
    assert bookmark.options(LAST_MS) == f"{begin}7{until} 3"
    bookmark.passed(at(8, 9, 9))
    assert bookmark.options(LAST_MS) == f"{begin}9{until} 2"
    assert bookmark.options(LAST_MS, at(9)) == f"{begin}9{until} 3"


def test_a_log_is_gone_on_with_at_positions() -> None:
    bookmark = PositionBookmark("3:17", NOON_MS, {0: 4, 1: 0, 2: 9})
    asked = "--from 3:17 --to 2026-01-15T12:00:00.000Z --continue"
    assert bookmark.options(LAST_MS) == f"{asked} 0:4,1:0,2:9"
    bookmark.passed([Mark(NOON_MS, 1, 6), Mark(NOON_MS, 0, 4), Mark(NOON_MS, 1, 7)])
    assert bookmark.options(LAST_MS) == f"{asked} 0:5,1:8,2:9"
    assert bookmark.options(LAST_MS, [Mark(NOON_MS, 2, 11)]) == f"{asked} 0:5,1:8,2:12"
