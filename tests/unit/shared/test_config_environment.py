"""MONSTERMQ_... variables over the configuration."""

from datetime import timedelta
from pathlib import Path

import pytest

from monstermq_shared.config import BrokerConfig, LoadedConfig, StoreType, load_config
from monstermq_shared.errors import ConfigError


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(**environ: str) -> LoadedConfig:
    return load_config(None, environ)


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    return str(caught.value)


def test_a_variable_overrides_the_embedded_default() -> None:
    config = load(MONSTERMQ_TCP="1884", MONSTERMQ_SQLITE__PATH=":memory:").config
    assert config.tcp == 1884
    assert config.sqlite.path == ":memory:"
    assert config.ws == 9000


def test_a_variable_overrides_the_file_and_leaves_its_other_keys(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("TCP: 1\nSessionStoreType: SQLITE\nQueue: {MaxMessages: 5, MaxBytes: 6}\n")
    queue = load_config(file, {"MONSTERMQ_QUEUE__MAXMESSAGES": "7"}).config.queue
    assert (queue.max_messages, queue.max_bytes) == (7, 6)


def test_a_variable_for_a_section_leaves_its_other_keys_and_gives_way_to_one_for_a_key(
    tmp_path: Path,
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("SessionStoreType: SQLITE\nQueue: {MaxMessages: 5, MaxBytes: 6, Policy: x}\n")
    environ = {
        "MONSTERMQ_QUEUE__MAXMESSAGES": "8",
        "monstermq_queue": "{Policy: DROP_NEWEST, MaxMessages: 7}",
    }
    queue = load_config(file, environ).config.queue
    assert (queue.max_messages, queue.max_bytes, queue.policy) == (8, 6, "DROP_NEWEST")


def test_a_list_replaces_the_files(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("SessionStoreType: SQLITE\nArchiveGroups: [{Name: a}, {Name: b}]\n")
    groups = load_config(file, {"MONSTERMQ_ARCHIVEGROUPS": "[{Name: c}]"}).config.archive_groups
    assert [group.name for group in groups] == ["c"]


def test_a_configuration_made_in_code_is_what_the_code_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TCP", "tcp", "MONSTERMQ_TCP", "MONSTERMQ_MCP__PORT"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("MONSTERMQ_WEBSOCKET", "{Path: /x}")
    (tmp_path / ".env").write_text("WS=7\nMONSTERMQ_WS=7\n")
    config = BrokerConfig(session_store_type=StoreType.SQLITE, tcps=8883)
    assert config.model_fields_set == {"session_store_type", "tcps"}
    assert (config.tcp, config.ws, config.mcp.port, config.websocket.path) == (
        1883,
        0,
        3000,
        None,
    )
    assert load_config(None, {}).config.tcp == 1883


@pytest.mark.parametrize(
    "name",
    [
        "MONSTERMQ_SESSIONSTORETYPE",
        "MONSTERMQ_SessionStoreType",
        "monstermq_session_store_type",
        "MONSTERMQ_SESSION_STORE_TYPE",
    ],
)
def test_names_count_in_any_case_and_with_underscores_between_words(name: str) -> None:
    assert load(**{name: "postgres"}).config.session_store_type is StoreType.POSTGRES


def test_every_kind_of_value_can_be_written() -> None:
    config = load(
        MONSTERMQ_QUEUEDMESSAGESENABLED="no",
        MONSTERMQ_POSTGRES__PASS="0123: [secret",
        MONSTERMQ_QUEUE__SESSIONEXPIRY="7d",
        MONSTERMQ_QUEUE__POLICY="drop-newest",
        MONSTERMQ_LIMITS__SLOWCONSUMERHOLDS="0.5",
        MONSTERMQ_WEBSOCKET__ORIGINS='["https://a", "https://B:443"]',
        MONSTERMQ_KAFKA__BUS__PRODUCERCONFIG="{linger.ms: 10, compression.type: lz4}",
        MONSTERMQ_ARCHIVEGROUPS='[{"Name": "g", "TopicFilter": ["a/#"], "ArchiveType": "SQLITE"}]',
        MONSTERMQ_METRICS="{Enabled: false}",
        MONSTERMQ_LOG__LEVEL="OFF",
    ).config
    assert config.queued_messages_enabled is False
    assert config.postgres.password.get_secret_value() == "0123: [secret"
    assert config.queue.session_expiry == timedelta(days=7)
    assert config.limits.slow_consumer_hold_s == 0.5
    assert config.websocket.origins == ("https://a", "https://b")
    assert config.kafka.bus.producer_config == {"linger.ms": 10, "compression.type": "lz4"}
    assert [group.name for group in config.archive_groups] == ["g"]
    assert config.metrics.enabled is False
    assert config.log.level > 50


def test_an_empty_variable_counts_as_absent() -> None:
    assert load(MONSTERMQ_TCP="", MONSTERMQ_TLS__CERTFILE="").config.tcp == 1883


def test_a_variable_that_is_none_of_ours_is_ignored_with_a_warning() -> None:
    loaded = load(MONSTERMQ_SERVICE_HOST="10.0.0.1", MONSTERMQ_TPC="1", HOME="/root")
    assert loaded.config.tcp == 1883
    assert loaded.warnings == (
        "MONSTERMQ_SERVICE_HOST is ignored: SERVICE_HOST is not a key",
        "MONSTERMQ_TPC is ignored: TPC is not a key; did you mean MONSTERMQ_TCP?",
    )


def test_an_unknown_key_below_a_section_is_refused_with_the_nearest() -> None:
    message = refusal(MONSTERMQ_SQLITE__PAHT="x")
    assert message == "MONSTERMQ_SQLITE__PAHT: PAHT is not a key of SQLite; did you mean Path?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MONSTERMQ_SQLITE_PATH", "MONSTERMQ_SQLITE__PATH"),
        ("monstermq_sqlitepath", "MONSTERMQ_SQLITE__PATH"),
        ("MONSTERMQ_TLS_CERT_FILE", "MONSTERMQ_TLS__CERTFILE"),
        ("MONSTERMQ_KAFKA_BUS_ENABLED", "MONSTERMQ_KAFKA__BUS__ENABLED"),
        ("MONSTERMQ_KAFKA__BUS_ENABLED", "MONSTERMQ_KAFKA__BUS__ENABLED"),
        ("MONSTERMQ_METRICS_PORT", "MONSTERMQ_METRICS__PORT"),
    ],
)
def test_a_key_of_a_section_that_lacks_an_underscore_is_refused_with_the_right_name(
    name: str, meant: str
) -> None:
    message = refusal(**{name: "9000"})
    assert message == f"{name} is not a key; did you mean {meant} (two underscores)?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MONSTERMQ_SERVICE_HOST", "10.0.0.1"),
        ("MONSTERMQ_SERVICE_PORT", "1883"),
        ("MONSTERMQ_PORT", "tcp://10.0.0.1:1883"),
        ("MONSTERMQ_PORT_1883_TCP_ADDR", "10.0.0.1"),
        # Of a service called monstermq-metrics.
        ("MONSTERMQ_METRICS_PORT", "tcp://10.0.0.1:9464"),
        ("MONSTERMQ_METRICS_SERVICE_PORT", "9464"),
    ],
)
def test_what_kubernetes_sets_does_not_keep_the_broker_from_starting(name: str, value: str) -> None:
    loaded = load(**{name: value})
    assert loaded.config == load().config
    (warning,) = loaded.warnings
    assert warning.startswith(f"{name} is ignored")


