"""Topics of archives: how they are made, what is said of those that are there, who goes where."""

import pytest

from monstermq_shared.config import Kafka, KafkaArchive, PayloadFormat
from monstermq_shared.config.templates import Template
from monstermq_shared.errors import StoreError
from monstermq_shared.kafka.admin import FOR_EVER_MS, TopicFacts
from monstermq_shared.kafka.murmur2 import partition_of
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX, KafkaSettings
from monstermq_shared.records import Record
from monstermq_shared.stores.kafka import archives
from monstermq_shared.stores.kafka.archives import ArchiveTopic, Shape, Sorted
from monstermq_shared.stores.kafka.archives import KafkaArchive as Archive
from monstermq_shared.stores.kafka.topics import GroupTopic

DAY_MS = 86_400_000
SIZE_MAX = 1_000_000
LOG = "a log"


def a_topic(retention_ms: int | None = None) -> GroupTopic:
    return GroupTopic(
        name="sensors",
        store="sensorsArchive",
        retention_ms=retention_ms,
        record_size_max=SIZE_MAX,
    )


def configs_of(topic: GroupTopic) -> dict[str, str]:
    section = Kafka(archive=KafkaArchive(partitions=5, replication=2))
    spec = topic.spec(KafkaSettings(section=section, record_size_max=SIZE_MAX))
    assert (spec.name, spec.partitions, spec.replication) == ("sensors", 5, 2)
    return dict(spec.configs)


def warnings_of(topic: GroupTopic, **changed: str) -> list[str]:
    configs = {**configs_of(topic), **{k.replace("_", "."): v for k, v in changed.items()}}
    found = TopicFacts(name="sensors", partitions=5, replication=2, configs=configs)
    return list(topic.warnings(found))


def test_a_topic_keeps_records_for_ever_or_as_long_as_the_group_does() -> None:
    assert configs_of(a_topic())["retention.ms"] == "-1"
    kept = configs_of(a_topic(10 * DAY_MS))
    assert (kept["retention.ms"], kept["segment.ms"]) == (str(10 * DAY_MS), str(DAY_MS))
    assert configs_of(a_topic(60_000))["segment.ms"] == "600000"


def test_a_topic_refuses_no_record_for_its_time_or_size() -> None:
    configs = configs_of(a_topic())
    assert configs["message.timestamp.before.max.ms"] == str(FOR_EVER_MS)
    assert configs["message.timestamp.after.max.ms"] == str(FOR_EVER_MS)
    assert int(configs["max.message.bytes"]) > SIZE_MAX


def test_nothing_is_said_of_a_topic_that_we_made() -> None:
    assert warnings_of(a_topic()) == []
    assert warnings_of(a_topic(DAY_MS)) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max.message.bytes", "1000"),
        ("message.timestamp.before.max.ms", "900000"),
        ("min.insync.replicas", "3"),
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "LogAppendTime"),
        ("retention.ms", "1"),
        ("retention.ms", "-1"),
        ("retention.bytes", "1000"),
    ],
)
def test_what_loses_or_refuses_records_is_told(setting: str, value: str) -> None:
    (warning,) = warnings_of(a_topic(DAY_MS), **{setting: value})
    assert setting in warning


def test_a_topic_whose_settings_are_hidden_is_told() -> None:
    (warning,) = a_topic().warnings(facts())
    assert "DescribeConfigs" in warning


def test_values_that_are_no_numbers_are_passed_over() -> None:
    assert warnings_of(a_topic(), **{"retention.bytes": "many"}) == []


def a_record(topic: str, payload: bytes = b"") -> Record:
    return Record(topic, payload, 0, False, "c", 1_000, 0)


def facts(partitions: int = 5, **configs: str) -> TopicFacts:
    configs = {name.replace("_", "."): value for name, value in configs.items()}
    return TopicFacts(name="sensors", partitions=partitions, replication=1, configs=configs)


def test_batches_are_as_large_as_the_topic_takes() -> None:
    archive = ArchiveTopic(facts())
    assert archive.batch_size_max == BATCH_SIZE_MAX
    archive.halve()
    assert archive.batch_size_max == BATCH_SIZE_MAX // 2
    archive.learn(facts(max_message_bytes="1000"))
    assert archive.batch_size_max == 1_000
    archive.learn(facts(max_message_bytes="100000000"))
    assert archive.batch_size_max == BATCH_SIZE_MAX
    for _ in range(50):
        archive.halve()
    assert archive.batch_size_max == archives.BATCH_SIZE_MIN


def test_a_topic_that_has_other_partitions_now_is_written_to_those() -> None:
    archive, entries = Archive(a_topic(), facts()), Sorted()
    archive.sort([a_record(f"t/{n}") for n in range(100)], entries, LOG)
    assert not archive.learn({"sensors": facts()})
    assert archive.learn({"sensors": facts(1)})
    entries.clear()
    archive.sort([a_record(f"t/{n}") for n in range(100)], entries, LOG)
    assert {partition: len(of) for (_, partition), of in entries.items()} == {0: 100}


def test_a_topic_has_one_partition_and_keeps_its_order() -> None:
    archive, entries = Archive(a_topic(), facts()), Sorted()
    archive.sort([a_record(f"t/{n % 3}", str(n).encode()) for n in range(30)], entries, LOG)
    for (_, partition), of in entries.items():
        for time_ms, key, _, headers in of:
            assert time_ms == 1_000
            assert headers == [("monstermq-log", b"a log")]
            assert key is not None
            assert partition == partition_of(key, 5)
    payloads = [value for of in entries.values() for _, key, value, _ in of if key == b"t/0"]
    expected = [b'"payload":"%d"' % n for n in range(0, 30, 3)]
    assert all(text in value for text, value in zip(expected, payloads, strict=True))


