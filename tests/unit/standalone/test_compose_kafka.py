"""The Compose file with Kafka: who listens where, and that everybody else knows it."""

import os
import re
import shlex
from pathlib import Path, PurePosixPath

import pytest
from tests.support.compose import COMPOSE, Service, Stack
from tests.support.repository import ROOT

from monstermq_shared.config import BrokerConfig, load_config, parse_servers

STACK = Stack(COMPOSE / "docker-compose-kafka.yaml")
KAFKA = STACK.services["kafka"]
CONFIG: BrokerConfig = load_config(COMPOSE / "config-kafka.yaml", {}).config


def addresses(setting: str) -> dict[str, tuple[str, int]]:
    """Return the listeners of one of Kafka's settings: name to (host, port)."""
    found = re.findall(r"(\w+)://([\w.]*):(\d+)", KAFKA.environment[setting])
    return {name: (host, int(port)) for name, host, port in found}


def programs(name: str) -> list[Service]:
    return [service for service in STACK.ours if service.program == name]


def test_there_are_two_edges_and_two_projectors_with_one_configuration() -> None:
    assert len(programs("monstermq-edge")) == len(programs("monstermq-projector")) == 2
    files = {service.file("/etc/monstermq/config.yaml") for service in STACK.ours}
    assert files == {COMPOSE / "config-kafka.yaml"}
    assert CONFIG.kafka.bus.enabled
    names = [service.values["hostname"] for service in STACK.ours]
    assert names == [service.name for service in STACK.ours]


def test_kafka_listens_where_it_says_and_for_whom() -> None:
    listening, advertised = addresses("KAFKA_LISTENERS"), addresses("KAFKA_ADVERTISED_LISTENERS")
    assert advertised == {
        name: (advertised[name][0], port)
        for name, (_, port) in listening.items()
        if name != KAFKA.environment["KAFKA_CONTROLLER_LISTENER_NAMES"]
    }
    # Clients on the machine reach what is published; the containers reach the other one.
    (published,) = KAFKA.ports
    assert advertised["HOST"] == ("localhost", published.container)
    assert parse_servers(CONFIG.kafka.servers) == [advertised["INTERNAL"]]
    assert advertised["INTERNAL"][0] == KAFKA.name == KAFKA.values["hostname"]
    _, controller = listening["CONTROLLER"]
    node = KAFKA.environment["KAFKA_NODE_ID"]
    assert KAFKA.environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"{node}@kafka:{controller}"
    protocols = KAFKA.environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    assert sorted(protocols) == sorted(f"{name}:PLAINTEXT" for name in listening)


def test_kafkas_data_is_in_its_volume() -> None:
    (volume,) = (mount for mount in KAFKA.mounts if isinstance(mount.source, str))
    assert volume.target == PurePosixPath(KAFKA.environment["KAFKA_LOG_DIRS"])


def test_the_page_that_shows_kafka_is_published_and_changes_nothing() -> None:
    page = STACK.services["kafka-ui"]
    (port,) = page.ports
    assert str(port.container) == page.environment["SERVER_PORT"] == "8090"
    assert page.environment["KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"] == CONFIG.kafka.servers
    assert page.environment["KAFKA_CLUSTERS_0_READONLY"] == "true"
    assert f"http://127.0.0.1:{port.container}/" in page.values["healthcheck"]["test"][-1]


def test_the_balancer_knows_the_ports_of_every_edge() -> None:
    balancer = STACK.services["balancer"]
    text = balancer.file("/usr/local/etc/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    edges = [edge.name for edge in programs("monstermq-edge")]
    servers = re.findall(r"^ +server (\w+) (\w+):(\d+)$", text, re.MULTILINE)
    assert servers == [
        (name, name, str(port)) for port in (CONFIG.tcp, CONFIG.ws) for name in edges
    ]
    assert {int(port) for port in re.findall(r"bind :(\d+)", text)} == {
        port.container for port in balancer.ports
    }
    assert f"check port {CONFIG.metrics.port} " in text
    (health,) = re.findall(r"bind 127\.0\.0\.1:(\d+)", text)
    assert f"http://127.0.0.1:{health}/health" in balancer.values["healthcheck"]["test"]
    assert set(balancer.values["depends_on"]) == set(edges)


@pytest.mark.parametrize("service", STACK.ours, ids=lambda service: service.name)
def test_a_service_waits_for_kafka(service: Service) -> None:
    assert service.values["depends_on"]["kafka"] == {"condition": "service_healthy"}


def test_the_command_that_shows_the_messages_works_in_the_container() -> None:
    text = STACK.path.read_text(encoding="utf-8")
    (command,) = re.findall(r"^# +(docker exec .*)$", text, re.MULTILINE)
    words = shlex.split(command)
    assert words[:5] == ["docker", "exec", "-it", KAFKA.values["container_name"], words[4]]
    mounted = KAFKA.file(f"/usr/local/bin/{words[4]}")  # a folder of the image's search path
    assert mounted.is_relative_to(ROOT / "compose")
    assert os.access(mounted, os.X_OK)
    assert words[words.index("--topic") + 1] == CONFIG.kafka.bus.topic
    host, port = addresses("KAFKA_ADVERTISED_LISTENERS")["HOST"]
    assert words[words.index("--bootstrap-server") + 1] == f"{host}:{port}"


def test_a_file_that_only_this_stack_mounts_is_in_the_folder() -> None:
    mounted = {
        mount.source
        for service in STACK.services.values()
        for mount in service.mounts
        if isinstance(mount.source, Path)
    }
    assert {path.name for path in mounted} == {
        "config-kafka.yaml",
        "haproxy.cfg",
        "kafka-console-consumer",
    }
