"""What a configuration says of Kafka: servers, login, Java's names, topics, contradictions."""

import inspect
import re
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from tests.support.config_files import BUS, STORES, load, refusal
from tests.support.repository import ROOT

from monstermq_shared.config import (
    CONSUMER,
    PRODUCER,
    KafkaBus,
    SaslMechanism,
    SecurityProtocol,
    parse_servers,
    record_bytes_max,
)
from monstermq_shared.config.kafka_names import JavaNames
from monstermq_shared.errors import ConfigError


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bus(settings: str) -> str:
    return f"{STORES}Kafka: {{Servers: k, Bus: {{Enabled: true, {settings}}}}}\n"


def security(settings: str) -> str:
    return f"{STORES}Kafka: {{Servers: k, Security: {{{settings}}}}}\n"


def test_a_bus_over_a_shared_database_loads_without_a_warning() -> None:
    loaded = load(BUS)
    assert loaded.warnings == ()
    assert loaded.config.kafka.bus == KafkaBus(enabled=True)


# Servers


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("kafka1:9092,kafka2:9093", [("kafka1", 9092), ("kafka2", 9093)]),
        (" a_b.example , 10.0.0.1:1 ", [("a_b.example", 9092), ("10.0.0.1", 1)]),
        ("[::1]:9094,[fe80::1]", [("::1", 9094), ("fe80::1", 9092)]),
    ],
)
def test_servers_are_hosts_with_ports(text: str, servers: list[tuple[str, int]]) -> None:
    assert parse_servers(text) == servers
    assert load(f"{STORES}Kafka: {{Servers: '{text}'}}\n").config.kafka.servers == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:9092,", "has '': must be host:port"),
        ("a b", "must be host:port"),
        ("a;b", "must be host:port"),
        ("a:x", "must be host:port"),
        ("a:0", "a port is a number from 1 to 65535"),
        ("a:65536", "a port is a number from 1 to 65535"),
        ("::1:9092", "put an IPv6 address in brackets"),
        ("PLAINTEXT://a:9092", "leave out what is before the host"),
    ],
)
def test_what_is_no_server_is_refused_with_its_line(text: str, problem: str) -> None:
    message = refusal(f"{STORES}Kafka:\n  Servers: '{text}'\n")
    assert message.startswith("c.yaml:6: Kafka.Servers has ")
    assert problem in message


@hypothesis.given(st.text(max_size=30))
def test_any_text_is_servers_or_refused(text: str) -> None:
    try:
        servers = parse_servers(text)
    except ValueError:
        return
    assert all(host and 0 < port < 65_536 for host, port in servers)


# Sharing


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("SessionStoreType: SQLITE\nRetainedStoreType: POSTGRES\n", "SessionStoreType is SQLITE"),
        ("SessionStoreType: POSTGRES\nRetainedStoreType: SQLITE\n", "RetainedStoreType is SQLITE"),
        ("SessionStoreType: POSTGRES\nRetainedStoreType: MEMORY\n", "RetainedStoreType is MEMORY"),
        (
            "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
            "ArchiveGroups: [{Name: a, LastValType: SQLITE}]\n",
            "ArchiveGroups[0].LastValType is SQLITE",
        ),
        (
            "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
            "ArchiveGroups: [{Name: a, ArchiveType: SQLITE}]\n",
            "ArchiveGroups[0].ArchiveType is SQLITE",
        ),
    ],
)
def test_what_processes_do_not_share_is_refused_on_the_bus(text: str, key: str) -> None:
    message = refusal(f"{text}Kafka: {{Servers: k, Bus: {{Enabled: true}}}}\n")
    assert message.startswith(f"{key}, which processes do not share, and Kafka.Bus.Enabled")
    assert "use POSTGRES" in message
    assert message.count("\n") == 0
    load(f"{text}Kafka: {{Servers: k}}\n")


def test_last_values_in_memory_are_accepted_on_the_bus_with_a_warning() -> None:
    group = "ArchiveGroups: [{Name: a, LastValType: MEMORY}]\n"
    (warning,) = load(BUS + group).warnings
    assert warning.startswith("ArchiveGroups[0].LastValType is MEMORY: each process")
    assert load(STORES + group).warnings == ()


def test_a_queue_policy_that_a_log_cannot_keep_is_warned_of() -> None:
    """S5."""
    policy = "Queue: {Policy: DROP_NEWEST}\n"
    (warning,) = load(BUS + policy).warnings
    assert warning.startswith("Queue.Policy is DROP_NEWEST: on the Kafka bus the oldest")
    assert load(STORES + policy).warnings == ()