def test_topics_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "PLACES_SIZE_MAX", 10_000)
    archive, entries = Archive(a_topic(), facts()), Sorted()
    archive.sort([a_record(f"t/{n}") for n in range(1_000)], entries, LOG)
    assert len(archive._places) < 30
    assert sum(map(len, entries.values())) == 1_000


async def test_history_is_refused_and_nothing_is_purged() -> None:
    archive = Archive(a_topic(), facts())
    with pytest.raises(StoreError, match="read the Kafka topic sensors"):
        await archive.history("t")
    assert await archive.purge(before_ms=0, limit=10) == 0


def placed(archive: Archive, *records: Record) -> list[tuple[str, bytes | None, bytes]]:
    """Return topic, key and value of records, as they are to stand in Kafka."""
    entries = Sorted()
    archive.sort(records, entries, LOG)
    return [(at.name, key, value) for (at, _), of in entries.items() for _, key, value, _ in of]


def by_template(names: str, topics_max: int = 10, **reserved: str) -> Archive:
    shape = Shape(names=Template.parse(names), topics_max=topics_max, reserved=reserved.values())
    return Archive(a_topic(), facts(), shape)


def admit(archive: Archive, *records: Record) -> list[str]:
    """Let it have the topics that it asks for; return their names."""
    missing = [topic.name for topic in archive.missing(records)]
    for name in missing:
        found = TopicFacts(name=name, partitions=1, replication=1, configs={})
        archive.admit(name, found)
    return missing


def test_raw_values_are_payloads_and_headers_say_the_rest() -> None:
    archive, entries = (
        Archive(a_topic(), facts(), Shape(payload_format=PayloadFormat.RAW)),
        Sorted(),
    )
    archive.sort([Record("a/b", b"\xff", 2, True, "me", 1_768_473_000_123, 0)], entries, LOG)
    ((entry,),) = entries.values()
    assert entry == (
        1_768_473_000_123,
        b"a/b",
        b"\xff",
        [
            ("mqtt.topic", b"a/b"),
            ("mqtt.qos", b"2"),
            ("mqtt.retained", b"true"),
            ("mqtt.clientId", b"me"),
            ("mqtt.timestamp", b"2026-01-15T10:30:00.123Z"),
            ("monstermq-log", b"a log"),
        ],
    )


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{1}/{2}", b"plant/hall"),
        ("{clientId}", b"c"),
        ("{4}", b""),
        ("x{topic}", b"xplant/hall/3"),
    ],
)
def test_keys_are_made_of_what_the_message_is(template: str, key: bytes) -> None:
    archive = Archive(a_topic(), facts(), Shape(key=Template.parse(template)))
    ((_, found, _),) = placed(archive, a_record("plant/hall/3"))
    assert found == key


@pytest.mark.parametrize(
    ("template", "topic", "name"),
    [
        ("plant.{2}", "a/hall/3", "plant.hall"),
        ("{topic}", "a/b c/ü", "a.b_c._"),
        ("plant.{9}", "a/b", "plant._"),
        ("by-{clientId}", "a", "by-c"),
    ],
)
def test_topics_are_made_of_what_the_message_is(template: str, topic: str, name: str) -> None:
    archive, record = by_template(template), a_record(topic)
    assert admit(archive, record) == [name]
    assert admit(archive, record) == []
    assert [at for at, _, _ in placed(archive, record)] == [name]


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("{1}", "__consumer_offsets"),
        ("{1}", ".."),
        ("{1}", "x" * 250),
        ("{1}", "monster-bus"),
        ("{1}-{2}", "monster/bus"),
        ("{1}", "monster.bus"),
    ],
)
def test_no_message_leads_to_a_topic_of_somebody_else(template: str, topic: str) -> None:
    archive = by_template(template, bus="monster-bus", folded="monster_bus")
    assert admit(archive, a_record(topic)) == []
    assert [at for at, _, _ in placed(archive, a_record(topic))] == ["sensors"]


def test_clients_cannot_make_topics_without_end(caplog: pytest.LogCaptureFixture) -> None:
    archive = by_template("t.{1}", topics_max=4)
    records = [a_record(str(number)) for number in range(20)]
    assert admit(archive, *records) == ["t.0", "t.1", "t.2"]
    assert admit(archive, *records) == []
    names = [at for at, _, _ in placed(archive, *records)]
    assert sorted(names) == ["sensors"] * 17 + ["t.0", "t.1", "t.2"]
    (line,) = caplog.messages
    assert "Kafka.Archive.TopicsMax" in line


def test_what_kafka_does_not_let_us_have_goes_to_the_main_topic() -> None:
    archive, record = by_template("t.{1}"), a_record("a")
    (wanted,) = archive.missing([record])
    archive.admit(wanted.name, None)
    assert archive.missing([record]) == []
    assert [at for at, _, _ in placed(archive, record)] == ["sensors"]


def test_clients_of_one_topic_may_have_keys_of_their_own() -> None:
    archive = Archive(a_topic(), facts(), Shape(key=Template.parse("{clientId}")))
    records = [Record("t", b"", 0, False, client, 1, 0) for client in ("a", "b", "a")]
    assert sorted(key or b"" for _, key, _ in placed(archive, *records)) == [b"a", b"a", b"b"]