def test_going_below_a_value_is_refused() -> None:
    assert refusal(MONSTERMQ_TCP__PORT="1") == "MONSTERMQ_TCP__PORT: TCP has no keys of its own"


def test_two_variables_for_one_key_are_refused() -> None:
    message = refusal(MONSTERMQ_TCP="1", monstermq_tcp="2")
    assert message == "MONSTERMQ_TCP and monstermq_tcp set the same key; remove one of them"


def test_a_wrong_value_is_refused_with_the_variable() -> None:
    assert (
        refusal(MONSTERMQ_TCP="x") == "MONSTERMQ_TCP: TCP must be a whole number, not the text 'x'"
    )
    assert refusal(MONSTERMQ_ARCHIVEGROUPS="[{").startswith("MONSTERMQ_ARCHIVEGROUPS:1: is not")
    assert "Nmae is not a key; did you mean Name?" in refusal(MONSTERMQ_ARCHIVEGROUPS="[{Nmae: a}]")


def test_what_is_wrong_is_told_where_it_is_written_whatever_a_variable_says_beside_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "SessionStoreType: SQLITE\nMetrics:\n  Port: x\n  Enabled: 5\nArchiveGroups:\n- Name: a\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(
            file,
            {
                "MONSTERMQ_METRICS": "{Port: y}",
                "MONSTERMQ_ARCHIVEGROUPS": "[{Enabled: true}]",
                "MONSTERMQ_METRICS__BINDADDRESS": "a b",
            },
        )
    lines = [line.partition(" ")[0] for line in str(caught.value).splitlines()]
    assert lines == [
        "MONSTERMQ_ARCHIVEGROUPS:",
        f"{file}:4:",
        "MONSTERMQ_METRICS:",
        "MONSTERMQ_METRICS__BINDADDRESS:",
    ]


def test_a_section_that_is_none_in_another_variable_is_refused() -> None:
    message = refusal(MONSTERMQ_QUEUE="[1]", MONSTERMQ_QUEUE__MAXBYTES="5")
    assert message == "MONSTERMQ_QUEUE: Queue must be keys and values"


def test_a_section_that_is_none_in_the_file_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("SessionStoreType: SQLITE\nQueue: [1]\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: Queue must be keys and values"):
        load_config(file, {"MONSTERMQ_QUEUE__MAXBYTES": "5"})