def test_messages_larger_than_what_servers_take_by_default_are_warned_of() -> None:
    bus = "Kafka: {Servers: k, Bus: {Enabled: true, InFlightKbPerPartition: 200000}}\n"
    (warning,) = load(STORES + bus + "MaxMessageSizeKb: 80000\n").warnings
    assert "socket.request.max.bytes" in warning
    assert load(STORES + bus + "MaxMessageSizeKb: 60000\n").warnings == ()


def test_a_bus_without_servers_is_warned_of() -> None:
    (warning,) = load(STORES + "Kafka: {Bus: {Enabled: true}}\n").warnings
    assert warning.startswith("Kafka.Bus.Enabled is true without Kafka.Servers: using localhost")


# Topics


def test_an_archive_in_kafka_is_accepted_with_either_bus() -> None:
    group = "ArchiveGroups: [{Name: sensors, ArchiveType: KAFKA}]\n"
    assert load(BUS + group).warnings == ()
    assert load(STORES + "Kafka: {Servers: k}\n" + group).warnings == ()


@pytest.mark.parametrize("name", ["monster", "monster-sessions"])
def test_an_archive_may_not_write_into_the_bus(name: str) -> None:
    group = f"ArchiveGroups: [{{Name: {name}, ArchiveType: KAFKA}}]\n"
    message = refusal(BUS + group)
    assert message.startswith(f"ArchiveGroups[0].Name {name} is the name of a topic of the bus")
    assert "rename the group" in message
    load(STORES + "Kafka: {Servers: k}\n" + group)
    load(BUS + group.replace("KAFKA", "POSTGRES"))


def test_topics_that_kafka_takes_for_the_same_are_refused() -> None:
    group = "ArchiveGroups: [{Name: a_b, ArchiveType: KAFKA}]\n"
    assert "a topic of the bus (Kafka.Bus.Topic a.b)" in refusal(bus("Topic: a.b") + group)


def test_a_group_whose_topic_would_be_kafkas_own_is_refused() -> None:
    group = "ArchiveGroups: [{Name: __consumer_offsets, ArchiveType: KAFKA}]\n"
    assert "topics that begin with __ are Kafka's own" in refusal(STORES + group)


@pytest.mark.parametrize("topic", ["a/b", "..", ".", "''", "__own", "a" * 241, "ä"])
def test_the_bus_topic_has_a_name_that_kafka_takes(topic: str) -> None:
    assert "Kafka.Bus.Topic must be 1 to 240 letters" in refusal(bus(f"Topic: {topic}"))
    load(bus(f"Topic: {'a' * 240}"))


