"""Environment variables that override the configuration: ``MONSTERMQ_SQLITE__PATH``.

Names are case-insensitive and may have single underscores between the words of a key; two
underscores go down into a section. Text is taken as it is, everything else is read as YAML.
"""

from collections.abc import Mapping
from enum import Enum
from typing import get_args, get_origin

from monstermq_shared.config.document import Document, Path, Value, read_value
from monstermq_shared.config.fields import Section, nearest, suggestion
from monstermq_shared.errors import ConfigError

PREFIX = "MONSTERMQ_"


def override(document: Document, environ: Mapping[str, str], model: type[Section]) -> list[str]:
    """Write the values of ``MONSTERMQ_...`` variables over those of ``document``.

    An empty variable counts as absent. One whose first part is no key is none of ours (Kubernetes
    sets MONSTERMQ_SERVICE_HOST for a service called monstermq): it is ignored with a warning,
    which is returned.

    Raises:
        ConfigError: A variable names no key of its section, or the key of another variable.
    """
    warnings = []
    claimed: dict[Path, str] = {}
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX) or not environ[name]:
            continue
        parts = name[len(PREFIX) :].split("__")
        if _find_key(parts[0], model) is None:
            meant = nearest(parts[0], _keys(model))
            hint = f"; did you mean {PREFIX}{meant.upper()}?" if meant else ""
            warnings.append(f"{name} is ignored: {parts[0]} is not a key{hint}")
            continue
        path, annotation = _resolve(name, parts, model)
        if path in claimed:
            raise ConfigError(f"{claimed[path]} and {name} set the same key; remove one of them")
        claimed[path] = name
        _write(document, path, _read(environ[name], name, annotation), name)
    return warnings


def _keys(model: type[Section]) -> dict[str, object]:
    """Return YAML key -> type of a section's fields."""
    return {str(field.alias): field.annotation for field in model.model_fields.values()}


def _find_key(part: str, model: type[Section]) -> str | None:
    wanted = part.replace("_", "").casefold()
    return next((key for key in _keys(model) if key.casefold() == wanted), None)


def _resolve(name: str, parts: list[str], model: type[Section]) -> tuple[Path, object]:
    """Return the path a variable names, and the type of the value there."""
    path: Path = ()
    annotation: object = model
    for part in parts:
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            raise ConfigError(f"{name}: {'.'.join(map(str, path))} has no keys of its own")
        key = _find_key(part, annotation)
        if key is None:
            where = ".".join(map(str, path))
            hint = suggestion(part, _keys(annotation))
            raise ConfigError(f"{name}: {part} is not a key of {where}{hint}")
        annotation = _keys(annotation)[key]
        path = (*path, key)
    return path, annotation


def _read(text: str, name: str, annotation: object) -> Value:
    return read_value(text, name) if _is_yaml(annotation) else text


def _is_yaml(annotation: object) -> bool:
    """Whether a value of this type is written as YAML rather than as plain text."""
    if get_origin(annotation) in {tuple, dict}:
        return True
    if isinstance(annotation, type):
        yaml_types = (bool, int, float, Section)
        return issubclass(annotation, yaml_types) and not issubclass(annotation, Enum)
    return any(_is_yaml(member) for member in get_args(annotation))


def _write(document: Document, path: Path, value: Value, name: str) -> None:
    section = document.values
    for key in path[:-1]:
        child = section.setdefault(str(key), {})
        if not isinstance(child, dict):
            raise ConfigError(f"{document.origin(path)}: {key} must be keys and values")
        section = child
    section[str(path[-1])] = value
    document.origins = {
        known: origin for known, origin in document.origins.items() if known[: len(path)] != path
    }
    document.origins[path] = name
