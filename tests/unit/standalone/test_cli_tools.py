"""What ``tail`` and ``replay`` are asked for."""

import pytest

from monstermq.cli import parse_arguments
from monstermq.invocations import Replay, Tail
from monstermq.moments import LogPosition, Moment
from monstermq.payload_format import PayloadFormat
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import ConfigError


def tail(*arguments: str) -> Tail:
    invocation = parse_arguments(["tail", *arguments])
    assert isinstance(invocation, Tail)
    return invocation


def test_tail_shows_everything_that_comes() -> None:
    assert tail() == Tail(config=None)


@pytest.mark.parametrize("joint", [" ", "="])
@pytest.mark.parametrize("dash", ["-", "--"])
def test_a_time_ago_is_no_option(dash: str, joint: str) -> None:
    before_ms = SystemClock().wall_ms()
    invocation = tail("a/#", *f"{dash}from{joint}-10m {dash}to{joint}-1m".split(" "))
    after_ms = SystemClock().wall_ms()
    assert isinstance(invocation.begin, Moment)
    assert invocation.until_ms is not None
    assert before_ms - 600_000 <= invocation.begin.time_ms <= after_ms - 600_000
    assert before_ms - 60_000 <= invocation.until_ms <= after_ms - 60_000


def test_where_to_begin_is_a_time_a_position_or_the_beginning() -> None:
    assert tail("--from", "2026-01-15T10:30:00.5Z").begin == Moment(1768473000500)
    assert tail("--from", "3:17").begin == LogPosition(3, 17)
    assert tail("--from", "beginning").begin == Moment(0)


def test_how_it_is_shown() -> None:
    invocation = tail("--payload", "hex", "--control", "-limit", "7", "-archive", "A")
    assert invocation == Tail(
        config=None, payload_format=PayloadFormat.HEX, control=True, limit=7, archive="A"
    )
    assert tail("--json", "--qos", "1") == Tail(config=None, as_json=True, qos=1)
    with pytest.raises(ConfigError, match="--payload is for people"):
        tail("--json", "--payload", "hex")


def test_replay_takes_all_that_it_offers() -> None:
    arguments = "replay f --as-fast-as-possible --into mqtt://h --topic-prefix p/ --dry-run --qos 1"
    arguments += " --retain no --archive-again --with-replays --skip 5 --patience 0.5 --json"
    assert parse_arguments(arguments.split()) == Replay(
        config=None,
        what="f",
        speed=None,
        into="mqtt://h",
        topic_prefix="p/",
        dry_run=True,
        qos=1,
        retain=False,
        archive_again=True,
        with_replays=True,
        skip=5,
        patience_s=0.5,
        as_json=True,
    )
    begun = parse_arguments(
        ["replay", "#", "--from", "1:2", "--speed", "10", "--continue", "0:4,1:17"]
    )
    assert begun == Replay(
        config=None, what="#", begin=LogPosition(1, 2), speed=10.0, positions={0: 4, 1: 17}
    )


def test_one_cannot_have_a_speed_and_none() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        parse_arguments(["replay", "file", "--speed", "2", "--as-fast-as-possible"])


@pytest.mark.parametrize("positions", ["", "0", "0:1,", "0:1,0:2", "-1:2", "0:1 ,1:2"])
def test_positions_to_go_on_at_are_written_in_one_way(positions: str) -> None:
    with pytest.raises(ConfigError, match="positions are written 0:17,1:4"):
        parse_arguments(["replay", "#", "--from", "-1m", f"--continue={positions}"])
