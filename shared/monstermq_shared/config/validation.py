"""From documents to a ``BrokerConfig``, with errors a person can act on."""

from collections.abc import Iterator
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from monstermq_shared.config.document import Document, Path, Value
from monstermq_shared.config.fields import Section, keys_of, suggestion
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
}


def validate(*documents: Document) -> BrokerConfig:
    """Build the configuration from documents, of which the first wins, key by key.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of the wrong type or out of its
            range; one line for each, with where it is written.
    """
    # Each by itself: merging would hide what a later one has in the place of a section.
    refuse(
        [
            problem
            for document in documents
            for problem in _misplaced(document, document.values, BrokerConfig, ())
        ]
    )
    try:
        return BrokerConfig.from_layers(*(document.values for document in documents))
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        refuse([_explained(documents, error) for error in errors])
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


def _misplaced(
    document: Document, values: Value, section: type[Section], path: Path
) -> Iterator[str]:
    """Yield the keys that ``section`` and those below it do not have, and sections that are none.

    Python names are no keys here, though pydantic takes them.
    """
    if not isinstance(values, dict):
        yield f"{_prefix(document, path)}{path_text(path)} must be keys and values"
        return
    keys = keys_of(section)
    for key, value in values.items():
        here = (*path, key)
        if key not in keys:
            hint = suggestion(key[:80], keys)
            yield f"{_prefix(document, here)}{path_text(here)[:200]} is not a key{hint}"
        elif _is_section(keys[key]):
            yield from _misplaced(document, value, keys[key], here)
        elif isinstance(value, list):
            for item in filter(_is_section, get_args(keys[key])):
                for index, child in enumerate(value):
                    yield from _misplaced(document, child, item, (*here, index))


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _prefix(document: Document, path: Path) -> str:
    origin = document.origin(path)
    return f"{origin}: " if origin else ""


def _explained(documents: tuple[Document, ...], error: ErrorDetails) -> str:
    path: Path = error["loc"]
    kind = error["type"]
    if kind == "missing":
        problem = _MISSING[str(path[-1])]
    else:
        problem = _EXPLANATIONS.get(kind) or _in_our_words(error["msg"])
    # What nobody says is missing in the last one, which is the file.
    document = next((known for known in documents if known.decides(path)), documents[-1])
    return f"{_prefix(document, path)}{path_text(path)} {problem}"


def _in_our_words(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")
