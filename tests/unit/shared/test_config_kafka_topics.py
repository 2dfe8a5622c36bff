"""Which Kafka topics a configuration writes to and reads: templates, and topics of others."""

from pathlib import Path

import pytest
from tests.support.config_files import BUS, STORES, load, refusal

from monstermq_shared.config import (
    KafkaIngress,
    PayloadFormat,
    main_topic_of,
)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# Archives


def archived(settings: str) -> str:
    return (
        f"{STORES}Kafka: {{Servers: k}}\n"
        f"ArchiveGroups: [{{Name: g, ArchiveType: KAFKA, {settings}}}]\n"
    )


def test_an_archive_has_the_topic_that_its_template_names() -> None:
    loaded = load(archived("KafkaTopic: 'g.{1}', KafkaKey: '{2}/{clientId}', PayloadFormat: raw"))
    (group,) = loaded.config.archive_groups
    assert loaded.warnings == ()
    assert (main_topic_of(group), group.payload_format) == ("g", PayloadFormat.RAW)
    (group,) = load(archived("KafkaTopic: other")).config.archive_groups
    assert main_topic_of(group) == "other"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("KafkaTopic: 'g.{0}'", "KafkaTopic has {0}; there are {1}, {2}, ... for the levels"),
        ("KafkaTopic: 'g.{name}'", "KafkaTopic has {name}; there are"),
        ("KafkaTopic: 'g.{1'", "KafkaTopic has a brace without its other one"),
        ("KafkaTopic: 'g}'", "KafkaTopic has a brace without its other one"),
        ("KafkaTopic: '{1}/{2}'", "KafkaTopic has '/', which no Kafka topic has"),
        ("KafkaTopic: ''", "KafkaTopic is empty"),
        ("KafkaTopic: __own", "KafkaTopic __own cannot be a topic"),
        ("KafkaTopic: '..'", "KafkaTopic cannot be a topic"),
        (f"KafkaTopic: {'x' * 250}", "KafkaTopic cannot be a topic"),
        ("KafkaKey: '{header:a}'", "KafkaKey has {header:a}; there are"),
        ("PayloadFormat: JSON", "PayloadFormat cannot be 'JSON'"),
        ("KafkaCompression: lzma", "KafkaCompression cannot be 'lzma'"),
    ],
)
def test_a_template_that_means_nothing_is_refused(settings: str, problem: str) -> None:
    message = refusal(archived(settings))
    assert f"ArchiveGroups[0].{problem}" in message
    assert message.count("\n") == 0


def test_what_only_kafka_has_is_refused_elsewhere() -> None:
    told = refusal(archived("KafkaKey: '{1}'").replace("KAFKA", "POSTGRES"))
    assert "ArchiveGroups[0].KafkaKey means nothing with ArchiveType POSTGRES" in told


def test_a_template_may_not_be_a_topic_of_the_bus() -> None:
    group = "ArchiveGroups: [{Name: g, ArchiveType: KAFKA, KafkaTopic: monster-sessions}]\n"
    assert "KafkaTopic monster-sessions is the name of a topic of the bus" in refusal(BUS + group)


def test_a_template_that_lets_clients_choose_any_topic_is_warned_of() -> None:
    (warning,) = load(archived("KafkaTopic: '{1}'")).warnings
    assert "begin it with a name, such as g.{1}" in warning


# Ingress


def ingress(*settings: str, more: str = "") -> str:
    entries = ", ".join(f"{{{at}}}" for at in settings)
    return f"{STORES}Kafka: {{Servers: k, Ingress: [{entries}]{more}}}\n"


def test_topics_of_others_are_read_as_they_say() -> None:
    loaded = load(
        ingress(
            "Topic: orders",
            "Topic: plant.raw, Format: raw, TopicFrom: 'in/{header:place}', QoS: 1, Retain: true, "
            "Group: mine, DeadLetterTopic: dead",
        )
    )
    assert loaded.warnings == ()
    plain, bare = loaded.config.kafka.ingress
    assert plain == KafkaIngress(topic="orders")
    assert (bare.qos, bare.retain, bare.format) == (1, True, PayloadFormat.RAW)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("Format: RAW", "Kafka.Ingress[0].Topic is missing"),
        ("Topic: a/b", "Kafka.Ingress[0].Topic must be 1 to 249 letters"),
        ("Topic: __consumer_offsets", "Kafka.Ingress[0].Topic must be 1 to 249 letters"),
        ("Topic: a, QoS: 3", "Kafka.Ingress[0].QoS must be less than or equal to 2"),
        ("Topic: a, Format: JSON", "Kafka.Ingress[0].Format cannot be 'JSON'"),
        ("Topic: a, TopicFrom: '{1}'", "Kafka.Ingress[0].TopicFrom has {1}; there are {key}"),
        ("Topic: a, TopicFrom: 'x/{key'", "Kafka.Ingress[0].TopicFrom has a brace without"),
        ("Topic: a, TopicFrom: 'header:'", "Kafka.Ingress[0].TopicFrom has {header:}"),
        ("Topic: a, TopicFrom: 'header:a}{key'", "Kafka.Ingress[0].TopicFrom has a brace without"),
        ("Topic: a, Qos: 1", "did you mean QoS?"),
        ("Topic: a, DeadLetterTopic: a", "Kafka.Ingress[0].Topic a is a topic that this broker"),
    ],
)
def test_an_ingress_that_cannot_be_is_refused(settings: str, problem: str) -> None:
    message = refusal(ingress(settings))
    assert problem in message
    assert message.count("\n") == 0


def test_what_the_broker_writes_it_does_not_read() -> None:
    """A loop would publish each message for ever."""
    group = "ArchiveGroups: [{Name: g, ArchiveType: KAFKA, KafkaTopic: a.b}]\n"
    told = "Kafka.Ingress[0].Topic a_b is a topic that this broker writes to"
    assert told in refusal(ingress("Topic: a_b") + group)
    on = ", Bus: {Enabled: true}"
    assert "that this broker writes to" in refusal(ingress("Topic: monster-sessions", more=on))
    assert "DeadLetterTopic a.b is a topic of the bus or" in refusal(
        ingress("Topic: x, DeadLetterTopic: a.b") + group
    )
    load(ingress("Topic: monster"))


def test_a_topic_is_read_twice_by_two_groups_only() -> None:
    told = "Kafka.Ingress[1] has the Topic and the Group of another one"
    assert told in refusal(ingress("Topic: a", "Topic: a, Format: RAW"))
    load(ingress("Topic: a", "Topic: a, Group: b"))


def test_an_ingress_without_servers_is_warned_of() -> None:
    (warning,) = load(STORES + "Kafka: {Ingress: [{Topic: a}]}\n").warnings
    assert warning.startswith("Kafka.Ingress is set without Kafka.Servers: using localhost")
