"""Every Compose file: what it runs, mounts, publishes and waits for agrees with the code.

Nothing is started here, because a container engine and its images would have to be there.
"""

import json
import re
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath

import jsonschema
import pytest
import yaml
from tests.support.compose import Service, Stack, arguments, stacks
from tests.support.repository import ROOT

from monstermq.cli import Run, parse_arguments
from monstermq.invocations import Initialize
from monstermq_shared.config import BrokerConfig, StoreType, check_runnable, load_config
from monstermq_shared.config.checks import postgres_connection, stores_of
from monstermq_shared.config.reference import settings_schema

KEYS = {
    *("build", "cap_add", "cap_drop", "container_name", "depends_on", "entrypoint"),
    *("environment", "healthcheck", "hostname", "image", "ports", "read_only", "restart"),
    *("security_opt", "shm_size", "stop_grace_period", "tmpfs", "ulimits", "volumes"),
}
"""The keys of a service whose meaning these tests know."""

STACKS = stacks()
SERVICES = [(stack, service) for stack in STACKS for service in stack.services.values()]
OURS = [(stack, service) for stack in STACKS for service in stack.ours]


def shown(value: object) -> str:
    return value.path.name if isinstance(value, Stack) else str(getattr(value, "name", value))


each_stack = pytest.mark.parametrize("stack", STACKS, ids=shown)
each_service = pytest.mark.parametrize(("stack", "service"), SERVICES, ids=shown)
each_of_ours = pytest.mark.parametrize(("stack", "service"), OURS, ids=shown)


def configuration_file(service: Service) -> Path:
    """Return the file that the service's command line names, as the container sees it."""
    (script,) = entry_points(group="console_scripts", name=service.program)
    assert callable(script.load())
    invocation = parse_arguments(service.command[1:])  # the services take the same options
    assert isinstance(invocation, Run)
    assert invocation.config is not None
    return service.file(str(invocation.config))


def configuration(service: Service) -> BrokerConfig:
    return load_config(configuration_file(service), service.environment).config


def used(service: Service) -> set[StoreType]:
    return {store for _, store in stores_of(configuration(service))}


def listening(service: Service) -> set[int]:
    """Return the ports of a service of ours, inside its container."""
    config = configuration(service)
    if service.program == "monstermq-projector":
        assert config.projector.bind_address == "0.0.0.0"
        return {config.projector.port}
    assert config.bind_address == config.metrics.bind_address == "0.0.0.0"
    assert config.mcp.bind_address is None
    if service.program == "monstermq-mcp":
        return {config.mcp.port}
    ports = {config.tcp, config.ws, config.tcps, config.wss, config.metrics.port}
    return (ports | ({config.mcp.port} if service.program == "monstermq" else set())) - {0}


def test_every_stack_is_there() -> None:
    kafka = ["kafka", "kafka-ui", "postgres", "init", "edge1", "edge2", "balancer"]
    assert {stack.path.name: [*stack.services] for stack in STACKS} == {
        "docker-compose.yml": ["postgres", "init", "monstermq"],
        "docker-compose-sqlite.yml": ["monstermq"],
        "docker-compose-kafka.yaml": [*kafka, "projector1", "projector2", "mcp"],
    }
    stores = {stack.path.name: set().union(*map(used, stack.ours)) for stack in STACKS}
    assert stores == {
        "docker-compose.yml": {StoreType.POSTGRES},
        "docker-compose-sqlite.yml": {StoreType.SQLITE},
        "docker-compose-kafka.yaml": {StoreType.POSTGRES},
    }


@each_service
def test_a_service_has_no_key_that_is_not_checked(stack: Stack, service: Service) -> None:
    assert set(service.values) - KEYS == set()
    assert service.values["restart"] == ("on-failure" if service.prepares else "unless-stopped")
    assert set(stack.values) <= {"name", "services", "volumes"}


@each_of_ours
def test_the_command_line_names_a_configuration_that_starts(stack: Stack, service: Service) -> None:
    path = configuration_file(service)
    jsonschema.Draft202012Validator(settings_schema()).validate(
        yaml.safe_load(path.read_text(encoding="utf-8"))
    )
    loaded = load_config(path, service.environment)
    # Which ports are reachable is the container engine's choice.
    warnings = [*loaded.warnings, *check_runnable(loaded)]
    open_to_all = ("authentication", "MCP.Token")
    assert [each for each in warnings if not any(key in each for key in open_to_all)] == []


@each_of_ours
def test_a_broker_alone_is_published_whole(stack: Stack, service: Service) -> None:
    published = {port.container for port in service.ports}
    alone = service.program in {"monstermq", "monstermq-mcp"}
    assert published == (listening(service) if alone else set())


@each_service
def test_a_port_is_published_to_this_machine_alone(stack: Stack, service: Service) -> None:
    assert {port.address for port in service.ports} <= {"127.0.0.1"}
    assert [port for port in service.ports if port.host != port.container] == []


@each_stack
def test_no_two_services_publish_the_same_port(stack: Stack) -> None:
    ports = [port.host for service in stack.services.values() for port in service.ports]
    assert len(ports) == len(set(ports))


