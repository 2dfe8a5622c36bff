"""What the image and the service say agrees with the code: paths, ports, names, exit codes."""

import configparser
import json
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from tests.support.compose import COMPOSE, arguments, instructions
from tests.support.repository import ROOT

from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.exit_codes import FOR_A_PERSON, ExitCode

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def config() -> BrokerConfig:
    return load_config(COMPOSE / "config.yaml", {}).config


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment]  # systemd's keys have upper case
    parser.read(COMPOSE / "monstermq.service", encoding="utf-8")
    return parser


def listening_ports(config: BrokerConfig) -> set[int]:
    return {
        config.tcp,
        config.ws,
        config.tcps,
        config.wss,
        config.metrics.port,
        config.mcp.port,
    } - {0}


def test_the_image_exposes_the_ports_its_configuration_opens(config: BrokerConfig) -> None:
    assert {int(port) for port in arguments("EXPOSE")[0].split()} == listening_ports(config)


def test_the_configuration_is_reachable_from_outside_the_container(config: BrokerConfig) -> None:
    assert config.bind_address == config.metrics.bind_address == "0.0.0.0"


def test_all_that_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (COMPOSE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [
        source
        for argument in arguments("COPY")
        if not argument.startswith("--from=")
        for source in argument.split()[:-1]
    ]
    assert sources
    assert "*" in ignored
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_the_wheel_can_be_built_from_what_is_copied() -> None:
    copied = {source for argument in arguments("COPY") for source in argument.split()[:-1]}
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {Path(package).parts[0] for package in packages}
    needed |= {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert copied >= needed | {"pyproject.toml", "constraints.txt"}


def test_the_image_runs_the_command_and_not_as_root() -> None:
    names = [name for name, _ in instructions()]
    last_stage = len(names) - names[::-1].index("FROM")
    assert arguments("USER") == ["monstermq"]
    assert names.index("USER") > last_stage
    command = json.loads(arguments("ENTRYPOINT")[0]) + json.loads(arguments("CMD")[0])
    program, option, path = command
    assert Path(program).name in PROJECT["project"]["scripts"]
    assert option == "-config"
    assert f"compose/config.yaml {path}" in arguments("COPY")


def test_both_stages_have_the_interpreter_in_the_same_place() -> None:
    bases = {argument.split()[0] for argument in arguments("FROM")}
    assert len(bases) == 1
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert bases == {"python:3.11-slim"}


def test_the_health_check_asks_the_port_of_the_configuration(config: BrokerConfig) -> None:
    _, _, command = arguments("HEALTHCHECK")[0].partition("CMD ")
    python, option, code = json.loads(command)
    assert (Path(python).name, option) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    assert f"http://127.0.0.1:{config.metrics.port}/health" in code


def test_the_unit_waits_for_what_the_code_says(unit: configparser.ConfigParser) -> None:
    section = unit["Service"]
    assert section["Type"] == "notify"
    program, option, path = shlex.split(section["ExecStart"])
    assert Path(program).name in PROJECT["project"]["scripts"]
    assert (option, path) == ("-config", "/etc/monstermq/config.yaml")
    assert section["User"] == "monstermq"
    assert section["WorkingDirectory"] == f"/var/lib/{section['StateDirectory']}"


def test_the_unit_does_not_restart_what_a_person_must_mend(unit: configparser.ConfigParser) -> None:
    codes = {int(code) for code in unit["Service"]["RestartPreventExitStatus"].split()}
    assert codes == FOR_A_PERSON


def test_the_document_lists_what_a_person_must_mend() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"What waits for a person\*\* [^:]*: ([^.]*)\.", text)
    assert {int(code) for code in re.findall(r"\d+", listed)} == FOR_A_PERSON


def test_the_unit_tries_for_ever_what_may_mend_itself(unit: configparser.ConfigParser) -> None:
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "on-failure"
    waits = set(unit["Service"]["RestartPreventExitStatus"].split())
    tried = {
        ExitCode.PORT_IN_USE,
        ExitCode.STORE_FULL,
        ExitCode.STORE_UNREACHABLE,
        ExitCode.BUS_UNREACHABLE,
        ExitCode.BUS_MISMATCH,
    }
    assert not waits & {str(code.value) for code in tried}


def test_the_unit_follows_the_server_and_does_not_need_one(unit: configparser.ConfigParser) -> None:
    assert "postgresql.service" in unit["Unit"]["After"].split()
    assert "postgresql" not in unit["Unit"]["Wants"]
    assert "Requires" not in unit["Unit"]


def test_what_the_document_installs_is_there() -> None:
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    sources = re.findall(r"^install -D .* (\S+) /etc/\S+$", text, re.MULTILINE)
    assert len(sources) == 2
    assert [source for source in sources if not (ROOT / source).is_file()] == []


def test_the_document_names_only_keys_there_are(config: BrokerConfig) -> None:
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    named = re.findall(r"`([A-Z]\w+)\.([A-Z]\w+)[`:]", text)
    keys = config.model_dump(by_alias=True)
    assert named
    assert [(section, key) for section, key in named if key not in keys.get(section, {})] == []


@pytest.mark.parametrize("path", sorted(COMPOSE.iterdir()), ids=lambda path: path.name)
def test_no_file_names_a_host_to_download_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    addresses = re.findall(r"\w+://([^/:'\"]+)", text)
    assert set(addresses) <= {"127.0.0.1", "localhost", "postgres", "kafka"}
    assert os.access(path, os.X_OK) == text.startswith("#!")
