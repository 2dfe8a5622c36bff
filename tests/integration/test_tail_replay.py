"""``tail`` and ``replay``: the log on a real Kafka, a real broker, archives and files."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.broker import RunningBroker, free_ports
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import produce
from tests.support.log_tools import Log, Target, said, told, until_archived
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import ConnectOptions, Peer, Publish
from tests.support.operator_tools import WITHIN_S, begin_tool, run_tool

from monstermq.log_scan import stretch_of
from monstermq.moments import Moment
from monstermq.sources import LogSource
from monstermq_shared.bus.facts import Ack, Marker
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.kafka.bus import open_kafka_bus
from monstermq_shared.config import load_config
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.records import (
    Record,
    StampedRecord,
    format_timestamp,
)
from monstermq_shared.replays import REPLAYED

pytestmark = pytest.mark.integration


def write_config(path: Path, servers: str, topic: str) -> None:
    path.write_text(
        f"Kafka: {{Servers: '{servers}', Bus: {{Enabled: true, Topic: {topic}, "
        "Partitions: 3}}\nSessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
    )


async def opened_log(path: Path, servers: str, topic: str) -> Log:
    """Return a log whose configuration is this file; closing it is up to the caller."""
    write_config(path, servers, topic)
    bus = await open_kafka_bus(KafkaSettings.from_config(load_config(path, {}).config))
    return Log(path, bus, servers, topic)


@pytest.fixture
async def log(kafka_server: KafkaServer, kafka_topic: str, tmp_path: Path) -> AsyncIterator[Log]:
    log = await opened_log(tmp_path / "log.yaml", kafka_server.address(), kafka_topic)
    yield log
    await log.bus.close()


KEPT = """
ArchiveGroups:
  - {Name: All, TopicFilter: ["#"], LastValType: NONE, ArchiveType: SQLITE}
