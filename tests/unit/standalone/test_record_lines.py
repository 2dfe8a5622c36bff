"""Lines that ``tail`` writes and ``replay`` reads again."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq.mqtt_link import address_of
from monstermq.payload_format import PayloadFormat
from monstermq.record_lines import json_line, records_in, shown, text_line
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.records import ControlRecord, Record

TIME_MS = 1768473000123


@given(payload=st.binary(max_size=200), topic=st.text(min_size=1, max_size=20))
def test_what_is_written_is_read_again(payload: bytes, topic: str) -> None:
    record = Record(topic, payload, 2, True, "c", TIME_MS, 1)
    file = io.BytesIO(json_line(record) + b"\n\n" + json_line(record))
    assert list(records_in(file, "f", 2**20)) == [record, _at(record, 3)]


def _at(record: Record, line: int) -> Record:
    return Record(record.topic, record.payload, 2, True, "c", TIME_MS, line)


@given(payload=st.binary(max_size=200), topic=st.text(min_size=1, max_size=20))
@pytest.mark.parametrize("payload_format", PayloadFormat)
def test_a_record_is_one_harmless_line(
    payload_format: PayloadFormat, payload: bytes, topic: str
) -> None:
    line = text_line(Record(topic, payload, 0, False, "c", TIME_MS, 1), "1:2", payload_format)
    assert line.isprintable()


def test_control_records_are_passed_over() -> None:
    control = ControlRecord("$SYS/bus/control", b"{}", TIME_MS, 0)
    assert list(records_in(io.BytesIO(json_line(control)), "f", 2**20)) == []


@pytest.mark.parametrize("line", [b"x", b"[]", b"{}", b"\xff", b'{"topic":"a"}'])
def test_a_line_that_is_no_record_is_named(line: bytes, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="f, line 2: not a bus record"):
        list(records_in(io.BytesIO(b"\n" + line), "f", 2**20))


def test_payload_formats() -> None:
    assert shown(b"\xc3\xa4", PayloadFormat.AUTO) == "\u00e4"
    assert shown(b"\xff", PayloadFormat.AUTO) == "ff"
    assert shown(b"\xff", PayloadFormat.TEXT) == "\ufffd"
    assert shown(b"\xff\x00", PayloadFormat.HEX) == "ff00"
    assert shown(b"\xff", PayloadFormat.BASE64) == "/w=="
    assert shown(b'{ "a" : 1 }', PayloadFormat.JSON) == '{"a":1}'
    assert shown(b"no JSON", PayloadFormat.JSON) == "no JSON"


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://h", "h", 1883, False),
        ("mqtts://h", "h", 8883, True),
        ("mqtt://u:p%40@[::1]:99/", "::1", 99, False),
    ],
)
def test_addresses(url: str, host: str, port: int, tls: bool) -> None:
    address = address_of(url)
    assert (address.host, address.port, address.tls) == (host, port, tls)
    assert "p@" not in address.text


@pytest.mark.parametrize("url", ["", "h", "http://h", "mqtt://", "mqtt://h:x", "mqtt://h/path"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="mqtt://host:1883"):
        address_of(url)
