"""Where the configuration comes from, what it may say, and how it is refused."""

import logging
from datetime import timedelta
from pathlib import Path

import pydantic
import pytest

from monstermq_shared.config import (
    LoadedConfig,
    LogFormat,
    QueuePolicy,
    StoreType,
    embedded_default,
    format_log_level,
    load_config,
    parse_log_level,
)
from monstermq_shared.errors import ConfigError

MINIMAL = "SessionStoreType: SQLITE\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, *, minimal: bool = True) -> LoadedConfig:
    file = Path("c.yaml")
    file.write_text((MINIMAL if minimal else "") + text, encoding="utf-8")
    return load_config(file, {})


def refusal(text: str, *, minimal: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, minimal=minimal)
    return str(caught.value)


# Where it comes from


def test_without_any_file_the_embedded_default_listens_on_loopback_with_everything_in_sqlite() -> (
    None
):
    loaded = load_config(None, {})
    config = loaded.config
    assert loaded.source == "the embedded default"
    assert loaded.warnings == ()
    assert config == embedded_default()
    assert (config.tcp, config.ws, config.tcps, config.wss) == (1883, 9000, 0, 0)
    assert config.bind_address == config.metrics.bind_address == "localhost"
    assert config.sqlite.path == "data/monstermq.db"
    assert config.session_store_type is config.retained_store_type is StoreType.SQLITE
    (group,) = config.archive_groups
    assert (group.name, group.topic_filter) == ("MCP", ("#",))
    assert group.last_val_type is group.archive_type is StoreType.SQLITE
    assert group.last_val_retention == group.archive_retention == timedelta(days=7)


def test_the_named_file_wins_over_the_variable_over_the_working_directory(folder: Path) -> None:
    for port, name in enumerate(["named.yaml", "variable.yaml", "config.yaml"], start=1):
        (folder / name).write_text(f"{MINIMAL}TCP: {port}\n")
    environ = {"GATEWAY_CONFIG": "variable.yaml"}
    named = load_config(Path("named.yaml"), environ)
    variable = load_config(None, environ)
    here = load_config(None, {"GATEWAY_CONFIG": ""})
    assert [named.config.tcp, variable.config.tcp, here.config.tcp] == [1, 2, 3]
    assert named.source == "named.yaml"
    assert variable.source == "variable.yaml (from GATEWAY_CONFIG)"
    assert here.source == "config.yaml (in the working directory)"


def test_a_file_that_cannot_be_read_is_refused_by_name(folder: Path) -> None:
    for path in (Path("missing.yaml"), folder, Path("a\0b")):
        with pytest.raises(ConfigError, match=r"cannot be read|is not a file name"):
            load_config(path, {})
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read"):
        load_config(None, {"GATEWAY_CONFIG": "missing.yaml"})


def test_an_endless_file_is_refused_after_its_first_megabyte() -> None:
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load_config(Path("/dev/zero"), {})


def test_a_file_that_is_not_utf8_is_refused_with_the_line() -> None:
    Path("c.yaml").write_bytes(b"TCP: 1\nBindAddress: \xff\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: not UTF-8"):
        load_config(Path("c.yaml"), {})


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert load("\ufeffSessionStoreType: SQLITE\n", minimal=False).config.tcp == 1883


def test_a_configuration_is_frozen() -> None:
    config = embedded_default()
    with pytest.raises(pydantic.ValidationError):
        config.tcp = 1
    with pytest.raises(pydantic.ValidationError):
        config.limits.connections = 1


# What it says


def test_what_is_not_said_has_the_documented_default() -> None:
    config = load("").config
    assert (config.tcp, config.ws, config.tcps, config.wss) == (1883, 0, 0, 0)
    assert config.max_message_size_kb == 512
    assert config.queued_messages_enabled is True
    assert config.retained_store_type is StoreType.MEMORY
    assert config.archive_groups == ()
    assert config.bind_address == "0.0.0.0"
    assert (config.limits.in_flight_per_client, config.limits.slow_consumer_hold_s) == (100, 5)
    assert config.queue.policy is QueuePolicy.DROP_OLDEST
    assert config.queue.session_expiry is None
    assert (config.metrics.enabled, config.metrics.port) == (True, 9464)
    assert config.kafka.bus.partitions == 12
    assert config.log.format is LogFormat.TEXT


def test_an_archive_group_needs_only_its_name() -> None:
    (group,) = load("ArchiveGroups: [ { Name: g } ]\n").config.archive_groups
    assert (group.enabled, group.topic_filter, group.retained_only) == (True, (), False)
    assert group.last_val_type is group.archive_type is StoreType.NONE
    assert group.last_val_retention is group.archive_retention is None


