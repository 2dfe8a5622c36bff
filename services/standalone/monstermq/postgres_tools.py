"""PostgreSQL's own tools for backups: the lines that the ``db`` commands tell to type."""

import re
from pathlib import Path
from shlex import join
from urllib.parse import quote, urlencode

from monstermq_shared.config.postgres_urls import ConnectionSettings, Host, SslMode, TlsSettings

_FIRST_SCHEMA = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^,"]*))')


def dump_command(settings: ConnectionSettings, target: Path) -> str:
    """Return the line that copies the database into a file, also while a broker runs on it.

    Where the URL names a schema, only that: the others may be somebody else's.
    """
    schema = _schema(settings)
    # A pattern here, and a name at pg_restore.
    only = ['--schema="{}"'.format(schema.replace('"', '""'))] if schema else []
    options = ["--format=custom", *only, f"--file={target}"]
    return join(["pg_dump", *options, f"--dbname={address(settings)}"])


def restore_command(settings: ConnectionSettings, backup: Path) -> str:
    """Return the line that replaces the tables by those of a copy, in one transaction."""
    schema = _schema(settings)
    # Without it the schema itself would be made again, which only the database's owner may do.
    only = [f"--schema={schema}"] if schema else []
    options = ["--clean", "--if-exists", "--no-owner", "--single-transaction", *only]
    return join(["pg_restore", *options, f"--dbname={address(settings)}", str(backup)])


def _schema(settings: ConnectionSettings) -> str:
    """Return the first schema of the search path, empty where the server decides."""
    found = _FIRST_SCHEMA.match(settings.search_path)
    if found is None:
        return ""
    quoted, plain = found["quoted"], found["plain"]
    schema = plain.strip().lower() if quoted is None else quoted.replace('""', '"')
    return settings.user if schema == "$user" else schema


def address(settings: ConnectionSettings) -> str:
    """Return where the database is as libpq, and so its tools, read it; never a password."""
    hosts = ",".join(map(_authority, settings.hosts))
    parameters = _tls_parameters(settings.tls)
    if len(settings.hosts) > 1:
        parameters["target_session_attrs"] = "read-write"
    if settings.options:
        parameters["options"] = settings.options
    # quote_via, because libpq does not take + for a space.
    query = "?" + urlencode(parameters, safe="/", quote_via=quote) if parameters else ""
    return f"postgresql://{_escaped(settings.user)}@{hosts}/{_escaped(settings.database)}{query}"


def _authority(host: Host) -> str:
    name = f"[{_escaped(host.name, ':')}]" if ":" in host.name else _escaped(host.name)
    return f"{name}:{host.port}"


def _escaped(text: str, safe: str = "") -> str:
    return quote(text, safe=safe)


def _tls_parameters(tls: TlsSettings) -> dict[str, str]:
    parameters: dict[str, str] = {}
    if tls.mode is not SslMode.PREFER:
        parameters["sslmode"] = str(tls.mode)
    if tls.ca_file:
        parameters["sslrootcert"] = tls.ca_file
    elif tls.mode is SslMode.VERIFY_FULL:
        parameters["sslrootcert"] = "system"
    if tls.cert_file:
        parameters["sslcert"] = tls.cert_file
    if tls.key_file:
        parameters["sslkey"] = tls.key_file
    return parameters
