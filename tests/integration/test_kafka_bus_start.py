"""A bus on Kafka at start: its topics, and what is refused with the setting's name."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.broker import LOOPBACK, free_ports
from tests.support.certificates import CertificateAuthority
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import RECORD_SIZE_MAX, bus_settings, opened
from tests.support.kafka_security import PASSWORD, USER, Security
from tests.support.kafka_tools import create_topic, new_topic_name

from monstermq_shared.bus.kafka.bus import open_kafka_bus
from monstermq_shared.bus.kafka.topics import ensure_topics
from monstermq_shared.bus.kafka.trial import try_topics
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka import admin as admin_module
from monstermq_shared.kafka.admin import Admin
from monstermq_shared.kafka.settings import KafkaSettings

pytestmark = pytest.mark.integration

L_MS = "900000"
AS_IT_SHOULD_BE = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": L_MS,
    "message.timestamp.after.max.ms": L_MS,
    "max.message.bytes": str(RECORD_SIZE_MAX),
}


async def refusal_of(settings: KafkaSettings, code: ExitCode) -> str:
    with pytest.raises(StartupError) as refused:
        await open_kafka_bus(settings)
    assert refused.value.exit_code == code
    return str(refused.value)


async def test_topics_are_made_as_the_protocol_needs_them(
    each_kafka: KafkaServer, kafka_topic: str
) -> None:
    settings = bus_settings(each_kafka.address(), kafka_topic, lateness_s=600, retention_hours=24)
    async with opened(settings) as bus:
        assert bus.generation == f"kafka:{each_kafka.cluster_id}:{kafka_topic}"
        assert (bus.messages.partitions, bus.sessions.partitions) == (3, 12)
        assert len(bus.run) == 8
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        topics = await admin.topics([kafka_topic, f"{kafka_topic}-sessions"])
    made = {name: (facts.partitions, facts.replication) for name, facts in topics.items()}
    assert made == {kafka_topic: (3, 1), f"{kafka_topic}-sessions": (12, 1)}
    for facts in topics.values():
        wanted = AS_IT_SHOULD_BE | {
            "message.timestamp.before.max.ms": "600000",
            "message.timestamp.after.max.ms": "600000",
            "retention.ms": "86400000",
            "retention.bytes": "-1",
            "unclean.leader.election.enable": "false",
        }
        assert {name: facts.configs[name] for name in wanted} == wanted


async def test_a_second_process_finds_them_in_order(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = bus_settings(kafka_server.address(), kafka_topic)
    async with opened(settings) as one, opened(settings) as other:
        assert one.generation == other.generation
        assert one.run != other.run


async def test_records_are_kept_for_ever_if_that_is_asked_for(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = bus_settings(kafka_server.address(), kafka_topic, retention_hours=0)
    async with opened(settings), opened(settings):
        pass


async def test_a_changed_number_of_partitions_is_refused(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with opened(bus_settings(kafka_server.address(), kafka_topic)):
        pass
    changed = bus_settings(kafka_server.address(), kafka_topic, partitions=6)
    told = await refusal_of(changed, ExitCode.BUS_MISMATCH)
    assert f"topic {kafka_topic}: it has 3 partitions and Kafka.Bus.Partitions is 6" in told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cleanup.policy": "compact"}, "cleanup.policy is compact and has to be delete"),
        ({"message.timestamp.type": "LogAppendTime"}, "message.timestamp.type is LogAppendTime"),
        (
            {"message.timestamp.before.max.ms": "1000"},
            "before.max.ms is 1000 and has to be 900000, as Kafka.Bus.LatenessS says",
        ),
        ({"message.timestamp.after.max.ms": "1000"}, "after.max.ms is 1000"),
        ({"max.message.bytes": "1000"}, "max.message.bytes is 1000 and has to be 2000000 at least"),
        ({"retention.ms": "1000"}, "twice Kafka.Bus.LatenessS"),
        ({"unclean.leader.election.enable": "true"}, "election.enable is true and has to be false"),
    ],
)
async def test_a_topic_that_is_otherwise_is_refused_and_left_alone(
    kafka_server: KafkaServer, kafka_topic: str, changed: dict[str, str], said: str
) -> None:
    configs = AS_IT_SHOULD_BE | changed
    await create_topic(kafka_server.address(), kafka_topic, partitions=3, settings=configs)
    settings = bus_settings(kafka_server.address(), kafka_topic)
    assert said in await refusal_of(settings, ExitCode.BUS_MISMATCH)
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        configs = dict((await admin.topics([kafka_topic]))[kafka_topic].configs)
    assert changed.items() <= configs.items()


async def test_only_what_the_file_says_of_copies_and_retention_is_compared(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    configs = AS_IT_SHOULD_BE | {"retention.ms": "123456789"}
    await create_topic(kafka_server.address(), kafka_topic, partitions=3, settings=configs)
    async with opened(bus_settings(kafka_server.address(), kafka_topic)):
        pass
    said = bus_settings(kafka_server.address(), kafka_topic, retention_hours=168, replication=2)
    told = await refusal_of(said, ExitCode.BUS_MISMATCH)
    assert "retention.ms is 123456789 and has to be 604800000, as Kafka.Bus.RetentionHours" in told
    assert "it has 1 copies of a partition and Kafka.Bus.Replication is 2" in told


async def test_topics_that_the_service_refuses_to_make_name_the_lateness(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    # No server allows this one; a service may allow other times only.
    settings = bus_settings(kafka_server.address(), kafka_topic, record_size_max=-1)
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        with pytest.raises(StartupError, match=r"Kafka.Bus.LatenessS is 900") as refused:
            await ensure_topics(admin, settings)
    assert refused.value.exit_code == ExitCode.BUS_MISMATCH


@pytest.mark.parametrize("ahead_ms", [-1_200_000, 1_200_000])
async def test_a_clock_that_is_off_by_more_than_the_lateness_is_refused(
    kafka_server: KafkaServer, kafka_topic: str, ahead_ms: int
) -> None:
    settings = bus_settings(kafka_server.address(), kafka_topic)
    async with Admin.opened(settings, ExitCode.BUS_UNREACHABLE) as admin:
        await ensure_topics(admin, settings)
    with pytest.raises(StartupError, match=r"clock.*differ by more than 900 s") as refused:
        await try_topics(settings, SystemClock().wall_ms() + ahead_ms)
    assert refused.value.exit_code == ExitCode.BUS_MISMATCH


async def test_a_server_that_is_not_there_is_named() -> None:
    (port,) = free_ports(1)
    told = await refusal_of(bus_settings(f"{LOOPBACK}:{port}", "t"), ExitCode.BUS_UNREACHABLE)
    assert f"{LOOPBACK}:{port} cannot be reached" in told


async def test_one_of_several_servers_is_enough(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    (port,) = free_ports(1)
    servers = f"{LOOPBACK}:{port},{kafka_server.address()}"
    async with opened(bus_settings(servers, kafka_topic)) as bus:
        assert await bus.messages.end_positions()


# -- logging in ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(authority: CertificateAuthority) -> Iterator[KafkaServer]:
    server = KafkaServer(
        security=Security(sasl=True, authorize=True, identity=authority.issue("kafka"))
    )
    try:
        yield server.start()
    finally:
        server.close()


def logged_in(
    server: KafkaServer, topic: str, authority: CertificateAuthority, **changed: str
) -> KafkaSettings:
    security = {
        "protocol": "SASL_SSL",
        "mechanism": "SCRAM-SHA-512",
        "user": USER,
        "password": PASSWORD,
        "ca_file": str(authority.cert_file),
    }
    return bus_settings(server.address("SASL_SSL"), topic, security=security | changed)


async def test_a_wrong_password_is_told(
    guarded: KafkaServer, authority: CertificateAuthority
) -> None:
    settings = logged_in(guarded, "t", authority, password="wrong")
    assert "check Kafka.Security.User and Pass" in await refusal_of(
        settings, ExitCode.BUS_UNREACHABLE
    )


async def test_a_certificate_of_somebody_else_is_told(
    guarded: KafkaServer, authority: CertificateAuthority, tmp_path: Path
) -> None:
    other = CertificateAuthority(tmp_path)
    settings = logged_in(guarded, "t", other)
    assert "Kafka.Security.CaFile" in await refusal_of(settings, ExitCode.BUS_UNREACHABLE)


async def test_each_right_that_is_missing_is_told_until_none_is(
    guarded: KafkaServer, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic_name()
    settings = logged_in(guarded, topic, authority)
    refused = ExitCode.BUS_UNREACHABLE
    assert f"making the topic {topic}" in await refusal_of(settings, refused)
    guarded.allow("Create", "--cluster")
    with monkeypatch.context() as impatience:  # here it waits in vain
        impatience.setattr(admin_module, "ANSWER_S", 5.0)
        assert "Kafka.Security.User has to be allowed to Describe" in await refusal_of(
            settings, refused
        )
    both = ("--topic", topic, "--resource-pattern-type", "prefixed")
    guarded.allow("Describe", *both)
    told = await refusal_of(settings, ExitCode.BUS_MISMATCH)
    assert "Kafka.Security.User may not see its settings" in told
    guarded.allow("DescribeConfigs", *both)
    assert f"writing to the topic {topic}" in await refusal_of(settings, refused)
    guarded.allow("Write", *both)
    assert f"reading the topic {topic}" in await refusal_of(settings, refused)
    guarded.allow("Read", *both)
    async with opened(settings) as bus:
        assert await bus.messages.end_positions()
