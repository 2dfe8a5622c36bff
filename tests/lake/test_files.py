"""What shells and databases make of the bus by the document's commands is what was published.

Each tool writes its table to a file, which a reader that belongs to none of them compares with what
the MQTT clients have published, byte by byte, and with the times that Kafka has.
"""

import json
import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyarrow import parquet
from tests.lake.document import SERVERS, TOPIC, block, blocks
from tests.lake.filled_bus import FilledBus
from tests.lake.rows import expected_of, rows_in
from tests.support.repository import ROOT

BOUND_S = 120.0
CONSOLE = "Kafka's console consumer and jq"


def run_shell(command: str, bus: FilledBus, folder: Path) -> str:
    """Run a command of the document on the filled bus; return what it prints."""
    typed = command.replace(SERVERS, bus.servers).replace(TOPIC, bus.topic)
    path = f"{ROOT / 'scripts'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", typed],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def lake(bus: FilledBus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that kcat has written; one message stands there twice."""
    folder = tmp_path_factory.mktemp("lake")
    for command in blocks("kcat", "sh"):
        run_shell(command, bus, folder)
    exported = folder / "messages.ndjson"
    lines = exported.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(bus.messages)
    # As after the death of one of Kafka's servers.
    exported.write_bytes(b"".join([*lines, lines[0]]))
    return folder


# -- lines ---------------------------------------------------------------------------------------


def test_the_console_consumer_and_jq_show_every_message_and_no_note(
    bus: FilledBus, tmp_path: Path
) -> None:
    every, counted = (
        # It waits for more, and how long a busy machine takes to begin nobody knows.
        run_shell(
            re.sub(
                "--from-beginning( --timeout-ms [0-9]+)?",
                f"--from-beginning --max-messages {len(bus.records)}",
                command,
            ),
            bus,
            tmp_path,
        )
        for command in blocks(CONSOLE, "sh")
    )
    shown = [json.loads(text) for text in every.replace("\n}\n", "\n}\0").split("\0") if text]
    assert Counter(one["id"] for one in shown) == Counter(row.uuid for row in bus.messages)
    topics = [line.strip().split(" ", 1) for line in counted.splitlines()]
    assert {topic: int(count) for count, topic in topics} == Counter(
        row.topic for row in bus.messages
    )


def test_kcat_leaves_notes_and_strangers_out_by_their_headers(
    bus: FilledBus, lake: Path, tmp_path: Path
) -> None:
    exported = (lake / "messages.ndjson").read_bytes().splitlines()
    assert {json.loads(line)["id"] for line in exported} == {row.uuid for row in bus.messages}
    hour = (lake / "hour.ndjson").read_bytes().splitlines()
    assert sorted(hour) == sorted(exported[:-1])

    (program,) = {
        found for command in blocks("kcat", "sh") for found in re.findall("jq -c '(.*)'", command)
    }
    envelopes: list[dict[str, Any]] = [
        {"headers": ["m", "?", "monstermq-control", None], "payload": '"a note"'},
        {"headers": ["m", "?"], "payload": '"a message"'},
        {"headers": ["other", "m"], "payload": "garbage"},
        {"payload": "garbage"},
    ]
    given = "\n".join(map(json.dumps, envelopes))
    (tmp_path / "envelopes").write_text(given, encoding="utf-8")
    assert run_shell(f"jq -c '{program}' envelopes", bus, tmp_path) == '"a message"\n'


# -- tables --------------------------------------------------------------------------------------


def test_duckdb_has_every_message_and_the_average_per_room_and_minute(
    bus: FilledBus, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lake)
    make_table, ask = blocks("DuckDB", "sql")
    with duckdb.connect() as database:
        database.execute(make_table)
        database.execute(f"COPY ({ask.rstrip().rstrip(';')}) TO 'rooms.parquet'")
    answer = parquet.read_table(lake / "rooms.parquet").to_pylist()
    assert rows_in(lake / "duckdb.parquet") == expected_of(bus.messages)

    values: dict[tuple[str, datetime], list[float]] = {}
    for row in bus.messages:
        if row.topic.startswith("rooms/"):
            minute = datetime.fromtimestamp(row.time_ms // 60_000 * 60, UTC)
            temperature = json.loads(row.payload)["temperature"]
            values.setdefault((row.topic.split("/")[1], minute), []).append(temperature)
    assert answer == [
        {
            "room": room,
            "minute": minute,
            "temperature": pytest.approx(statistics.fmean(values[room, minute])),
            "messages": len(values[room, minute]),
        }
        for room, minute in sorted(values)
    ]


@pytest.mark.parametrize("section", ["Polars", "chdb"])
def test_a_library_of_python_has_every_message(bus: FilledBus, lake: Path, section: str) -> None:
    subprocess.run(
        [sys.executable, "-c", block(section, "python")], cwd=lake, timeout=BOUND_S, check=True
    )
    assert rows_in(lake / f"{section.lower()}.parquet") == expected_of(bus.messages)
