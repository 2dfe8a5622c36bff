"""What a configuration may not say together, and what is allowed and may still surprise."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from monstermq_shared.config.addresses import is_loopback
from monstermq_shared.config.fields import Section, StoreType, yaml_name
from monstermq_shared.config.kafka_checks import kafka_problems, kafka_warnings
from monstermq_shared.config.limits import broken_relations
from monstermq_shared.config.mcp import mcp_problems, mcp_warnings
from monstermq_shared.config.postgres_urls import ConnectionSettings, parse_url
from monstermq_shared.config.sections import BrokerConfig, enabled_groups, group_path
from monstermq_shared.config.validation import refuse
from monstermq_shared.errors import ConfigError, InvalidTopic
from monstermq_shared.topics import check_topic_filter

# The section of each kind of database, and the key in it that says where it is.
_CONNECTIONS = {
    StoreType.POSTGRES: ("postgres", "url"),
    StoreType.CRATEDB: ("cratedb", "url"),
    StoreType.MONGODB: ("mongodb", "url"),
    StoreType.SQLITE: ("sqlite", "path"),
    StoreType.KAFKA: ("kafka", "servers"),
}


def check_consistent(config: BrokerConfig, *, cluster: bool) -> None:
    """Refuse a configuration that contradicts itself.

    Args:
        config: What the file says.
        cluster: Whether ``-cluster`` was given.

    Raises:
        ConfigError: One line for each contradiction, with the key and the fix.
    """
    problems = list(_port_problems(config))
    problems += _tls_problems(config)
    problems += _group_problems(config)
    problems += _url_problems(config)
    problems += _sharing_problems(config, cluster=cluster)
    problems += kafka_problems(config)
    problems += mcp_problems(config.mcp, [group.name for _, group in enabled_groups(config)])
    problems += broken_relations(config.limits, config.max_message_size_kb)
    refuse(problems)


def warnings_of(config: BrokerConfig) -> list[str]:
    """Return what is allowed and may still surprise, one sentence each."""
    warnings = []
    certified = config.tls.require_client_cert and not (config.tcp or config.ws)
    if not certified and not is_loopback(config.bind_address):
        warnings.append(
            f"there is no authentication: whoever reaches {config.bind_address} can read and write "
            "every topic; set BindAddress: 127.0.0.1, or let a firewall decide"
        )
    warnings += _plain_beside_tls(config)
    warnings += _default_connections(config)
    warnings += _ignored_parameters(config)
    warnings += _forgotten_retained_store(config)
    if config.session_store_type is StoreType.SQLITE and config.sqlite.in_memory:
        warnings.append("SQLite.Path is :memory:, so nothing survives a restart")
    if not config.queued_messages_enabled:
        warnings.append(
            "QueuedMessagesEnabled is false: QoS 1 and 2 messages are lost to sessions that are "
            "offline, and acknowledged at once"
        )
    warnings += [
        f"{path} ({group.name}) keeps nothing: set LastValType, ArchiveType or both"
        for path, group in enabled_groups(config)
        if group.last_val_type is StoreType.NONE and group.archive_type is StoreType.NONE
    ]
    warnings += mcp_warnings(config.mcp, config.bind_address)
    return [*warnings, *kafka_warnings(config)]


def stores_of(config: BrokerConfig) -> Iterator[tuple[str, StoreType]]:
    """Yield (key, type) of every store that would be opened."""
    yield "SessionStoreType", config.session_store_type
    yield "RetainedStoreType", config.retained_store_type
    for path, group in enabled_groups(config):
        yield f"{path}.LastValType", group.last_val_type
        yield f"{path}.ArchiveType", group.archive_type


def _port_problems(config: BrokerConfig) -> Iterator[str]:
    ports = {"TCP": config.tcp, "WS": config.ws, "TCPS": config.tcps, "WSS": config.wss}
    if not any(ports.values()):
        yield "TCP, WS, TCPS and WSS are all 0, so nobody can connect: give one of them a port"
    if config.mcp.enabled:
        ports["MCP.Port"] = config.mcp.port
    if config.metrics.enabled:
        ports["Metrics.Port"] = config.metrics.port
    if config.kafka.bus.enabled:
        ports["Projector.Port"] = config.projector.port
    users: dict[int, list[str]] = {}
    for key, port in ports.items():
        users.setdefault(port, []).append(key)
    for port, keys in users.items():
        if port and len(keys) > 1:
            yield f"{' and '.join(keys)} are both {port}: give each a port of its own"


def _tls_problems(config: BrokerConfig) -> Iterator[str]:
    tls = config.tls
    if tls.key_store and (tls.cert_file or tls.key_file):
        yield "TLS.KeyStore stands beside TLS.CertFile or TLS.KeyFile: write one or the other"
    if tls.key_file and not tls.cert_file:
        yield "TLS.KeyFile needs TLS.CertFile"
    if tls.require_client_cert and not tls.client_ca_file:
        yield "TLS.RequireClientCert needs TLS.ClientCaFile, which says whose signature counts"
    if tls.key_store and tls.key_store.lower().endswith(".jks"):
        yield (
            "TLS.KeyStore is a JKS file; make it PKCS#12 with: keytool -importkeystore "
            f"-srckeystore {tls.key_store} -destkeystore {tls.key_store[:-4]}.p12 "
            "-deststoretype PKCS12"
        )


def _group_problems(config: BrokerConfig) -> Iterator[str]:
    # Table names are folded to one case by most databases.
    names = Counter(group.name.casefold() for group in config.archive_groups)
    for index, group in enumerate(config.archive_groups):
        if names.pop(group.name.casefold(), 1) > 1:
            yield (
                f"{group_path(index)}.Name {group.name} is the name of another group too "
                "(case does not count): rename one of them"
            )
        for position, topic_filter in enumerate(group.topic_filter):
            try:
                check_topic_filter(topic_filter, levels_max=config.limits.topic_levels)
            except InvalidTopic as exc:
                yield f"{group_path(index)}.TopicFilter[{position}]: {exc}"


def postgres_connection(config: BrokerConfig) -> ConnectionSettings:
    """Return how the PostgreSQL server is reached, as the section Postgres says.

    Raises:
        ConfigError: ``Postgres.Url`` cannot be read.
    """
    section = config.postgres
    return parse_url(section.url, user=section.user, password=section.password.get_secret_value())


def reading_connection(config: BrokerConfig) -> ConnectionSettings | None:
    """Return how PostgreSQL is reached for SQL of others, as ``Postgres.ReadUser``.

    Returns:
        None if there is no such role.

    Raises:
        ConfigError: ``Postgres.Url`` cannot be read.
    """
    section = config.postgres
    if section.read_user is None:
        return None
    password = section.read_pass.get_secret_value()
    return replace(postgres_connection(config), user=section.read_user, password=password)


def _url_problems(config: BrokerConfig) -> Iterator[str]:
    try:
        connection = postgres_connection(config)
    except ConfigError as exc:
        yield str(exc)
        return
    if config.postgres.read_user == connection.user:
        yield (
            f"Postgres.ReadUser {connection.user} is the role that writes, and SQL of others is "
            "for one that can only read: name another, which monstermq db init makes"
        )


def _sharing_problems(config: BrokerConfig, *, cluster: bool) -> Iterator[str]:
    """Yield where a store that belongs to one process would have to be shared."""
    if not (cluster or config.kafka.bus.enabled):
        return
    reason = "-cluster" if cluster else "Kafka.Bus.Enabled"
    way_out = "start without -cluster" if cluster else "set Kafka.Bus.Enabled to false"
    for key, store in stores_of(config):
        private = store is StoreType.MEMORY and key == "RetainedStoreType"
        if store is StoreType.SQLITE or private:
            yield (
                f"{key} is {store}, which processes do not share, and {reason} means several of "
                f"them: use POSTGRES, or {way_out}"
            )


def _plain_beside_tls(config: BrokerConfig) -> Iterator[str]:
    """Yield a warning for each port that lets others do without the TLS that is configured."""
    if not (config.tcps or config.wss) or is_loopback(config.bind_address):
        return
    for key, port, what in (("TCP", config.tcp, "MQTT"), ("WS", config.ws, "WebSocket")):
        if port:
            yield (
                f"TLS is configured, and plain {what} is open on port {port} as well; "
                f"{key}: 0 closes it"
            )


def _forgotten_retained_store(config: BrokerConfig) -> Iterator[str]:
    """Yield a warning if sessions are kept and retained messages only by the default are not."""
    sessions_kept = not (config.session_store_type is StoreType.SQLITE and config.sqlite.in_memory)
    if sessions_kept and "retained_store_type" not in config.model_fields_set:
        yield (
            "RetainedStoreType is not set: retained messages are lost at a restart; "
            f"write {config.session_store_type}, or MEMORY if that is meant"
        )


def _default_connections(config: BrokerConfig) -> Iterator[str]:
    """Yield a warning for each database that is used and not told where it is."""
    used: dict[StoreType, str] = {}
    for key, store in stores_of(config):
        used.setdefault(store, f"{key} is {store}")
    if config.kafka.bus.enabled:
        used[StoreType.KAFKA] = "Kafka.Bus.Enabled is true"
    elif config.kafka.ingress:
        used.setdefault(StoreType.KAFKA, "Kafka.Ingress is set")
    for store, (section, attribute) in _CONNECTIONS.items():
        connection: Section = getattr(config, section)
        if store in used and attribute not in connection.model_fields_set:
            key = f"{yaml_name(section)}.{yaml_name(attribute)}"
            yield f"{used[store]} without {key}: using {getattr(connection, attribute)}"


def _ignored_parameters(config: BrokerConfig) -> Iterator[str]:
    """Yield a warning if the URL tunes a driver that we are not."""
    ignored = postgres_connection(config).ignored
    if ignored:
        yield (
            f"Postgres.Url: {', '.join(ignored)} means nothing to this broker, whose driver is not "
            "the JDBC one; leave it out"
        )