MaxMessageSizeKb: 2048
"""


@pytest.fixture(scope="module")
def shared_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    process = RunningBroker(tmp_path_factory.mktemp("target"))
    process.start(KEPT)
    yield Target(process)
    process.close()


@pytest.fixture
def target(shared_target: Target) -> Target:
    """The same for all tests of this module: topics are those of the test."""
    if not shared_target.process.is_running:
        shared_target.process.start(KEPT)
    return shared_target


# -- tail ----------------------------------------------------------------------------------------


async def test_the_log_is_shown_in_the_order_of_time(log: Log) -> None:
    records = await log.fill(300)
    lines = await log.tail("--from", "beginning")
    assert said(lines) == told(records)
    assert lines[0]["timestamp"] == format_timestamp(log.begin_ms)
    assert {line["position"].split(":")[0] for line in lines} == {"0", "2"}


async def test_a_filter_a_time_and_a_limit_leave_others_out(log: Log) -> None:
    records = await log.fill(100)
    await log.append(log.message("other", b"x", 10))
    since = format_timestamp(log.begin_ms + 20)
    lines = await log.tail("plant/#", "--from", since, "--limit", "30")
    assert said(lines) == told(records[20:50])
    assert await log.tail("#", "--from", "-10s") == []
    assert len(await log.tail("plant/+", "--from", "-10m")) == 100


async def test_a_position_begins_there_and_elsewhere_at_its_time(log: Log) -> None:
    records = await log.fill(50)
    everything = await log.tail("--from", "beginning")
    position = everything[20]["position"]
    assert said(await log.tail("--from", position)) == told(records[20:])


async def test_positions_that_are_not_there_are_refused(log: Log) -> None:
    await log.fill(5)
    code, sentence = await log.refusal("tail", "--from", "0:99999")
    assert code == ExitCode.CONFIG
    assert "position 0:99999 is not there yet: the partition's next record will be 0:" in sentence
    code, sentence = await log.refusal("tail", "--from", "7:0")
    assert "the log has the partitions 0 to 2" in sentence
    partition = log.bus.messages.partition_of("plant/0")
    await log.cut(partition, (await log.bus.messages.end_positions())[partition])
    code, sentence = await log.refusal("tail", "--from", f"{partition}:0")
    assert "what stood there is deleted" in sentence


async def test_people_see_lines_that_nobody_can_forge(log: Log) -> None:
    await log.append(
        log.message("a", b"plain", 0),
        log.message("a", b"two\nlines\x1b[2J", 1),
        log.message("a", b"\xff\x00", 2),
        log.message("a", b'{"a":\n  [1, 2]}', 3),
    )
    _, lines = await log.run("tail", "--from", "beginning", "--to", "now")
    assert [line.split("1   a", 1)[-1].strip() for line in lines] == [
        "plain",
        "two\\nlines\\x1b[2J",
        "ff00",
        '{"a":\\n  [1, 2]}',
    ]
    _, lines = await log.run("tail", "--from", "beginning", "--to", "now", "--payload", "json")
    assert lines[3].endswith('  {"a":[1,2]}')


async def test_control_facts_are_shown_when_asked_for(log: Log) -> None:
    await log.state(1, Ack(client_id="c", offsets=(1,)), Kind.ACKS)
    assert await log.tail("--from", "beginning") == []
    lines = await log.tail("--from", "beginning", "--control")
    facts = [json.loads(line["control"])["facts"] for line in lines]
    assert facts[0] == [{"f": "ack", "c": "c", "os": [1]}]


async def test_what_is_no_record_is_noted_and_what_is_fenced_does_not_count(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    await produce(log.servers, log.topic, {"key": b"a", "value": b"not ours"})
    partition = log.bus.messages.partition_of("q2")
    await log.state(partition, Marker(client_id="c", epoch=9, incarnation=1), Kind.CONTROL)
    for n, epoch in enumerate([9, 5]):
        record = Record("q2", b"%d" % epoch, 2, False, "c", log.begin_ms + n, 0)
        await log.append(StampedRecord(record, 1, epoch))
    assert said(await log.tail("--from", "beginning")) == [("q2", "9")]
    assert "1 records are none of MonsterMQ's" in capsys.readouterr().err


async def test_what_comes_is_shown_as_it_comes(log: Log, tmp_path: Path) -> None:
    process = begin_tool(
        "tail", "new/#", "--json", "-config", str(log.config), errors=tmp_path / "e"
    )
    with process:
        assert process.stdout is not None
        reading = asyncio.create_task(asyncio.to_thread(process.stdout.readline))
        number = 0
        async with asyncio.timeout(WITHIN_S):
            # Nothing says when it has begun to read.
            while not reading.done():
                await log.append(log.message("new/a", b"%d" % number, number))
                number += 1
                await asyncio.wait([reading], timeout=0.05)
        assert json.loads(reading.result())["topic"] == "new/a"
        process.terminate()
        assert process.wait(WITHIN_S) == ExitCode.OK


async def test_a_kafka_that_dies_is_waited_for(
    own_kafka: KafkaServer, kafka_topic: str, tmp_path: Path
) -> None:
    servers = own_kafka.address()
    log = await opened_log(tmp_path / "own.yaml", servers, kafka_topic)
    await log.append(log.message("old/a", b"before", 0))
    command = ("tail", "old/#", "--from", "beginning", "--json", "-config", str(log.config))
    with begin_tool(*command, errors=tmp_path / "errors") as process:
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        own_kafka.kill()
        await asyncio.to_thread(own_kafka.restart)
        await log.append(log.message("old/a", b"behind", 1))
        second = await asyncio.to_thread(process.stdout.readline)
        assert [json.loads(line)["payload"] for line in (first, second)] == ["before", "behind"]
        own_kafka.kill()
        process.terminate()
        assert await asyncio.to_thread(process.wait, WITHIN_S) == ExitCode.OK
    for asked in (("tail",), ("replay", "#", "--from", "-1m")):
        code, sentence = await log.refusal(*asked)
        assert (code, servers in sentence) == (ExitCode.BUS_UNREACHABLE, True)
    await log.bus.close()


async def test_tail_goes_on_behind_what_was_deleted(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    records = await log.fill(60)
    bus = log.bus.messages
    stretch = await stretch_of(bus, Moment(0), None)
    partition = bus.partition_of("plant/0")
    await log.cut(partition, stretch.ends[partition] - 1)
    lines = await log.tail("--from", "beginning")
    assert 0 < len(lines) < len(records)
    # What a replay was to send must not be left out in silence.
    with pytest.raises(StartupError, match=r"Kafka.Bus.RetentionHours .* --from"):
        async for _ in LogSource(bus, stretch, ["#"]).records(lambda _: None):
            pass
    assert capsys.readouterr().err == ""


async def test_the_internal_bus_is_watched_by_mqtt(target: Target, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    process = begin_tool("tail", "live/#", "--json", "-config", target.config, errors=errors)
    publisher = await Peer.open(target.process.tcp_port)
    await publisher.connect("publisher", ConnectOptions())
    with process:
        assert process.stdout is not None
        reading = asyncio.create_task(asyncio.to_thread(process.stdout.readline))
        async with asyncio.timeout(WITHIN_S):
            while not reading.done():
                await publisher.send(encode_publish("live/a", b"\xff1"))
                await asyncio.wait([reading], timeout=0.05)
        line = json.loads(reading.result())
        assert (line["topic"], line["payloadBase64"], line["qos"]) == ("live/a", "/zE=", 0)
        process.terminate()
        assert process.wait(WITHIN_S) == ExitCode.OK
    await publisher.disconnect()
    assert "by MQTT: who published is not told" in errors.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tail", "--from", "-10m"], "the internal bus keeps no past"),
        (["tail", "--control"], "shows no control facts"),
        (["tail", "--archive", "Nothing"], "no archive group 'Nothing'; the configuration has All"),
        (["tail", "--archive", "All", "--from", "1:2"], "an archive group has no positions"),
        (["tail", "--archive", "All", "--from", "now", "--to", "-1m"], "is not later than --from"),
        (["tail", "a/#/b"], "+ stands for one level"),
        (["replay", "#", "--from", "-10m"], "name an archive group with --archive NAME"),
        (["replay", "#", "--to", "now"], "say --from, too"),
        (["replay", "f", "--into", "http://x"], "is written mqtt://host:1883"),
        (["replay", "f", "--topic-prefix", "a/#"], "--topic-prefix: "),
    ],
)
def test_what_cannot_be_is_refused(target: Target, arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run_tool(*arguments, "-config", target.config)
    assert sentence in str(refused.value)


# -- replay --------------------------------------------------------------------------------------


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
    records = await log.fill(40, "break")
    command = (
        *("replay", "break/#", "--from", "beginning", "--into", target.url, "--archive-again"),
        *("--speed", "0.002", "-config", str(log.config)),
    )
    errors = tmp_path / "errors"
    with begin_tool(*command, errors=errors) as process:
        await until_archived(target, "break/#", 5)
        process.terminate()
        assert process.wait(WITHIN_S) == ExitCode.INTERRUPTED
    sentence = errors.read_text()
    assert " of 40 messages have arrived; the same command with --from 1970-" in sentence
    words = sentence.split("the same command with ")[1].split(" goes on there")[0].split()
    code, _ = await log.run(
        *("replay", "break/#", "--into", target.url, "--archive-again", "--as-fast-as-possible"),
        *words,
    )
    assert code == ExitCode.OK
    assert sorted(said(await target.archived("break/#"))) == sorted(told(records))


async def test_a_broker_that_dies_gets_everything_in_the_end(
    log: Log, target: Target, tmp_path: Path
) -> None:
    records = await log.fill(60, "dies")
    command = (
        *("replay", "dies/#", "--from", "beginning", "--into", target.url, "--archive-again"),
        *("--speed", "0.01", "-config", str(log.config)),
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


async def test_a_message_that_the_broker_does_not_take_is_named(log: Log, target: Target) -> None:
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
    arrived = [line["payload"] for line in await target.archived("much/#")]
    assert list(dict.fromkeys(arrived)) == [str(n) for n in range(9)]


async def test_who_cannot_be_reached_or_read_is_told(log: Log, tmp_path: Path) -> None:
    await log.fill(1)
    (port,) = free_ports(1)
    command: tuple[str, ...]
    command = ("replay", "#", "--from", "beginning", "--into", f"mqtt://localhost:{port}")
    code, sentence = await log.refusal(*command)
    assert (code, "cannot be reached" in sentence) == (ExitCode.FAILURE, True)
    code, sentence = await log.refusal("replay", str(tmp_path / "none"))
    assert "to replay from the log, say from when" in sentence
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"topic": "a"}\n')
    code, sentence = await log.refusal("replay", str(bad))
    assert f"{bad}, line 1: not a bus record" in sentence


async def test_output_that_nobody_reads_ends_it(log: Log, tmp_path: Path) -> None:
    command = ("tail", "--from", "beginning", "--to", "now", "--json", "-config", str(log.config))
    with begin_tool(*command, errors=tmp_path / "errors") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert await asyncio.to_thread(process.wait, WITHIN_S) == ExitCode.OK
