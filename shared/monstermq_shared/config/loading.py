"""Where a configuration comes from: a file, or the embedded default; then the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monstermq_shared.config.checks import check_consistent, warnings_of
from monstermq_shared.config.document import FILE_SIZE_MAX, Document, Value, read_document
from monstermq_shared.config.environment import read_environment
from monstermq_shared.config.limits import fitted
from monstermq_shared.config.sections import LOCALHOST, BrokerConfig
from monstermq_shared.config.validation import validate
from monstermq_shared.errors import ConfigError

FILE_VARIABLE = "GATEWAY_CONFIG"
"""The environment variable that names the file, as in the original."""
DEFAULT_FILE = "config.yaml"
"""The file in the working directory that is used if there is one."""

_RETENTION = "7d"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration that holds together, and what to say about it.

    Attributes:
        config: What it says.
        source: Where it comes from, for the log.
        warnings: Sentences to log.
        cluster: Whether ``-cluster`` was given.
    """

    config: BrokerConfig
    source: str
    warnings: tuple[str, ...]
    cluster: bool = False


def load_config(
    path: Path | None, environ: Mapping[str, str], *, cluster: bool = False
) -> LoadedConfig:
    """Read, override, validate.

    The file is ``path``, else the one GATEWAY_CONFIG names, else ``config.yaml`` in the working
    directory; without any, the embedded default. Variables ``MONSTERMQ_...`` override either.
    What comes back is consistent, and may still ask for what this release does not do: see
    ``check_runnable``.

    Raises:
        ConfigError: The file cannot be read, or the configuration is wrong; the message names the
            line or variable, the key and the fix.
    """
    file, source = _choose_file(path, environ)
    document = _embedded_document() if file is None else _read_file(file)
    warnings = _rename_tpcs(document)
    variables, ignored = read_environment(environ)
    config = _fit(validate(*variables, document))
    check_consistent(config, cluster=cluster)
    warnings += ignored + warnings_of(config)
    return LoadedConfig(config=config, source=source, warnings=tuple(warnings), cluster=cluster)


def embedded_default() -> BrokerConfig:
    """Return what runs without any file: TCP and WS on loopback, everything in SQLite."""
    return _fit(validate(_embedded_document()))


def _choose_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    if path is not None:
        return path, str(path)
    named = environ.get(FILE_VARIABLE)
    if named:
        return Path(named), f"{named} (from {FILE_VARIABLE})"
    if Path(DEFAULT_FILE).is_file():
        return Path(DEFAULT_FILE), f"{DEFAULT_FILE} (in the working directory)"
    return None, "the embedded default"


def _read_file(path: Path) -> Document:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_SIZE_MAX + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:  # a NUL in the name
        raise ConfigError(f"{path!r} is not a file name") from exc
    if len(data) > FILE_SIZE_MAX:
        raise ConfigError(f"{path}: larger than {FILE_SIZE_MAX} bytes; is this the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from exc
    return read_document(text, str(path))


def _embedded_document() -> Document:
    group: dict[str, Value] = {
        "Name": "MCP",
        "TopicFilter": ["#"],
        "LastValType": "SQLITE",
        "ArchiveType": "SQLITE",
        "LastValRetention": _RETENTION,
        "ArchiveRetention": _RETENTION,
    }
    values: dict[str, Value] = {
        "TCP": 1883,
        "WS": 9000,
        "BindAddress": LOCALHOST,
        "SessionStoreType": "SQLITE",
        "RetainedStoreType": "SQLITE",
        "SQLite": {"Path": "data/monstermq.db"},
        "ArchiveGroups": [group],
        "MCP": {"Enabled": True, "Port": 3000},
    }
    return Document(values, {})


def _rename_tpcs(document: Document) -> list[str]:
    """Take ``TPCS``, as three of the original's files spell it, for ``TCPS``."""
    if "TPCS" not in document.values:
        return []
    where = document.origin(("TPCS",))
    if "TCPS" in document.values:
        raise ConfigError(f"{where}: TPCS and TCPS are the same key; remove TPCS")
    document.values["TCPS"] = document.values.pop("TPCS")
    document.origins[("TCPS",)] = document.origins.pop(("TPCS",))
    return [f"{where}: TPCS is read as TCPS; write TCPS"]


def _fit(config: BrokerConfig) -> BrokerConfig:
    limits = fitted(config.limits, config.max_message_size_kb)
    return config if limits == config.limits else config.model_copy(update={"limits": limits})
