"""``tail``: the log on a real Kafka, a real broker, archives."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import produce
from tests.support.kafka_tools import write_in_transactions
from tests.support.log_tools import Log, Target, opened_log, said, told
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import ConnectOptions, Peer
from tests.support.operator_tools import WITHIN_S, begin_tool, run_tool

from monstermq.moments import Moment
from monstermq.sources import LogSource
from monstermq.stretch import stretch_of
from monstermq_shared.bus.facts import Ack, Marker
from monstermq_shared.bus.header import Kind
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import (
    Record,
    StampedRecord,
    format_timestamp,
)

pytestmark = pytest.mark.integration


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


async def test_a_position_has_all_that_stands_behind_it(log: Log) -> None:
    # Of two edges, whose clocks differ.
    await log.append(log.message("late/a", b"1", 10), log.message("late/a", b"2", 9))
    (first, _) = await log.tail("late/#", "--from", "beginning")
    assert [line["payload"] for line in await log.tail("--from", first["position"])] == ["1", "2"]


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


async def test_an_end_that_is_still_to_come_is_waited_for(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monstermq.tailing.SETTLE_S", 0.5)
    await log.append(log.message("end/a", b"past", 0))
    until_ms = SystemClock().wall_ms() + 4_000
    until = format_timestamp(until_ms)
    reading = asyncio.create_task(
        log.run("tail", "end/#", "--from", "beginning", "--to", until, "--json")
    )
    number = 0
    while not reading.done():
        for at_ms in (until_ms - 1 - log.begin_ms, until_ms - log.begin_ms):
            await log.append(log.message("end/a", b"%d" % number, at_ms))
            number += 1
        await asyncio.wait([reading], timeout=0.2)
    code, lines = reading.result()
    shown = [json.loads(line)["payload"] for line in lines]
    assert (code, shown[0]) == (ExitCode.OK, "past")
    # Every other one is of the time at which to end, and is not before it.
    assert len(shown) > 1
    assert shown[1:] == [str(n) for n in range(0, 2 * len(shown) - 2, 2)]


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
    with pytest.raises(StartupError, match="RetentionHours has passed over"):
        async for _ in LogSource(bus, stretch, ["#"]).records(lambda _: None):
            pass
    assert capsys.readouterr().err == ""


async def test_a_transaction_of_a_stranger_leaves_nothing_out(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    records = await log.fill(30)
    partition = log.bus.messages.partition_of("plant/0")
    await write_in_transactions(log.servers, log.topic, partition)
    await write_in_transactions(log.servers, log.topic, partition)
    later = log.message("plant/0", b"later", 40)
    await log.append(later)
    # Where nothing of ours stands behind it, too.
    await write_in_transactions(log.servers, log.topic, partition)
    assert said(await log.tail("--from", "beginning")) == told([*records, later])
    assert [line for line in capsys.readouterr().err.splitlines() if line] == [
        "6 records are none of MonsterMQ's, or of a later release: see monstermq quarantine list"
    ]
    bus = log.bus.messages
    source = LogSource(bus, await stretch_of(bus, Moment(0), None), ["#"])
    sent = [record async for some in source.records(lambda _: None) for record, _ in some]
    assert [record.payload for record in sent] == [at.payload for at in (*records, later)]


def test_the_internal_bus_is_watched_until_an_end(target: Target) -> None:
    until = format_timestamp(SystemClock().wall_ms() + 5_000)
    code, lines = run_tool("tail", "end/#", "--to", until, "--json", "-config", target.config)
    assert (code, lines) == (ExitCode.OK, [])


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
        (["tail", "--to", "-1m"], "--to is a time that has been"),
        (["tail", "--archive", "All", "--qos", "1"], "--qos belongs to what is seen by MQTT"),
        (["tail", "a/#/b"], "+ stands for one level"),
        (["replay", "#", "--from", "-10m"], "name an archive group with --archive NAME"),
        (["replay", "#", "--to", "now"], "say --from, too"),
        (["replay", "#", "--from", "-10m", "--skip", "3"], "is gone on with by --continue"),
        (["replay", "f", "--continue", "0:1"], "a file is gone on with by --skip N"),
        (["replay", "f", "--into", "http://x"], "is written mqtt://host:1883"),
        (["replay", "f", "--topic-prefix", "a/#"], "--topic-prefix: "),
    ],
)
def test_what_cannot_be_is_refused(target: Target, arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run_tool(*arguments, "-config", target.config)
    assert sentence in str(refused.value)


async def test_output_that_nobody_reads_ends_it(log: Log, tmp_path: Path) -> None:
    command = ("tail", "--from", "beginning", "--to", "now", "--json", "-config", str(log.config))
    with begin_tool(*command, errors=tmp_path / "errors") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert await asyncio.to_thread(process.wait, WITHIN_S) == ExitCode.OK
