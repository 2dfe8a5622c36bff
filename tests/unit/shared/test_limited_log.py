"""What peers can provoke is logged at a bounded rate."""

import logging
from collections.abc import Iterator

import pytest

from monstermq_shared.operation.limited_log import LimitedLog
from monstermq_shared.operation.logging import TextFormatter


class Lines(logging.Handler):
    """Keeps what is logged, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(TextFormatter().format(record).split(" ", 3)[3])


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("monstermq.limited")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def limited() -> LimitedLog:
    return LimitedLog(logging.getLogger("monstermq.limited"), interval_s=10)


def test_a_flood_is_one_line_per_interval_with_its_count(limited: LimitedLog, lines: Lines) -> None:
    for tenth in range(105):
        limited.log("malformed", tenth / 10, logging.WARNING, "malformed", {"peer": "p"})
    assert lines.lines == ["malformed peer=p", "malformed peer=p suppressed=99"]
    assert limited.suppressed == 103


def test_kinds_of_events_do_not_hush_each_other(limited: LimitedLog, lines: Lines) -> None:
    assert limited.log("a", 0, logging.INFO, "first")
    assert limited.log("b", 0, logging.INFO, "second")
    assert not limited.log("a", 9.9, logging.INFO, "third")
    assert lines.lines == ["first", "second"]


def test_a_percent_sign_in_the_message_is_a_percent_sign(limited: LimitedLog, lines: Lines) -> None:
    limited.log("a", 0, logging.INFO, "100%s")
    assert lines.lines == ["100%s"]


def test_keys_without_end_are_one_key(limited: LimitedLog, lines: Lines) -> None:
    for number in range(10_000):
        limited.log(f"client {number}", 0, logging.INFO, "line")
    assert len(lines.lines) == LimitedLog.KEYS_MAX + 1
    assert limited.suppressed == 10_000 - LimitedLog.KEYS_MAX - 1


def test_a_flood_of_keys_hushes_nobody_once_it_is_over(limited: LimitedLog, lines: Lines) -> None:
    for number in range(10_000):
        limited.log(f"client {number}", 0, logging.INFO, "line")
    lines.lines.clear()
    assert limited.log("a", 10, logging.INFO, "first")
    assert limited.log("b", 10, logging.INFO, "second")
    assert lines.lines == ["first", "second"]
    assert len(limited._next_s) == 2