def test_choices_count_in_any_case_and_with_dashes() -> None:
    config = load("RetainedStoreType: Sqlite\nQueue: {Policy: drop-newest}\n").config
    assert config.retained_store_type is StoreType.SQLITE
    assert config.queue.policy is QueuePolicy.DROP_NEWEST


def test_tpcs_is_read_as_tcps_with_a_warning() -> None:
    loaded = load("TPCS: 8883\n")
    assert loaded.config.tcps == 8883
    assert loaded.warnings[0] == "c.yaml:2: TPCS is read as TCPS; write TCPS"
    assert "c.yaml:2: TPCS and TCPS are the same key" in refusal("TPCS: 8883\nTCPS: 8883\n")
    assert "c.yaml:2: TCPS must be a whole number" in refusal("TPCS: x\n")


def test_passwords_are_in_no_representation() -> None:
    config = load("Postgres: {Url: 'postgresql://u:hidden1@h/d', Pass: hidden2}\n").config
    assert "hidden" not in repr(config)
    assert config.postgres.password.get_secret_value() == "hidden2"


def test_limits_nobody_has_set_grow_with_what_they_depend_on() -> None:
    limits = load("MaxMessageSizeKb: 100000\nLimits: {InFlightPerClient: 5000}\n").config.limits
    assert limits.outbox_kb == limits.pending_kb_per_client == 100_001
    assert limits.commit_backlog_kb == 100_001
    assert limits.pending_messages_per_client == 5000


