"""What the section Kafka becomes for aiokafka."""

import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr

from monstermq_shared.config import BrokerConfig, Kafka, KafkaBus, KafkaSecurity, StoreType
from monstermq_shared.config.kafka import SaslMechanism, SecurityProtocol
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import BATCH_SIZE_MAX, KafkaSettings


def settings(section: Kafka, record_size_max: int = 2_000_000) -> KafkaSettings:
    return KafkaSettings(section=section, record_size_max=record_size_max)


def test_servers_are_those_of_the_configuration_with_their_ports() -> None:
    options = settings(Kafka(servers="a:9094, b,[::1]:9095")).client_options()
    assert options["bootstrap_servers"] == ["a:9094", "b:9092", "[::1]:9095"]
    assert options["security_protocol"] == "PLAINTEXT"
    assert "ssl_context" not in options
    assert "sasl_mechanism" not in options


def test_the_producer_waits_for_all_replicas_and_is_idempotent() -> None:
    options = settings(Kafka()).producer_options()
    assert (options["acks"], options["enable_idempotence"]) == ("all", True)
    assert options["linger_ms"] == 0
    assert options["max_batch_size"] == BATCH_SIZE_MAX
    assert options["max_request_size"] == 2_000_000


def test_javas_names_are_followed_and_acks_1_gives_up_idempotence() -> None:
    config: dict[str, bool | int | float | str] = {
        "acks": 1,
        "linger.ms": 10,
        "batch.size": 65536,
        "compression.type": "lz4",
    }
    tuned = settings(Kafka(bus=KafkaBus(producer_config=config)))
    options = tuned.producer_options()
    assert (options["acks"], options["enable_idempotence"]) == (1, False)
    assert (options["max_batch_size"], options["compression_type"]) == (65536, "lz4")
    # A batch is built when it is sent, so it is the outbox that waits.
    assert (options["linger_ms"], tuned.linger_s) == (0, 0.01)


def test_a_batch_is_never_larger_than_the_topic_takes() -> None:
    config = KafkaBus(producer_config={"batch.size": 60_000_000})
    assert settings(Kafka(bus=config)).producer_options()["max_batch_size"] == 2_000_000


def test_the_consumer_is_told_where_it_is_and_nothing_of_groups() -> None:
    bus = KafkaBus(consumer_config={"fetch.max.wait.ms": 50})
    options = settings(Kafka(client_rack="r1", bus=bus)).consumer_options()
    assert (options["client_rack"], options["fetch_max_wait_ms"]) == ("r1", 50)
    assert options["fetch_min_bytes"] == 1
    assert not {"group_id", "auto_offset_reset", "enable_auto_commit"} & set(options)


def test_a_setting_that_is_none_is_named() -> None:
    bus = KafkaBus(producer_config={"linger.mss": 1})
    with pytest.raises(ConfigError, match=r"Kafka.Bus.ProducerConfig: linger.mss"):
        settings(Kafka(bus=bus)).producer_options()


def test_a_user_logs_in() -> None:
    security = KafkaSecurity(
        protocol=SecurityProtocol.SASL_PLAINTEXT,
        mechanism=SaslMechanism.SCRAM_SHA_512,
        user="u",
        password=SecretStr("p"),
    )
    options = settings(Kafka(security=security)).client_options()
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")


def test_tls_verifies_the_servers_name_with_the_given_authority() -> None:
    plain = KafkaSecurity(protocol=SecurityProtocol.SSL)
    context = settings(Kafka(security=plain)).client_options()["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_a_file_that_is_no_certificate_is_named_with_its_key(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    path.write_text("nothing")
    security = KafkaSecurity(protocol=SecurityProtocol.SSL).model_copy(update={name: str(path)})
    key = {"ca_file": "CaFile", "cert_file": "CertFile"}[name]
    with pytest.raises(StartupError, match=rf"Kafka.Security.{key}: .*x.pem") as refused:
        settings(Kafka(security=security)).client_options()
    assert refused.value.exit_code == ExitCode.TLS


def test_a_record_of_the_largest_message_fits() -> None:
    small, large = (
        KafkaSettings.from_config(
            BrokerConfig(session_store_type=StoreType.POSTGRES, max_message_size_kb=size_kb)
        )
        for size_kb in (1, 10_000)
    )
    assert small.record_size_max > 1_000_000
    assert large.record_size_max - small.record_size_max >= 9_999 * 1024 * 4 // 3