# Numbers that have to go together


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("MinInsyncReplicas: 2", "MinInsyncReplicas needs Kafka.Bus.Replication"),
        ("Replication: 2, MinInsyncReplicas: 3", "more than the 2 of Kafka.Bus.Replication"),
        ("RetentionHours: 1, LatenessS: 1800", "no more than twice Kafka.Bus.LatenessS (1800)"),
        ("LatenessS: 10", "Kafka.Bus.LeaseS is 10, not less than Kafka.Bus.LatenessS"),
        ("InFlightKbPerPartition: 64", "Kafka.Bus.InFlightKbPerPartition is 64, less than the"),
        ("ProducerConfig: {max.request.size: 1024}", "max.request.size is 1024, less than the"),
        ("ProtocolVersion: 3", "Kafka.Bus.ProtocolVersion must be less than or equal to 2"),
        ("Partitions: 0", "Kafka.Bus.Partitions must be greater than or equal to 1"),
        ("RetentionHours: -1", "Kafka.Bus.RetentionHours must be greater than or equal to 0"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(settings: str, problem: str) -> None:
    assert problem in refusal(bus(settings))


def test_numbers_that_go_together_are_not() -> None:
    load(bus("RetentionHours: 0, LatenessS: 86400"))
    load(bus("Replication: 3, MinInsyncReplicas: 3, LeaseS: 1, LatenessS: 2"))


def test_room_for_the_largest_message_is_asked_for() -> None:
    message = refusal(BUS + "MaxMessageSizeKb: 100000\n")
    needed_kb = -(-record_bytes_max(100_000) // 1024)
    assert f"write {needed_kb} or more" in message
    load(bus(f"InFlightKbPerPartition: {needed_kb}") + "MaxMessageSizeKb: 100000\n")
    # Where nothing waits for Kafka it does not matter.
    load(STORES + "Kafka: {Servers: k}\nMaxMessageSizeKb: 100000\n")


def test_the_projector_has_a_port_of_its_own_and_says_each_kind_once() -> None:
    clash = refusal(BUS + "Projector: {Port: 9464}\n")
    assert "Metrics.Port and Projector.Port are both 9464" in clash
    assert "says the same twice" in refusal(BUS + "Projector: {Kinds: [VIEWS, VIEWS]}\n")
    assert "Projector.Kinds" in refusal(BUS + "Projector: {Kinds: []}\n")
    assert "cannot be 'VIEW'; did you mean VIEWS?" in refusal(BUS + "Projector: {Kinds: [VIEW]}\n")
    load(STORES + "Projector: {Port: 9464}\n")


def test_several_edge_processes_need_a_bus_that_they_share() -> None:
    told = refusal(STORES + "Edge: {Processes: 2}\n")
    assert "Edge.Processes is 2, and Kafka.Bus.Enabled is false" in told
    assert "set Kafka.Bus.Enabled to true, or write 1" in told
    assert "Edge.Processes must be greater than or equal to 1" in refusal("Edge: {Processes: 0}\n")
    assert load(BUS + "Edge: {Processes: 4}\n").config.edge.processes == 4
    load(STORES + "Edge: {Processes: 1}\n")


# Login and certificates


def test_the_connection_in_the_document_loads_without_a_warning() -> None:
    text = (ROOT / "docs/kafka.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        assert load(STORES + block).warnings == ()


def test_a_login_over_tls_loads() -> None:
    loaded = load(
        security(
            "Protocol: sasl_ssl, Mechanism: scram_sha_512, User: me, Pass: secret, CaFile: ca.pem, "
            "CertFile: a.pem, KeyFile: a.key, KeyPassword: x"
        )
    )
    kafka = loaded.config.kafka
    assert kafka.security.protocol is SecurityProtocol.SASL_SSL
    assert kafka.security.mechanism is SaslMechanism.SCRAM_SHA_512
    assert "secret" not in repr(loaded)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("Protocol: TLS", "Kafka.Security.Protocol cannot be 'TLS'"),
        ("Mechanism: GSSAPI", "Kafka.Security.Mechanism cannot be 'GSSAPI'"),
        ("Protocol: SASL_SSL, User: me", "Kafka.Security.Pass is missing: Protocol SASL_SSL"),
        ("Protocol: SASL_SSL, Pass: x", "Kafka.Security.User is missing"),
        ("User: me", "Kafka.Security.User means nothing with Protocol PLAINTEXT"),
        ("Protocol: SSL, Pass: x", "Kafka.Security.Pass means nothing with Protocol SSL"),
        ("Mechanism: PLAIN", "Kafka.Security.Mechanism means nothing"),
        ("CaFile: a.pem", "Kafka.Security.CaFile means nothing with Protocol PLAINTEXT"),
        ("Protocol: SSL, KeyFile: a.pem", "Kafka.Security.KeyFile needs Kafka.Security.CertFile"),
        ("Protocol: SSL, CaFile: trust.JKS", "Kafka.Security.CaFile must be PEM"),
    ],
)
def test_a_contradicting_security_is_refused(settings: str, problem: str) -> None:
    message = refusal(security(settings))
    assert problem in message
    assert message.count("\n") == 0


def test_a_password_in_clear_is_warned_of() -> None:
    text = BUS.replace(
        "Servers: k,", "Servers: k, Security: {Protocol: SASL_PLAINTEXT, User: a, Pass: b},"
    )
    (warning,) = load(text).warnings
    assert "sends the password in clear" in warning
    assert load(text.replace("Pass: b", "Pass: b, Mechanism: SCRAM-SHA-256")).warnings == ()


# Java's names


def test_every_name_of_the_readme_becomes_an_argument() -> None:
    settings = {"batch.size": 65536, "linger.ms": "10", "compression.type": "LZ4", "acks": -1}
    assert PRODUCER.arguments(settings) == {
        "max_batch_size": 65536,
        "linger_ms": 10,
        "compression_type": "lz4",
        "acks": "all",
    }
    assert PRODUCER.arguments({"batch.size": 0, "compression.type": "none", "acks": "1"}) == {
        "max_batch_size": 0,
        "compression_type": None,
        "acks": 1,
    }
    assert CONSUMER.arguments({"check.crcs": False, "client.rack": "a"}) == {
        "check_crcs": False,
        "client_rack": "a",
    }


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("batch.sise: 1", "batch.sise is not a setting; did you mean batch.size?"),
        ("nonsense: 1", "nonsense is not a setting; there are acks, batch.size,"),
        ("batch.size: -1", "batch.size must be from 0 to 67108864, not '-1'"),
        ("batch.size: 1.5", "batch.size must be a whole number, not '1.5'"),
        ("batch.size: true", "batch.size must be a whole number, not 'True'"),
        ("linger.ms: '10 s'", "linger.ms must be a whole number, not '10 s'"),
        ("acks: 0", "acks cannot be '0'; nobody would know whether Kafka has a message"),
        ("acks: 2", "acks cannot be '2'; there are"),
        ("compression.type: zst", "compression.type cannot be 'zst'; did you mean zstd?"),
        ("client.id: 5", "client.id must be text"),
        ("retries: 3", "retries cannot be set: a record is sent until Kafka has it"),
        ("enable.idempotence: true", "enable.idempotence cannot be set: it follows from acks"),
        ("buffer.memory: 1", "set: what waits for Kafka is bounded by Kafka.Bus.InFlightKbPer"),
        ("bootstrap.servers: a", "bootstrap.servers cannot be set: set Kafka.Servers"),
        ("sasl.jaas.config: a", "sasl.jaas.config cannot be set: set Kafka.Security"),
        ("ssl.keystore.location: a", "ssl.keystore.location cannot be set: set Kafka.Security"),
        ("fetch.min.bytes: 1", "fetch.min.bytes belongs to Kafka.Bus.ConsumerConfig"),
    ],
)
def test_a_producer_setting_that_is_not_usable_is_refused(settings: str, problem: str) -> None:
    message = refusal(bus(f"ProducerConfig: {{{settings}}}"))
    assert message.startswith("Kafka.Bus.ProducerConfig: ")
    assert problem in message


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("isolation.level: read_committed", "isolation.level cannot be set: the bus has no trans"),
        ("auto.offset.reset: latest", "auto.offset.reset cannot be set: a lost position is an"),
        ("group.id: a", "group.id cannot be set: a reader knows its own positions"),
        ("check.crcs: maybe", "check.crcs cannot be 'maybe'; there are false, true"),
        ("linger.ms: 1", "linger.ms belongs to Kafka.Bus.ProducerConfig"),
        ("fetch.min.byte: 1", "fetch.min.byte is not a setting; did you mean fetch.min.bytes?"),
    ],
)
def test_a_consumer_setting_that_is_not_usable_is_refused(settings: str, problem: str) -> None:
    message = refusal(bus(f"ConsumerConfig: {{{settings}}}"))
    assert message.startswith("Kafka.Bus.ConsumerConfig: ")
    assert problem in message


