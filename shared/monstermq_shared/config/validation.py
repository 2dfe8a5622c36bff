"""From plain values to a ``BrokerConfig``, with errors a person can act on."""

from collections.abc import Iterator
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from monstermq_shared.config.document import Document, Path, Value
from monstermq_shared.config.fields import Section, suggestion
from monstermq_shared.config.sections import BrokerConfig
from monstermq_shared.errors import ConfigError

PROBLEMS_SHOWN_MAX = 20

_MISSING = {
    "SessionStoreType": "is missing; write SQLITE (needs no server), POSTGRES, CRATEDB or MONGODB",
    "Name": "is missing; every archive group needs one, its tables are named after it",
}

_EXPLANATIONS = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "is empty; write a value or leave the key out",
    "tuple_type": 'must be a list, such as [ "a", "b" ]',
    "dict_type": "must be keys and values",
    "model_type": "must be keys and values",
    "model_attributes_type": "must be keys and values",
}


def validate(document: Document) -> BrokerConfig:
    """Build the configuration from the values of a document.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of the wrong type or out of its
            range; one line for each, with where it is written.
    """
    refuse(list(_unknown_keys(document, document.values, BrokerConfig, ())))
    try:
        return BrokerConfig.model_validate(document.values)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        refuse([_explained(document, error) for error in errors])
        raise


def refuse(problems: list[str]) -> None:
    """Raise a ConfigError that lists the problems, if there are any.

    Raises:
        ConfigError: There are.
    """
    if problems:
        shown = problems[:PROBLEMS_SHOWN_MAX]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise ConfigError("\n".join(shown))


def path_text(path: Path) -> str:
    """Write a path as people do: ``ArchiveGroups[0].Name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _unknown_keys(
    document: Document, values: Value, model: type[Section], path: Path
) -> Iterator[str]:
    if not isinstance(values, dict):
        return  # pydantic says so
    fields = {str(field.alias): field.annotation for field in model.model_fields.values()}
    for key, value in values.items():
        here = (*path, key)
        if key not in fields:
            hint = suggestion(key[:80], fields)
            yield f"{_prefix(document, here)}{path_text(here)[:200]} is not a key{hint}"
        elif (section := _section(fields[key])) is not None:
            if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from _unknown_keys(document, item, section, (*here, index))
            else:
                yield from _unknown_keys(document, value, section, here)


def _section(annotation: object) -> type[Section] | None:
    """Return the model of a section, or of a list of sections."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _prefix(document: Document, path: Path) -> str:
    origin = document.origin(path)
    return f"{origin}: " if origin else ""


def _explained(document: Document, error: ErrorDetails) -> str:
    path: Path = error["loc"]
    kind = error["type"]
    if kind == "missing":
        problem = _MISSING[str(path[-1])]
    else:
        problem = _EXPLANATIONS.get(kind) or _in_our_words(error["msg"])
    return f"{_prefix(document, path)}{path_text(path)} {problem}"


def _in_our_words(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")