@each_of_ours
def test_a_database_is_a_service_of_the_file_and_lets_the_broker_in(
    stack: Stack, service: Service
) -> None:
    if StoreType.POSTGRES not in used(service):
        return
    settings = postgres_connection(configuration(service))
    (host,) = settings.hosts
    server = stack.services[host.name]
    assert host.port in {port.container for port in server.ports}
    assert server.environment.items() >= {
        ("POSTGRES_USER", settings.user),
        ("POSTGRES_PASSWORD", settings.password),
        ("POSTGRES_DB", settings.database),
    }
    assert service.values["depends_on"][host.name] == {"condition": "service_healthy"}
    test = server.values["healthcheck"]["test"]
    assert test[:2] == ["CMD", "pg_isready"]
    # The server that the image fills a new volume with listens on no address.
    assert set(test) >= {
        "--host=127.0.0.1",
        f"--username={settings.user}",
        f"--dbname={settings.database}",
    }


@each_stack
def test_the_others_wait_for_what_prepares_the_database(stack: Stack) -> None:
    waiting = {service.name for service in stack.ours}
    if "postgres" not in stack.services:
        waiting = set()
    done = {"condition": "service_completed_successfully"}
    found = {
        name
        for name, service in stack.services.items()
        if dict(service.values.get("depends_on", {})).get("init") == done
    }
    assert found == waiting
    for service in stack.services.values():
        if service.prepares:
            invocation = parse_arguments(service.command[1:])
            assert isinstance(invocation, Initialize)
            assert invocation.config is not None
            one = stack.ours[0]
            assert service.file(str(invocation.config)) == configuration_file(one)
            assert service.values["depends_on"] == {"postgres": {"condition": "service_healthy"}}
            assert service.temporary == one.temporary


@each_service
def test_a_service_says_whether_it_is_well(stack: Stack, service: Service) -> None:
    if service.prepares:  # it ends before anybody asks
        return
    written = service.values.get("healthcheck")
    if written is not None:
        assert {"test", "interval", "timeout", "retries"} <= set(written)
    if not service.is_ours:
        assert written is not None
        return
    if written is None:  # the image's
        _, _, command = arguments("HEALTHCHECK")[0].partition("CMD ")
        test = json.loads(command)
    else:
        test = written["test"]
    (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/health", test[-1])
    config = configuration(service)
    others = {"monstermq-projector": config.projector.port, "monstermq-mcp": config.mcp.port}
    assert int(port) == others.get(service.program, config.metrics.port)


@each_service
def test_an_image_from_elsewhere_has_a_version(stack: Stack, service: Service) -> None:
    name, _, tag = service.values["image"].partition(":")
    if service.is_ours:
        assert (name, tag) == ("monstermq", "")
    else:
        assert re.fullmatch(r"v?\d+\.\d+\.\d+(-pg\d+|-alpine)?", tag)


@each_service
def test_a_container_has_no_more_rights_than_it_needs(stack: Stack, service: Service) -> None:
    assert service.values["cap_drop"] == ["ALL"]
    assert service.values["security_opt"] == ["no-new-privileges:true"]
    if service.is_ours:
        assert service.values["read_only"] is True
        assert "cap_add" not in service.values


@each_stack
def test_every_volume_is_declared_and_used(stack: Stack) -> None:
    mounts = [mount for service in stack.services.values() for mount in service.mounts]
    volumes = {mount.source for mount in mounts if isinstance(mount.source, str)}
    assert volumes == set(stack.values["volumes"])


@each_service
def test_a_mounted_file_is_there_and_cannot_be_changed(stack: Stack, service: Service) -> None:
    files = [mount for mount in service.mounts if isinstance(mount.source, Path)]
    assert [mount for mount in files if not mount.read_only] == []
    for mount in files:
        assert isinstance(mount.source, Path)
        assert mount.source.is_file()
        assert mount.source.is_relative_to(ROOT / "compose")


@each_of_ours
def test_what_the_broker_keeps_is_in_a_volume(stack: Stack, service: Service) -> None:
    volumes = {mount.target for mount in service.mounts if isinstance(mount.source, str)}
    assert arguments("VOLUME") == ["/data"]
    if StoreType.SQLITE in used(service):
        assert PurePosixPath(configuration(service).sqlite.path).parent in volumes
    # Otherwise each start would leave a volume without a name.
    assert PurePosixPath("/data") in volumes | service.temporary
    assert PurePosixPath("/tmp") in service.temporary


def test_the_data_of_postgresql_is_in_a_volume() -> None:
    targets = {
        mount.target
        for _, service in SERVICES
        for mount in service.mounts
        if service.name == "postgres" and isinstance(mount.source, str)
    }
    assert targets == {PurePosixPath("/var/lib/postgresql/data")}


@each_stack
def test_the_commands_in_the_comments_name_the_file_and_its_services(stack: Stack) -> None:
    text = stack.path.read_text(encoding="utf-8")
    commands = re.findall(r"^# +docker compose -f (\S+) (.*)$", text, re.MULTILINE)
    assert commands
    for path, rest in commands:
        assert ROOT / path == stack.path
        words = rest.split()
        if words[0] == "exec":
            assert words[1] in stack.services