def test_every_problem_of_java_names_is_told() -> None:
    message = refusal(bus("ProducerConfig: {acks: 0, retries: 1}, ConsumerConfig: {a: b}"))
    assert message.count("\n") == 2
    with pytest.raises(ConfigError, match="acks cannot be"):
        PRODUCER.arguments({"acks": 0})


def test_acks_of_the_leader_alone_are_warned_of() -> None:
    (warning,) = load(bus("ProducerConfig: {acks: 1}")).warnings
    assert "an acknowledged message is lost if the server that took it dies" in warning
    assert load(bus("ProducerConfig: {acks: all}")).warnings == ()


@hypothesis.given(
    st.dictionaries(
        st.sampled_from([*PRODUCER.known, *CONSUMER.known, *PRODUCER.fixed]) | st.text(max_size=9),
        st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
        max_size=4,
    )
)
def test_any_setting_is_usable_or_refused_in_one_line(settings: dict[str, object]) -> None:
    for names in (PRODUCER, CONSUMER):
        problems = list(names.problems(settings))
        if not problems:
            assert len(names.arguments(settings)) == len(settings)
        assert len(problems) <= len(settings)


@pytest.mark.parametrize(
    ("names", "client"), [(PRODUCER, AIOKafkaProducer), (CONSUMER, AIOKafkaConsumer)]
)
def test_aiokafka_has_every_argument(names: JavaNames, client: type) -> None:
    accepted = inspect.signature(client).parameters
    assert {known.argument for known in names.known.values()} <= set(accepted)


@pytest.mark.parametrize(
    "key", ["RetainedStoreType: KAFKA", "ArchiveGroups: [{Name: a, LastValType: KAFKA}]"]
)
def test_kafka_keeps_no_newest_message_of_a_topic(key: str) -> None:
    assert "cannot be 'KAFKA'; Kafka has no newest message of a topic" in refusal(key + "\n")
