"""What the other tests rely on: real Kafka servers, alone and in a cluster, open and secured."""

import asyncio
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError
from tests.support.broker import free_ports
from tests.support.certificates import CertificateAuthority
from tests.support.kafka import KafkaCluster, KafkaServer
from tests.support.kafka_security import MECHANISMS, PASSWORD, USER, Security
from tests.support.kafka_tools import VERSIONS, create_topic
from tests.support.repository import ROOT
from tests.support.try_kafka import TOPIC

BOUND_S = 60.0

pytestmark = pytest.mark.integration


async def send(address: str, topic: str, *values: str, **options: Any) -> None:
    """Append to partition 0, until Kafka has it."""
    producer = AIOKafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, **options
    )
    try:
        async with asyncio.timeout(BOUND_S):
            await producer.start()
            for value in values:
                await producer.send_and_wait(topic, value.encode(), partition=0)
    finally:
        await producer.stop()  # also one that did not start


async def test_what_was_acknowledged_survives_kill_and_stop(own_kafka: KafkaServer) -> None:
    await create_topic(own_kafka.address(), "kept")
    await send(own_kafka.address(), "kept", "1")
    own_kafka.kill()
    own_kafka.start()
    await send(own_kafka.address(), "kept", "2")
    own_kafka.stop()
    own_kafka.start()
    assert own_kafka.consume("kept", 2) == ["1", "2"]


async def test_settings_take_effect_at_the_next_start(own_kafka: KafkaServer) -> None:
    own_kafka.settings["auto.create.topics.enable"] = "true"
    own_kafka.restart()
    await send(own_kafka.address(), "made-by-itself", "1")
    assert own_kafka.consume("made-by-itself", 1) == ["1"]


async def test_a_server_of_each_version_tells_its_cluster_id(each_kafka: KafkaServer) -> None:
    assert f"version: {each_kafka.version}" in each_kafka.log
    admin = AIOKafkaAdminClient(bootstrap_servers=each_kafka.address())
    await admin.start()
    try:
        assert (await admin.describe_cluster())["cluster_id"] == each_kafka.cluster_id
    finally:
        await admin.close()


async def test_a_frozen_server_answers_once_it_is_thawed(own_kafka: KafkaServer) -> None:
    await create_topic(own_kafka.address(), "kept")
    producer = AIOKafkaProducer(bootstrap_servers=own_kafka.address())
    async with producer:
        await producer.send_and_wait("kept", b"1")
        own_kafka.freeze()
        sent = asyncio.create_task(producer.send_and_wait("kept", b"2"))
        done, _ = await asyncio.wait([sent], timeout=0.2)
        assert not done
        own_kafka.thaw()
        async with asyncio.timeout(BOUND_S):
            await sent


async def test_a_cluster_goes_on_without_the_leader(kafka_cluster: KafkaCluster) -> None:
    await create_topic(kafka_cluster.address(), "kept", replication=3)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_cluster.address(), acks="all")
    async with asyncio.timeout(BOUND_S), producer:
        await producer.send_and_wait("kept", b"1", partition=0)
        leader = producer.client.cluster.leader_for_partition(TopicPartition("kept", 0))
        kafka_cluster.server(leader).kill()
        await producer.send_and_wait("kept", b"2", partition=0)
    survivor = kafka_cluster.server(leader % 3 + 1)
    assert survivor.consume("kept", 2) == ["1", "2"]


def test_make_kafka_serves_until_it_is_told_to_stop() -> None:
    port = str(free_ports(1)[0])
    serving = subprocess.Popen(
        [sys.executable, "-m", "tests.support.try_kafka"],
        cwd=ROOT,
        env={**os.environ, "KAFKA_PORT": port},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        said = [serving.stdout.readline().strip() for _ in range(4)]
        assert f"127.0.0.1:{port}" in said[0]
        assert said[2].startswith(f"MONSTERMQ_KAFKA__SERVERS=127.0.0.1:{port} make run ")
        asyncio.run(create_topic(f"127.0.0.1:{port}", TOPIC))
        asyncio.run(send(f"127.0.0.1:{port}", TOPIC, '{"topic": "a"}'))
        command = said[3].removesuffix(" | jq .")
        assert command.startswith("scripts/kafka-console-consumer ")
        shown = subprocess.run(
            [*shlex.split(command), "--max-messages", "1"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=True,
        )
        assert shown.stdout == '{"topic": "a"}\n'
        assert shown.stderr == "Processed a total of 1 messages\n"
        serving.send_signal(signal.SIGINT)
        assert serving.wait(BOUND_S) == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(port)))
    finally:
        serving.kill()
        serving.communicate()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(authority: CertificateAuthority) -> Any:
    security = Security(
        sasl=True, identity=authority.issue("kafka"), client_authority=authority.cert_file
    )
    server = KafkaServer(security=security)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_clients_log_in_with_each_mechanism(
    secured: KafkaServer,
    authority: CertificateAuthority,
    kafka_topic: str,
    protocol: str,
    mechanism: str,
) -> None:
    await create_topic(secured.address(), kafka_topic)
    options = {
        "security_protocol": protocol,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": USER,
        "ssl_context": ssl.create_default_context(cafile=str(authority.cert_file)),
    }
    address = secured.address(protocol)
    await send(address, kafka_topic, "1", **options, sasl_plain_password=PASSWORD)
    with pytest.raises(KafkaError):
        await send(address, kafka_topic, "2", **options, sasl_plain_password="wrong")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_user_without_rights_may_do_what_is_allowed_and_nothing_else(version: str) -> None:
    server = KafkaServer(version=version, security=Security(sasl=True, authorize=True))
    options = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_plain_username": USER,
        "sasl_plain_password": PASSWORD,
    }
    try:
        await asyncio.to_thread(server.start)
        await create_topic(server.address(), "kept")
        address = server.address("SASL_PLAINTEXT")
        with pytest.raises(ClusterAuthorizationFailedError):
            await send(address, "kept", "1", **options)
        await asyncio.to_thread(server.allow, "Write", "--topic", "kept")
        await send(address, "kept", "2", **options)
    finally:
        server.close()


async def test_clients_of_tls_need_a_certificate(
    secured: KafkaServer, authority: CertificateAuthority, kafka_topic: str, tmp_path: Path
) -> None:
    await create_topic(secured.address(), kafka_topic)
    context = ssl.create_default_context(cafile=str(authority.cert_file))
    address = secured.address("SSL")
    with pytest.raises(KafkaError):
        await send(address, kafka_topic, "1", security_protocol="SSL", ssl_context=context)
    client = authority.issue("client")
    context.load_cert_chain(client.cert_file, client.key_file)
    await send(address, kafka_topic, "1", security_protocol="SSL", ssl_context=context)
