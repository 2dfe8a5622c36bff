"""Contradictions, warnings, and what this release can run."""

from pathlib import Path

import pytest
from tests.support.config_files import STORES, load, refusal

from monstermq_shared.config import (
    BrokerConfig,
    Limits,
    check_runnable,
    embedded_default,
    load_config,
    unsupported,
)
from monstermq_shared.config.limits import broken_relations, fitted
from monstermq_shared.errors import ConfigError

SQLITE = "BindAddress: 127.0.0.1\nSessionStoreType: SQLITE\nSQLite: {Path: x.db}\n"
QUIET = SQLITE + "RetainedStoreType: SQLITE\n"


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("TCP: 0\n", "TCP, WS, TCPS and WSS are all 0"),
        ("WS: 1883\n", "TCP and WS are both 1883: give each a port of its own"),
        ("TCP: 9464\n", "TCP and Metrics.Port are both 9464"),
        ("MCP: {Enabled: true, Port: 1883}\n", "TCP and MCP.Port are both 1883"),
        ("TLS: {KeyStore: a.p12, CertFile: a.pem}\n", "write one or the other"),
        ("TLS: {KeyFile: a.pem}\n", "TLS.KeyFile needs TLS.CertFile"),
        ("TLS: {RequireClientCert: true}\n", "TLS.RequireClientCert needs TLS.ClientCaFile"),
        ("TLS: {KeyStore: server-keystore.jks}\n", "-destkeystore server-keystore.p12"),
        ("Postgres: {Url: 'jdbc:postgresql://h:x/d'}\n", "Postgres.Url has a port (host 1)"),
        ("Postgres: {Url: 'postgresql://h/d?sslmod=x'}\n", "did you mean sslmode?"),
        ("ArchiveGroups: [{Name: a}, {Name: A}]\n", "ArchiveGroups[0].Name a is the name of"),
        ("ArchiveGroups: [{Name: a, TopicFilter: ['a/#/b']}]\n", "ArchiveGroups[0].TopicFilter[0]"),
        (
            f"ArchiveGroups: [{{Name: a, TopicFilter: ['x', '{'/' * 300}']}}]\n",
            "ArchiveGroups[0].TopicFilter[1]",
        ),
        ("Limits: {OutboxKb: 100}\n", "Limits.OutboxKb is 100, less than MaxMessageSizeKb and 1"),
        ("Limits: {PendingKbPerClient: 512}\n", "write 513 or more, or leave it out"),
        ("Limits: {CommitBacklogKb: 1}\n", "Limits.CommitBacklogKb is 1"),
        (
            "Limits: {InFlightPerClient: 10, PendingMessagesPerClient: 9}\n",
            "Limits.PendingMessagesPerClient is 9, less than Limits.InFlightPerClient",
        ),
    ],
)
def test_a_contradiction_is_refused_with_the_key_and_the_fix(text: str, problem: str) -> None:
    assert problem in refusal(SQLITE + text)


def test_a_name_used_three_times_is_told_once() -> None:
    text = "ArchiveGroups: [{Name: a}, {Name: A}, {Name: a}]\n"
    assert refusal(SQLITE + text).count("is the name of another group") == 1


def test_two_ports_that_are_off_do_not_clash() -> None:
    load(SQLITE + "WS: 0\nWSS: 0\nMetrics: {Enabled: false, Port: 1883}\n")


def test_every_store_that_a_cluster_cannot_share_is_named() -> None:
    group = "ArchiveGroups: [{Name: a, LastValType: SQLITE}, {Name: b, ArchiveType: SQLITE}]\n"
    message = refusal(SQLITE + group, cluster=True)
    assert "SessionStoreType is SQLITE, which processes do not share, and -cluster" in message
    assert "ArchiveGroups[0].LastValType is SQLITE" in message
    assert "ArchiveGroups[1].ArchiveType is SQLITE" in message
    assert "RetainedStoreType is MEMORY, which processes do not share, and -cluster" in message


def test_a_cluster_over_one_database_loads() -> None:
    assert load(STORES, cluster=True).cluster is True


# Warnings


def warnings(text: str) -> str:
    return "\n".join(load(text).warnings)


def test_a_quiet_configuration_has_no_warnings() -> None:
    assert warnings(QUIET) == ""
    assert warnings(QUIET.replace("127.0.0.1", "'::1'")) == ""
    assert warnings(QUIET.replace("127.0.0.1", "localhost")) == ""


@pytest.mark.parametrize("address", ["0.0.0.0", "'::'", "192.168.1.4", "broker.example"])
def test_an_open_interface_is_warned_of_while_there_is_no_authentication(address: str) -> None:
    assert "there is no authentication" in warnings(SQLITE.replace("127.0.0.1", address))


def test_required_client_certificates_are_an_authentication() -> None:
    text = (
        "TCP: 0\nTCPS: 8883\nSessionStoreType: SQLITE\nRetainedStoreType: SQLITE\n"
        "SQLite: {Path: x.db}\n"
        "TLS: {CertFile: c, ClientCaFile: ca, RequireClientCert: true}\n"
    )
    assert warnings(text) == ""
    assert "there is no authentication" in warnings(text.replace("TCP: 0", "TCP: 1883"))


def test_a_plain_port_beside_tls_is_warned_of_unless_only_this_machine_reaches_it() -> None:
    text = QUIET.replace("127.0.0.1", "0.0.0.0") + "TLS: {CertFile: c}\n"
    told = warnings(text + "TCPS: 8883\n")
    tcp = "TLS is configured, and plain MQTT is open on port 1883 as well; TCP: 0 closes it"
    assert tcp in told
    told = warnings(text + "TCP: 0\nWS: 9000\nWSS: 9001\n")
    assert "plain WebSocket is open on port 9000 as well; WS: 0 closes it" in told
    assert "plain MQTT" not in told
    for quiet in (text, text + "TCP: 0\nTCPS: 8883\n"):
        assert "TLS is configured" not in warnings(quiet)
    assert warnings(QUIET + "TCPS: 8883\nTLS: {CertFile: c}\n") == ""


