"""Environment variables that override the configuration: ``MONSTERMQ_SQLITE__PATH``.

Names are case-insensitive and may have single underscores between the words of a key; two
underscores go down into a section. Text is taken as it is, everything else is read as YAML.

pydantic-settings merges what is read here. Its own environment source does not read it: that one
passes over what it does not know, lets one of two spellings win in silence, and forgets the name
by which a wrong value was given.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import get_args, get_origin

from monstermq_shared.config.document import Document, Value, read_value
from monstermq_shared.config.fields import Section, keys_of, nearest, suggestion
from monstermq_shared.config.sections import BrokerConfig
from monstermq_shared.errors import ConfigError

PREFIX = "MONSTERMQ_"

# Of a service called monstermq-metrics Kubernetes makes MONSTERMQ_METRICS_PORT=tcp://10.0.0.1:9464.
_KUBERNETES_VALUE = re.compile("(tcp|udp|sctp)://")


_TOKENS = {"mcptoken", "mcptokenfile", "mcpwritetoken", "mcpwritetokenfile"}


def read_environment(environ: Mapping[str, str]) -> tuple[list[Document], list[str]]:
    """Return a document for each ``MONSTERMQ_...`` variable, the one that wins first, and warnings.

    An empty variable counts as absent, unless it should have a token. One whose first part is not a
    key is not for us (Kubernetes sets MONSTERMQ_SERVICE_HOST for a service called monstermq): it is
    ignored with a warning.

    Raises:
        ConfigError: A variable for a token is empty, or one names no key of its section, the key of
            another variable, or a key with an underscore where two belong.
    """
    warnings = []
    found: dict[tuple[str, ...], Document] = {}
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX):
            continue
        if not environ[name]:
            _refuse_empty_token(name)
            continue
        parts = name[len(PREFIX) :].split("__")
        if _find_key(parts[0], BrokerConfig) is None:
            if _KUBERNETES_VALUE.match(environ[name]) is None:
                _check_underscores(name)
            meant = nearest(parts[0], keys_of(BrokerConfig))
            hint = f"; did you mean {PREFIX}{meant.upper()}?" if meant else ""
            warnings.append(f"{name} is ignored: {parts[0]} is not a key{hint}")
            continue
        path, annotation = _resolve(name, parts)
        if path in found:
            other = found[path].origin(path)
            raise ConfigError(f"{other} and {name} set the same key; remove one of them")
        value = read_value(environ[name], name) if _is_yaml(annotation) else environ[name]
        found[path] = _document(path, value, name)
    # A variable for one key wins over one for its whole section.
    return [found[path] for path in sorted(found, key=len, reverse=True)], warnings


def _refuse_empty_token(name: str) -> None:
    """Refuse what would leave open what was meant to be closed, as an unset variable elsewhere.

    Raises:
        ConfigError: The variable is one for a token.
    """
    if _squashed(name[len(PREFIX) :]) in _TOKENS:
        raise ConfigError(
            f"{name} is empty: give it a token, or unset it if none is to be asked for"
        )


def _squashed(name: str) -> str:
    return name.replace("_", "").casefold()


def _find_key(part: str, section: type[Section]) -> str | None:
    wanted = _squashed(part)
    return next((key for key in keys_of(section) if key.casefold() == wanted), None)


def _check_underscores(name: str) -> None:
    """Refuse a name that is a key of a section except for its underscores."""
    squashed = _squashed(name[len(PREFIX) :])
    for path in _paths_below(BrokerConfig, ()):
        if len(path) > 1 and _squashed("".join(path)) == squashed:
            meant = PREFIX + "__".join(path).upper()
            raise ConfigError(f"{name} is not a key; did you mean {meant} (two underscores)?")


def _paths_below(section: type[Section], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, annotation in keys_of(section).items():
        yield (*path, key)
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _paths_below(annotation, (*path, key))


def _resolve(name: str, parts: list[str]) -> tuple[tuple[str, ...], object]:
    """Return the path a variable names, and the type of the value there."""
    path: tuple[str, ...] = ()
    annotation: object = BrokerConfig
    for part in parts:
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            raise ConfigError(f"{name}: {'.'.join(path)} has no keys of its own")
        key = _find_key(part, annotation)
        if key is None:
            _check_underscores(name)
            hint = suggestion(part, keys_of(annotation))
            raise ConfigError(f"{name}: {part} is not a key of {'.'.join(path)}{hint}")
        annotation = keys_of(annotation)[key]
        path = (*path, key)
    return path, annotation


def _is_yaml(annotation: object) -> bool:
    """Whether a value of this type is written as YAML rather than as plain text."""
    if get_origin(annotation) in {tuple, dict}:
        return True
    if isinstance(annotation, type):
        yaml_types = (bool, int, float, Section)
        return issubclass(annotation, yaml_types) and not issubclass(annotation, Enum)
    return any(_is_yaml(member) for member in get_args(annotation))


def _document(path: tuple[str, ...], value: Value, name: str) -> Document:
    values: dict[str, Value] = {path[-1]: value}
    for key in reversed(path[:-1]):
        values = {key: values}
    return Document(values, {path: name})
