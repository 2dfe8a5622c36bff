"""A log line is one line, whatever a peer put into it."""

import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.config import LogFormat
from monstermq_shared.operation.logging import (
    TEXT_MAX,
    JsonFormatter,
    TextFormatter,
    configure_logging,
    escape,
)

LIBRARIES = ("aiosqlite", "asyncio", "uvicorn", "websockets")


@pytest.fixture
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("monstermq.test").makeRecord(
        "monstermq.test", logging.INFO, "test.py", 1, message, args, None, extra=extra
    )


@pytest.mark.usefixtures("_as_before")
def test_text_goes_to_standard_error_with_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(logging.INFO, LogFormat.TEXT)
    logger = logging.getLogger("monstermq.test")
    logger.info("listening on %s", "TCP", extra={"port": 1883, "where": "all of them"})
    logger.debug("not shown")
    line = capsys.readouterr().err
    when, rest = line.split(" ", 1)
    assert when.endswith("Z")
    assert len(when) == len("2026-01-15T10:30:00.123Z")
    assert rest == 'INFO monstermq.test listening on TCP port=1883 where="all of them"\n'


@pytest.mark.usefixtures("_as_before")
def test_json_goes_to_standard_error_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(logging.INFO, LogFormat.JSON)
    logging.getLogger("monstermq.test").warning("slow", extra={"client_id": "a\nb", "held_s": 1.5})
    members = json.loads(capsys.readouterr().err)
    assert members.pop("time").endswith("Z")
    assert members == {
        "level": "WARNING",
        "logger": "monstermq.test",
        "message": "slow",
        "client_id": "a\\nb",
        "held_s": 1.5,
    }


@pytest.mark.usefixtures("_as_before")
def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(logging.INFO, LogFormat.TEXT)
    configure_logging(logging.WARNING, LogFormat.TEXT)
    logging.getLogger("monstermq.test").info("quiet")
    logging.getLogger("monstermq.test").warning("loud")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_never_write_what_they_are_given(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(logging.NOTSET + 1, LogFormat.TEXT)
    logging.getLogger(library).debug("executing INSERT with %s", "secret")
    logging.getLogger(library + ".client").info("> BINARY %s", "secret")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize("key", ["password", "payload", "Password"])
def test_secrets_are_masked(formatter: logging.Formatter, key: str) -> None:
    line = formatter.format(record("connect", **{key: b"hunter2"}))
    assert "hunter2" not in line
    assert "***" in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@given(hostile=st.text())
def test_nothing_a_peer_sends_begins_another_line(
    formatter: logging.Formatter, hostile: str
) -> None:
    line = formatter.format(record("client %s left", hostile, client_id=hostile))
    assert line.isprintable()


@given(st.text())
def test_escaped_text_is_printable_and_stays_so(text: str) -> None:
    escaped = escape(text)
    assert escaped.isprintable()
    assert escape(escaped) == escaped


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028", r"\u2028"),
        ("\udc80", r"\udc80"),
        ("Zürich 東京", "Zürich 東京"),
    ],
)
def test_what_cannot_be_printed_is_shown_as_its_escape(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown


def test_long_text_is_cut_off_and_said_to_be() -> None:
    line = TextFormatter().format(record("topic", topic="x" * 65_535))
    assert len(line) < TEXT_MAX + 200
    assert "(65535 characters)" in line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", 'k=""'),
        ('say "hi"', r'k="say \"hi\""'),
        ("a=b", 'k="a=b"'),
        (None, "k=None"),
        (True, "k=True"),
        (2**70, f"k={2**70}"),
    ],
)
def test_a_value_in_text_shows_where_it_ends(value: object, shown: str) -> None:
    assert TextFormatter().format(record("m", k=value)).endswith(" m " + shown)


@pytest.mark.parametrize("value", [2**70, float("nan"), b"\xff", "\udc80", object(), [1], None])
def test_any_value_becomes_json(value: object) -> None:
    assert "k" in json.loads(JsonFormatter().format(record("m", k=value)))


def test_an_extra_does_not_replace_what_every_object_has() -> None:
    members = json.loads(JsonFormatter().format(record("m", level="fake", time="fake")))
    assert members["level"] == "INFO"
    assert members["time"] != "fake"


def failed(message: str) -> logging.LogRecord:
    failure = record("it failed")
    error = ValueError(message)
    failure.exc_info = (ValueError, error, None)
    return failure


def test_a_traceback_cannot_pass_for_an_event() -> None:
    lines = TextFormatter().format(failed("a\n2026-01-15T10:30:00Z INFO forged")).split("\n")
    assert len(lines) > 1
    assert all(line.startswith("    ") for line in lines[1:])


def test_a_traceback_is_a_member_of_the_json_object() -> None:
    members = json.loads(JsonFormatter().format(failed("no")))
    assert members["exception"] == ["ValueError: no"]