# How it is refused


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("TPC: 1\n", "c.yaml:2: TPC is not a key; did you mean TCP?"),
        ("tcp: 1\n", "c.yaml:2: tcp is not a key; did you mean TCP?"),
        (
            "WebSocket: {AllowedOrigins: []}\n",
            "c.yaml:2: WebSocket.AllowedOrigins is not a key; did you mean Origins?",
        ),
        (
            "Limits:\n  InFlight: 5\n",
            "c.yaml:3: Limits.InFlight is not a key; did you mean InFlightPerClient?",
        ),
        (
            "ArchiveGroups:\n  - Name: a\n  - Name: b\n    TopicFilters: []\n",
            "c.yaml:5: ArchiveGroups[1].TopicFilters is not a key; did you mean TopicFilter?",
        ),
        ("Sys: {XYZ: 1}\n", "c.yaml:2: Sys.XYZ is not a key; there are Enabled, IntervalS"),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_the_nearest(text: str, problem: str) -> None:
    assert refusal(text) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('TCP: "1883"\n', "must be a whole number, not the text '1883'; remove the quotes"),
        ("TCP: port\n", "must be a whole number, not the text 'port'"),
        ("TCP: true\n", "TCP must be a whole number, not true"),
        ("TCP: 1.5\n", "TCP must be a whole number, not 1.5"),
        ("TCP: -1\n", "TCP must be greater than or equal to 0"),
        ("TCP: 65536\n", "TCP must be less than or equal to 65535"),
        ("TCP: [1883]\n", "TCP must be a whole number, not a list"),
        ("TCP: {Port: 1883}\n", "TCP must be a whole number, not keys and values"),
        ("QueuedMessagesEnabled: 1\n", "QueuedMessagesEnabled must be true or false, not 1"),
        ("QueuedMessagesEnabled: 'on'\n", "not the text 'on'; remove the quotes"),
        ("Limits: {SlowConsumerHoldS: '.5s'}\n", "must be a number, not the text '.5s'"),
        ("Limits: {SlowConsumerHoldS: '0.5'}\n", "not the text '0.5'; remove the quotes"),
        ("WebSocket: {Origins: '*'}\n", "WebSocket.Origins must be a list"),
        (
            "WebSocket: {Origins: ['https://a.example/']}\n",
            "WebSocket.Origins[0] 'https://a.example/' is not an origin: write scheme://host or "
            'scheme://host:port; or "*" for any page',
        ),
        ("WebSocket: {Origins: ['*', 'null']}\n", 'WebSocket.Origins[1] cannot be "null", which'),
        ("RetainedStoreType: KAFKA\n", "RetainedStoreType cannot be 'KAFKA'; Kafka has no newest"),
        ("RetainedStoreType: POSTGRE\n", "'POSTGRE'; did you mean POSTGRES?"),
        ("RetainedStoreType: 5\n", "RetainedStoreType must be one of MEMORY, HAZELCAST"),
        ("Postgres: {Pass: 123}\n", "Postgres.Pass must be text; put it in quotes"),
        ("SQLite: {Path: ''}\n", "SQLite.Path is empty; write a value or leave the key out"),
        ("SQLite: x.db\n", "SQLite must be keys and values"),
        ("ArchiveGroups: {Name: a}\n", "ArchiveGroups must be a list"),
        ("ArchiveGroups: [a]\n", "ArchiveGroups[0] must be keys and values"),
        ("ArchiveGroups: [{Enabled: true}]\n", "ArchiveGroups[0].Name is missing; every archive"),
        ("ArchiveGroups: [{Name: 'a;b'}]\n", "ArchiveGroups[0].Name must be 1 to 63 letters"),
        ('ArchiveGroups: [{Name: "a\\n"}]\n', "ArchiveGroups[0].Name must be 1 to 63 letters"),
        ("ArchiveGroups: [{Name: a, TopicFilter: '#'}]\n", 'must be a list, such as [ "a", "b" ]'),
        ("ArchiveGroups: [{Name: a, ArchiveRetention: 7}]\n", "must be a number and a unit such"),
        ("Limits: {SlowConsumerHoldS: .inf}\n", "Limits.SlowConsumerHoldS must be"),
        ("Limits: {SlowConsumerHoldS: .nan}\n", "Limits.SlowConsumerHoldS must be"),
        ("Limits: {InFlightPerClient: 0}\n", "must be greater than or equal to 1"),
        ("Kafka: {Bus: {ProducerConfig: {acks: [1]}}}\n", "acks must be text, a number, true or"),
        ("WebSocket: {Path: mqtt}\n", "WebSocket.Path must begin with /"),
        ("BindAddress: 'a b'\n", "BindAddress must be an IP address or host name"),
        ("Log: {Level: LOUD}\n", "Log.Level must be a number or one of ALL, FINEST"),
    ],
)
def test_a_wrong_value_is_refused_with_line_key_and_fix(text: str, problem: str) -> None:
    message = refusal(text)
    assert message.startswith("c.yaml:2: ")
    assert problem in message


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("SQLite", "Path"),
        ("TLS", "CertFile"),
        ("TLS", "KeyFile"),
        ("TLS", "KeyStore"),
        ("TLS", "ClientCaFile"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused_with_line_and_key(section: str, key: str) -> None:
    message = refusal(f'{section}: {{ {key}: "a\\0b" }}\n')
    assert message.startswith(f"c.yaml:2: {section}.{key} contains a NUL character")


def test_a_secret_is_not_repeated_in_an_error() -> None:
    assert "hunter2" not in refusal("Postgres: hunter2\nTLS: {KeyStorePassword: [hunter2]}\n")


def test_a_missing_session_store_is_refused_with_the_choices() -> None:
    message = refusal("TCP: 1883\n", minimal=False)
    assert message.startswith("c.yaml:1: SessionStoreType is missing; write SQLITE")


def test_sessions_in_memory_are_refused_with_how_they_are_had() -> None:
    message = refusal("SessionStoreType: Memory\n", minimal=False)
    assert "cannot be 'Memory'; use SQLITE with SQLite: { Path: ':memory:' }" in message


def test_the_keys_of_a_section_are_listed_once_however_many_are_unknown() -> None:
    message = refusal("Xyzzy: 1\nZzz: 2\nTPC: 3\nSys: {Foo: 1, Bar: 2}\n")
    first, second, third, fourth, fifth = message.splitlines()
    assert first.startswith("c.yaml:2: Xyzzy is not a key; there are ArchiveGroups, BindAddress")
    assert second == "c.yaml:3: Zzz is not a key"
    assert third == "c.yaml:4: TPC is not a key; did you mean TCP?"
    assert fourth == "c.yaml:5: Sys.Foo is not a key; there are Enabled, IntervalS"
    assert fifth == "c.yaml:5: Sys.Bar is not a key"


def test_every_problem_is_told_at_once_up_to_a_bound() -> None:
    assert refusal("TCP: x\nWS: y\n").count("must be a whole number") == 2
    many = refusal("".join(f"Unknown{n}: 1\n" for n in range(50)))
    assert many.endswith("and 30 more")


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("INFO", logging.INFO),
        ("fine", logging.DEBUG),
        ("SEVERE", logging.ERROR),
        ("debug", logging.DEBUG),
        ("WARN", logging.WARNING),
        ("ERROR", logging.ERROR),
        ("CRITICAL", logging.CRITICAL),
        (False, logging.CRITICAL + 10),
        (800, logging.INFO),
        ("850", logging.WARNING),
        ("-2147483648", 1),
        (9_999_999_999, logging.CRITICAL + 10),
    ],
)
def test_log_levels_are_the_originals_names_or_numbers(value: object, level: int) -> None:
    assert parse_log_level(value) == level


@pytest.mark.parametrize("value", ["LOUD", "", True, None, "1" * 20, [1]])
def test_other_log_levels_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="ALL, FINEST"):
        parse_log_level(value)


def test_a_log_level_is_named_as_the_original_names_it() -> None:
    names = [format_log_level(parse_log_level(name)) for name in ("ALL", "FINE", "SEVERE", "OFF")]
    assert names == ["ALL", "FINE", "SEVERE", "OFF"]
    assert format_log_level(1000) == "OFF"
