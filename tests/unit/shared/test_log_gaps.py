"""A follower to which something of its log is missing, or which meets another log."""

from collections.abc import Sequence

import pytest
from tests.support.followed_log import LogEntry, Reader, running
from tests.support.followed_views import Stage, fill, until

from monstermq_shared import retries
from monstermq_shared.testing.builders import make_record
from monstermq_shared.views import log_follower


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(log_follower, "MARKS_S", 0.0)
    monkeypatch.setattr(log_follower, "REREAD_S", 0.0)
    monkeypatch.setattr(log_follower, "LOOK_S", 0.0)


async def test_retention_that_overtook_it_is_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    fill(stage.log, 5)
    await stage.begun()
    fill(stage.log, 10)
    stage.log.first = 9
    async with stage.following():
        await stage.caught_up()
    assert await stage.archived() == list(range(9, 15))
    assert (stage.desk.gaps.gaps, stage.desk.gaps.missed) == (1, 4)
    assert "at most 4 records from 5 to 8 are missing in retained, GArchive" in caplog.text


async def test_retention_that_overtakes_it_while_it_reads_is_told_too() -> None:
    stage = Stage()
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 10)
        stage.log.first = 6
        await stage.caught_up()
    assert await stage.archived() == [6, 7, 8, 9]
    assert stage.desk.gaps.missed == 6


async def test_a_log_that_is_shorter_than_the_rows_say_is_refused() -> None:
    stage = Stage()
    fill(stage.log, 5)
    await stage.begun()
    del stage.log.entries[3:]
    async with stage.following():
        await until(lambda: stage.failed)
    assert "it ends at 3, and the views reflect it up to 5" in str(stage.failed[0])
    assert "Kafka.Bus.Topic" in str(stage.failed[0])


async def test_another_record_below_the_mark_is_another_log() -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 5)
    async with stage.following():
        await stage.caught_up()
    stage.log.entries.clear()
    for _ in range(9):
        stage.log.append(make_record(0, "a"), b"writer-9")
    async with stage.following():
        await until(lambda: stage.failed)
    assert "at 4 stands" in str(stage.failed[0])
    assert await stage.archived() == [0, 1, 2, 3, 4]


async def test_what_was_not_delivered_is_read_again() -> None:
    stage = Stage()
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 10)
        await follower.deliver(stage.log.entries[4:6])
        await stage.caught_up()
    assert await stage.archived() == list(range(10))


async def test_a_hole_that_is_none_of_ours_does_not_hold_the_log_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 6)
    pieces = [*stage.log.entries[:2], *stage.log.entries[3:]]

    class Holey(Reader):
        def next_piece(self) -> Sequence[LogEntry]:
            return [entry for entry in pieces if entry.offset >= self.at]

    follower = stage.new_follower()
    async with running(follower.run, Holey(stage.log, follower).run):
        await stage.caught_up()
    assert await stage.archived() == [0, 1, 3, 4, 5]
    assert "nothing stands at the positions 2 to 2" in caplog.text


async def test_a_hole_in_a_busy_log_does_not_hold_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it is read again, something else was on its way before."""
    monkeypatch.setattr(log_follower, "REREAD_S", 0.02)
    stage = Stage()
    await stage.begun()
    fill(stage.log, 2_000)
    pieces = [*stage.log.entries[:2], *stage.log.entries[3:]]
    on_their_way = iter(stage.log.entries[4:])

    class Busy(Reader):
        sought: int | None = None

        def next_piece(self) -> Sequence[LogEntry]:
            if self.sought is None and self.at == 2:
                self.sought = self.at
                return [next(on_their_way)]
            at, self.sought = self.at if self.sought is None else self.sought, None
            return [entry for entry in pieces if entry.offset >= at]

    follower = stage.new_follower()
    async with running(follower.run, Busy(stage.log, follower).run):
        await stage.caught_up()
    assert await stage.archived() == [0, 1, *range(3, 2_000)]


async def test_a_hole_at_the_end_of_a_quiet_log_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing comes any more that could remind us."""
    monkeypatch.setattr(log_follower, "REREAD_S", 0.02)
    stage = Stage()
    await stage.begun()
    fill(stage.log, 6)
    pieces = [*stage.log.entries[:4], *stage.log.entries[5:]]

    class Holey(Reader):
        def next_piece(self) -> Sequence[LogEntry]:
            return [entry for entry in pieces if entry.offset >= self.at]

    follower = stage.new_follower()
    async with running(follower.run, Holey(stage.log, follower).run):
        await stage.caught_up()
    assert await stage.archived() == [0, 1, 2, 3, 5]


async def test_what_was_on_its_way_long_before_is_not_taken_for_a_hole() -> None:
    """However long it takes: behind each of these is another one, so they are no hole's end."""
    stage = Stage()
    await stage.begun()
    fill(stage.log, 30)
    stale = [stage.log.entries[at : at + 2] for at in range(4, 28, 2)]

    class Late(Reader):
        def next_piece(self) -> Sequence[LogEntry]:
            return stale.pop(0) if stale else super().next_piece()

    follower = stage.new_follower()
    reader = Late(stage.log, follower)

    async def read_from(partition: int, offset: int) -> None:
        sought.append(offset)

    sought: list[int] = []
    stage.log.read_from = read_from  # type: ignore[method-assign]

    async def seek_at_last() -> None:
        await until(lambda: not stale)
        reader.at = 0

    async with running(follower.run, reader.run, seek_at_last):
        await stage.caught_up()
    assert set(sought) == {0}
    assert await stage.archived() == list(range(30))


async def test_the_record_below_the_mark_is_looked_at_whenever_it_comes() -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 5)
    async with stage.following():
        await stage.caught_up()
    stage.log.entries.clear()
    for _ in range(9):
        stage.log.append(make_record(0, "a"), b"writer-9")
    follower = stage.new_follower()
    async with running(follower.run):
        await stage.loaded(follower)
        reader = Reader(stage.log, follower)
        # What was on its way already does not have it; what comes then begins below.
        await follower.deliver(stage.log.entries[7:])
        await until(lambda: stage.log.seeks)
        assert reader.at == 4
        await follower.deliver(stage.log.entries[2:])
        await until(lambda: stage.failed)
    assert "at 4 stands" in str(stage.failed[0])