def test_retained_messages_that_nobody_said_to_forget_are_warned_of() -> None:
    assert "RetainedStoreType is not set: retained messages are lost" in warnings(SQLITE)
    for said in ("RetainedStoreType: SQLITE\n", "RetainedStoreType: MEMORY\n"):
        assert warnings(SQLITE + said) == ""
    in_memory = SQLITE.replace("x.db", "':memory:'")
    assert "RetainedStoreType" not in warnings(in_memory)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("RetainedStoreType: POSTGRES\n", "RetainedStoreType is POSTGRES without Postgres.Url"),
        (
            "ArchiveGroups: [{Name: a, ArchiveType: CRATEDB}]\nCrateDB: {User: me}\n",
            "ArchiveGroups[0].ArchiveType is CRATEDB without CrateDB.Url: using jdbc:postgresql",
        ),
        ("RetainedStoreType: MONGODB\n", "without MongoDB.Url: using mongodb://localhost:27017"),
        (
            "ArchiveGroups: [{Name: a, ArchiveType: KAFKA}]\n",
            "without Kafka.Servers: using localhost:9092",
        ),
        (
            "Postgres: {Url: 'jdbc:postgresql://h/d?reWriteBatchedInserts=true'}\n",
            "Postgres.Url: reWriteBatchedInserts means nothing to this broker",
        ),
        ("QueuedMessagesEnabled: false\n", "QoS 1 and 2 messages are lost to sessions"),
        ("ArchiveGroups: [{Name: a}]\n", "ArchiveGroups[0] (a) keeps nothing"),
    ],
)
def test_what_may_surprise_is_warned_of(text: str, warning: str) -> None:
    assert warning in warnings(SQLITE + text)


def test_sqlite_without_a_path_and_in_memory_is_warned_of() -> None:
    bare = "BindAddress: 127.0.0.1\nSessionStoreType: SQLITE\n"
    assert "without SQLite.Path: using monstermq.db" in warnings(bare)
    assert "nothing survives a restart" in warnings(bare + "SQLite: {Path: ':memory:'}\n")


def test_a_disabled_group_needs_nothing() -> None:
    group = "ArchiveGroups: [{Name: a, Enabled: false, ArchiveType: CRATEDB}]\n"
    loaded = load(QUIET + group)
    assert loaded.warnings == ()
    assert unsupported(loaded) == []


# What this release can run


def test_the_embedded_default_runs() -> None:
    loaded = load_config(None, {})
    assert unsupported(loaded) == []
    assert check_runnable(loaded) == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("RetainedStoreType: HAZELCAST\n", "RetainedStoreType: HAZELCAST"),
        ("RetainedStoreType: MONGODB\n", "RetainedStoreType: MONGODB"),
        (
            "ArchiveGroups: [{Name: a, LastValType: CRATEDB}]\n",
            "ArchiveGroups[0].LastValType: CRATEDB",
        ),
        (
            "ArchiveGroups: [{Name: a, ArchiveType: MONGODB}]\n",
            "ArchiveGroups[0].ArchiveType: MONGODB",
        ),
    ],
)
def test_what_this_release_cannot_run_loads_and_is_refused_at_start(text: str, key: str) -> None:
    loaded = load(SQLITE + text)
    (message,) = unsupported(loaded)
    assert message.startswith(key)
    assert "not available in this release" in message
    with pytest.raises(ConfigError, match="not available in this release"):
        check_runnable(loaded)


def test_a_cluster_is_refused_at_start() -> None:
    loaded = load(STORES, cluster=True)
    assert any(message.startswith("-cluster") for message in unsupported(loaded))
    with pytest.raises(ConfigError, match="-cluster is not available"):
        check_runnable(loaded)


def test_the_broker_starts_without_sparkplug_and_says_so() -> None:
    loaded = load(SQLITE + "SparkplugMetricExpansion: {Enabled: true}\n")
    missing = check_runnable(loaded)
    assert [message.partition(":")[0] for message in missing] == [
        "SparkplugMetricExpansion.Enabled"
    ]
    assert unsupported(loaded) == missing


@pytest.mark.parametrize("port", ["TCPS", "WSS"])
def test_a_tls_port_without_a_certificate_is_refused_at_start_with_what_to_do(port: str) -> None:
    loaded = load(SQLITE + f"{port}: 8883\n")
    with pytest.raises(ConfigError) as caught:
        check_runnable(loaded)
    message = str(caught.value)
    assert message.startswith(f"{port}: a TLS port needs a certificate; set TLS.CertFile")
    assert "keytool -importkeystore" in message
    certified = load(SQLITE + f"{port}: 8883\nTLS: {{KeyStore: a.p12}}\n")
    assert check_runnable(certified) == []


# Limits


def test_default_limits_hang_together_at_every_message_size() -> None:
    for size_kb in (1, 512, 262_143):
        assert broken_relations(fitted(Limits(), size_kb), size_kb) == []


def test_a_limit_somebody_set_is_not_raised() -> None:
    assert fitted(Limits(outbox_kb=5), 100).outbox_kb == 5


def test_models_can_be_made_with_their_python_names() -> None:
    config = BrokerConfig(
        session_store_type=embedded_default().session_store_type, limits=Limits(connections=5)
    )
    assert config.limits.connections == 5
