"""``replay``: from the log on a real Kafka, from archives and files, to a real broker."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.broker import free_ports
from tests.support.log_tools import KEPT, Log, Target, said, told, until_archived
from tests.support.mqtt_peer import ConnectOptions, Peer, Publish
from tests.support.operator_tools import WITHIN_S, begin_tool, run_tool

from monstermq.moments import Moment
from monstermq.sources import archive_source
from monstermq_shared.bus.facts import Marker
from monstermq_shared.bus.header import Kind
from monstermq_shared.config import load_config
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import Record, StampedRecord, encode_record, format_timestamp
from monstermq_shared.replays import REPLAYED

pytestmark = pytest.mark.integration


async def test_the_log_is_played_again(log: Log, target: Target) -> None:
    records = await log.fill(2_000, "again")
    code, lines = await log.run(
        *("replay", "again/#", "--from", "beginning", "--into", target.url, "--archive-again"),
        *("--as-fast-as-possible", "--topic-prefix", "first/", "--json"),
    )
    assert code == ExitCode.OK
    plan, end = map(json.loads, lines)
    assert (plan["messages"], plan["topics"], plan["leftOut"]) == (2_000, 7, 0)
    assert plan["from"] == format_timestamp(log.begin_ms)
    assert plan["to"] == format_timestamp(log.begin_ms + 1_999)
    assert end["sent"] == 2_000
    archived = await target.archived("first/#")
    # The archive has them by time; within a topic that is the order of the log.
    assert sorted(said(archived)) == sorted(told(records, "first/"))
    of_one = [line["payload"] for line in archived if line["topic"] == "first/again/3"]
    assert of_one == [str(n) for n in range(3, 2_000, 7)]
    assert all(line["clientId"].startswith(REPLAYED) for line in archived)


async def test_a_dry_run_sends_nothing(log: Log) -> None:
    await log.fill(10)
    (port,) = free_ports(1)
    code, lines = await log.run(
        *("replay", "#", "--from", "beginning", "--dry-run", "--into", f"mqtt://localhost:{port}")
    )
    assert code == ExitCode.OK
    assert "10 messages (10 bytes) on 7 topics, from " in lines[0]
    assert lines[1] == f"to mqtt://localhost:{port}, at 1 times its speed: in 0.0 s"


async def test_archives_pass_over_a_replay_and_a_replay_of_one_is_noticed(
    log: Log, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    await log.append(
        log.message("mark/a", b"new", 0), log.message("mark/a", b"again", 1, f"{REPLAYED}1")
    )
    command = ("replay", "mark/#", "--from", "beginning", "--into", target.url)
    _, lines = await log.run(*command, "--json")
    assert json.loads(lines[0])["replayed"] == json.loads(lines[0])["leftOut"] == 1
    assert json.loads(lines[1])["sent"] == 1
    assert "1 of them were sent by a replay; they are left out" in capsys.readouterr().err
    assert await target.archived("mark/#") == []
    _, lines = await log.run(*command, "--with-replays", "--archive-again", "--json")
    assert json.loads(lines[1])["sent"] == 2
    assert len(await target.archived("mark/#")) == 2


async def test_qos_and_retain_flag_are_as_recorded_or_as_said(log: Log, target: Target) -> None:
    now = log.begin_ms
    await log.append(
        Record("flags/0", b"0", 0, True, "c", now, 0),
        Record("flags/2", b"2", 2, False, "c", now, 0),
    )
    command = ("replay", "flags/#", "--from", "beginning", "--into", target.url)
    watcher = await Peer.open(target.process.tcp_port)
    await watcher.connect("watcher", ConnectOptions())
    await watcher.subscribe(("one/#", 1))
    await log.run(*command, "--topic-prefix", "one/")
    await log.run(*command, "--topic-prefix", "one/", "--qos", "1", "--retain", "no")
    seen: list[tuple[str, int]] = []
    while len(seen) < 4:
        packet = await watcher.read_packet()
        assert isinstance(packet, Publish)
        seen.append((packet.topic, packet.qos))
    assert sorted(seen) == [
        ("one/flags/0", 0),
        ("one/flags/0", 1),
        ("one/flags/2", 1),
        ("one/flags/2", 1),
    ]
    late = await Peer.open(target.process.tcp_port)
    await late.connect("late", ConnectOptions())
    await late.subscribe(("one/#", 0))
    packet = await late.read_packet()
    assert isinstance(packet, Publish)
    assert (packet.topic, packet.retain) == ("one/flags/0", True)
    await watcher.disconnect()
    await late.disconnect()


async def test_a_file_is_played_again_with_large_payloads(
    log: Log, target: Target, tmp_path: Path
) -> None:
    large = b"x" * 1_500_000
    await log.append(log.message("file/a", large, 0), log.message("file/a", b"\xff", 1))
    _, lines = await log.run("tail", "file/#", "--from", "beginning", "--to", "now", "--json")
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text("\n".join([*lines, ""]))
    code, _ = await log.run("replay", str(recorded), "--into", target.url, "--archive-again")
    assert code == ExitCode.OK
    first, second = await target.archived("file/#")
    assert first["payload"].encode() == large
    assert second["payloadBase64"] == "/w=="
    # What is in an archive can be played again, too.
    code, lines = await asyncio.to_thread(
        run_tool,
        *("replay", "file/#", "--archive", "All", "--from", "beginning", "--with-replays"),
        *("--topic-prefix", "two/", "--archive-again", "--json", "-config", target.config),
    )
    assert [json.loads(line).get("sent") for line in lines] == [None, 2]
    assert len((await target.archived("two/#"))[0]["payload"]) == len(large)


async def test_a_break_of_ours_is_gone_on_with(log: Log, target: Target, tmp_path: Path) -> None:
    # Three of each millisecond, over all partitions.
    records = [log.message(f"break/{n % 7}", b"%d" % n, n // 3) for n in range(40)]
    await log.append(*records)
    command = (
        *("replay", "break/#", "--from", "beginning", "--into", target.url, "--archive-again"),
        *("--speed", "0.0005", "-config", str(log.config)),
    )
    errors = tmp_path / "errors"
    with begin_tool(*command, errors=errors) as process:
        await until_archived(target, "break/#", 7)
        process.terminate()
        assert process.wait(WITHIN_S) == ExitCode.INTERRUPTED
    sentence = errors.read_text()
    assert " of 40 messages have arrived; the same command with --from 1970-" in sentence
    words = sentence.split("the same command with ")[1].split(" goes on there")[0].split()
    # What was sent may be deleted meanwhile: nothing depends on how many there are before.
    for position in words[words.index("--continue") + 1].split(","):
        partition, offset = map(int, position.split(":"))
        await log.cut(partition, offset)
    code, _ = await log.run(
        *("replay", "break/#", "--into", target.url, "--archive-again", "--as-fast-as-possible"),
        *words,
    )
    assert code == ExitCode.OK
    assert sorted(said(await target.archived("break/#"))) == sorted(told(records))


async def test_what_retention_takes_between_two_calls_is_not_passed_over(
    log: Log, target: Target
) -> None:
    records = await log.fill(30, "between")
    messages = log.bus.messages
    partition = messages.partition_of("between/0")
    before = ",".join(f"{p}:{at}" for p, at in (await messages.first_positions()).items())
    await log.cut(partition, 3)
    command = (
        *("replay", "between/#", "--from", "beginning", "--as-fast-as-possible"),
        *("--into", target.url, "--archive-again", "--continue"),
    )
    code, sentence = await log.refusal(*command, before)
    assert code == ExitCode.FAILURE
    assert f"deleted what was to be sent next: {partition}:0 to {partition}:2;" in sentence
    left = sentence.split("--continue ")[1].split()[0]
    await log.run(*command, left)
    there = [at for at in records if messages.partition_of(at.topic) == partition]
    expected = [at for at in records if at not in there[:3]]
    assert sorted(said(await target.archived("between/#"))) == sorted(told(expected))


async def test_what_did_not_count_does_not_count_when_it_is_gone_on(log: Log) -> None:
    messages = log.bus.messages
    partition = messages.partition_of("fence/a")
    await log.state(partition, Marker(client_id="c", epoch=9, incarnation=1), Kind.CONTROL)
    for n, epoch in enumerate([9, 5, 9]):
        record = Record("fence/a", b"%d" % n, 2, False, "c", log.begin_ms + n, 0)
        await log.append(StampedRecord(record, 1, epoch))
    positions = dict(await messages.end_positions())
    positions[partition] -= 2  # behind the marker and the first of them
    text = ",".join(f"{each}:{at}" for each, at in positions.items())
    command = ("replay", "fence/#", "--from", "beginning", "--into", "mqtt://localhost:1")
    _, lines = await log.run(*command, "--continue", text, "--dry-run", "--json")
    assert json.loads(lines[0])["messages"] == 1


async def test_positions_to_go_on_at_are_those_of_all_partitions(log: Log) -> None:
    await log.fill(3)
    command = ("replay", "#", "--from", "beginning", "--into", "mqtt://localhost:1", "--continue")
    code, sentence = await log.refusal(*command, "0:0,1:0")
    assert (code, "partitions 0 to 2; give a position of each" in sentence) == (2, True)
    _, sentence = await log.refusal(*command, "0:99,1:0,2:0")
    assert "0:99 is not there yet: the partition's next record will be 0:" in sentence


async def test_a_log_that_does_not_go_back_so_far_is_noted(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    await log.fill(30, "back")
    partition = log.bus.messages.partition_of("back/0")
    await log.cut(partition, 2)
    since = format_timestamp(log.begin_ms)
    note = f"what stood before {partition}:2 is deleted (Kafka.Bus.RetentionHours)"
    await log.tail("--from", since)
    assert note in capsys.readouterr().err
    await log.run("replay", "#", "--from", since, "--dry-run", "--into", "mqtt://localhost:1")
    assert note in capsys.readouterr().err
    await log.tail("--from", format_timestamp(log.begin_ms + 29))
    await log.tail("--from", "beginning")
    assert note not in capsys.readouterr().err


async def test_a_broker_that_dies_gets_everything_in_the_end(
    log: Log, target: Target, tmp_path: Path
) -> None:
    records = await log.fill(60, "dies")
    command = (
        *("replay", "dies/#", "--from", "beginning", "--into", target.url, "--archive-again"),
        *("--speed", "0.004", "-config", str(log.config)),
    )
    errors = tmp_path / "errors"
    with begin_tool(*command, errors=errors) as process:
        await until_archived(target, "dies/#", 5)
        target.process.kill()
        await asyncio.to_thread(target.process.start, KEPT)
        assert await asyncio.to_thread(process.wait, WITHIN_S) == ExitCode.OK
    assert "has closed the connection; it is tried again" in errors.read_text()
    # At least once: what was on its way may have come twice.
    assert set(told(records)) == set(said(await target.archived("dies/#")))


async def test_a_message_that_the_broker_does_not_take_is_named(
    log: Log, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [log.message("much/a", b"%d" % n, n) for n in range(9)]
    records.insert(5, log.message("much/a", b"x" * 3_000_000, 5))
    path = log.config.parent / "much.jsonl"
    lines = [
        {
            "topic": at.topic,
            "payload": at.payload.decode(),
            "qos": 1,
            "retained": False,
            "clientId": "c",
            "timestamp": format_timestamp(at.timestamp_ms),
        }
        for at in records
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ("replay", str(path), "--into", target.url, "--archive-again")
    code, sentence = await log.refusal(*command)
    assert code == ExitCode.FAILURE
    assert "a message of 3000000 bytes on 'much/a'" in sentence
    assert "--skip 6 leaves it out" in sentence
    await log.run(*command, "--skip", "6")
    await log.run(*command, "--skip", "11")
    assert "--skip 11 leaves out all of them: nothing is sent" in capsys.readouterr().err
    arrived = [line["payload"] for line in await target.archived("much/#")]
    assert list(dict.fromkeys(arrived)) == [str(n) for n in range(9)]


async def test_who_cannot_be_reached_or_read_is_told(log: Log, tmp_path: Path) -> None:
    await log.fill(1)
    (port,) = free_ports(1)
    command: tuple[str, ...]
    command = ("replay", "#", "--from", "beginning", "--into", f"mqtt://localhost:{port}")
    code, sentence = await log.refusal(*command)
    assert code == ExitCode.FAILURE
    assert sentence.endswith("cannot be reached: Connection refused")
    code, sentence = await log.refusal("replay", str(tmp_path / "none"))
    assert "to replay from the log, say from when" in sentence
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"topic": "a"}\n')
    code, sentence = await log.refusal("replay", str(bad))
    assert f"{bad}, line 1: not a bus record" in sentence


def written(path: Path, records: list[Record]) -> Path:
    """Write a file as ``tail --json`` does."""
    path.write_bytes(b"".join(encode_record(record) + b"\n" for record in records))
    return path


async def test_a_file_that_is_cut_meanwhile_is_told(
    log: Log, target: Target, tmp_path: Path
) -> None:
    records = [log.message("cut/a", b"%d" % n, 0) for n in range(3)]
    # More than what is read at a time, in memory or from the disk.
    large = [log.message("cut/a", b"x" * 1_100_000, 50_000 + n) for n in range(3)]
    path = written(tmp_path / "cut.jsonl", records + large)
    command = ("replay", str(path), "--into", target.url, "--archive-again", "--speed", "5")
    errors = tmp_path / "errors"
    with begin_tool(*command, "-config", str(log.config), errors=errors) as process:
        await until_archived(target, "cut/#", 3)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - len(encode_record(large[2])) - 1)
        assert await asyncio.to_thread(process.wait, WITHIN_S) == ExitCode.FAILURE
    assert (
        "6 messages were there at the first look, and 5 when they were sent" in errors.read_text()
    )


async def test_what_is_read_once_only_is_refused(log: Log, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code, sentence = await log.refusal("replay", str(pipe))
    assert (code, "is no regular file" in sentence) == (ExitCode.FAILURE, True)


async def test_an_archive_that_loses_its_beginning_meanwhile_is_told(
    log: Log, target: Target
) -> None:
    path = written(log.config.parent / "gone.jsonl", [log.message("gone/a", b"1", 0)])
    await log.run("replay", str(path), "--into", target.url, "--archive-again")
    config = load_config(Path(target.config), {}).config
    await until_archived(target, "gone/#", 1)
    async with archive_source(config, "All", ["gone/#"], Moment(0), 2**42) as source:
        found = [past async for some in source.records(lambda _: None) for past in some]
        assert [record.payload for record, _ in found] == [b"1"]
        with closing(sqlite3.connect(target.process.directory / "monstermq.db")) as database:
            database.execute("DELETE FROM AllArchive WHERE topic = 'gone/a'")
            database.commit()
        with pytest.raises(StartupError, match="ArchiveRetention has passed over"):
            async for _ in source.records(lambda _: None):
                pass


async def test_an_archive_is_gone_on_with_by_time(log: Log, target: Target, tmp_path: Path) -> None:
    records = [log.message("group/a", b"%d" % n, 0) for n in range(9)]
    path = written(tmp_path / "group.jsonl", records)
    await log.run("replay", str(path), "--into", target.url, "--archive-again")
    await until_archived(target, "group/#", 9)
    command = (
        *("replay", "group/#", "--archive", "All", "--from", "beginning", "--with-replays"),
        *("--topic-prefix", "again/", "--archive-again", "--into", target.url),
        *("-config", target.config),
    )
    first = await target.archived("group/#")
    since = first[4]["timestamp"]
    count = sum(line["timestamp"] == since for line in first[:4])
    words = ["--from", since, "--skip", str(count)]
    await asyncio.to_thread(run_tool, *command, *words)
    again = [line["payload"] for line in await target.archived("again/#")]
    assert again == [line["payload"] for line in first[4:]]
