"""From documents to a ``BrokerConfig``, with errors a person can act on."""

import re
from collections.abc import Iterator
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from monstermq_shared.config.document import Document, Path, Value
from monstermq_shared.config.fields import Section, keys_of, nearest, suggestion
from monstermq_shared.config.sections import BrokerConfig
from monstermq_shared.errors import ConfigError

PROBLEMS_SHOWN_MAX = 20

_MISSING = {
    "SessionStoreType": "is missing; write SQLITE (needs no server), POSTGRES, CRATEDB or MONGODB",
    "Name": "is missing; every archive group needs one, its tables are named after it",
    "Topic": "is missing; write the Kafka topic to read",
}

# Of values of these kinds the error shows what was written (no secret is one of them), and what
# matches the pattern needs its quotes removed.
_SHOWN_KINDS = {
    "int_type": ("must be a whole number", "[+-]?[0-9]+"),
    "float_type": ("must be a number", r"[+-]?[0-9]+(\.[0-9]+)?"),
    "bool_type": ("must be true or false", "true|false|yes|no|on|off"),
}

_EXPLANATIONS = {
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
    refuse([problem for document in documents for problem in _Misplaced(document).problems()])
    try:
        return BrokerConfig.from_layers(*(document.values for document in documents))
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
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


class _Misplaced:
    """Finds keys that their section does not have, and plain values where a section belongs.

    Python names are not keys here, although pydantic takes them.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._listed: set[type[Section]] = set()

    def problems(self) -> Iterator[str]:
        """Yield a line for each."""
        return self._below(self._document.values, BrokerConfig, ())

    def _below(self, values: Value, section: type[Section], path: Path) -> Iterator[str]:
        if not isinstance(values, dict):
            yield f"{_prefix(self._document, path)}{path_text(path)} must be keys and values"
            return
        keys = keys_of(section)
        for key, value in values.items():
            here = (*path, key)
            if key not in keys:
                where = _prefix(self._document, here)
                yield f"{where}{path_text(here)[:200]} is not a key{self._hint(key, section)}"
            elif _is_section(keys[key]):
                yield from self._below(value, keys[key], here)
            elif isinstance(value, list):
                for item in filter(_is_section, get_args(keys[key])):
                    for index, child in enumerate(value):
                        yield from self._below(child, item, (*here, index))

    def _hint(self, key: str, section: type[Section]) -> str:
        """Return the nearest key, or, once for a section, which there are."""
        keys = keys_of(section)
        if nearest(key[:80], keys) is None:
            if section in self._listed:
                return ""
            self._listed.add(section)
        return suggestion(key[:80], keys)


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
    elif kind in _SHOWN_KINDS:
        must, plain = _SHOWN_KINDS[kind]
        problem = f"{must}, not {_shown(error['input'], plain)}"
    else:
        problem = _EXPLANATIONS.get(kind) or _in_our_words(error["msg"])
    # What nobody says is missing in the last one, which is the file.
    document = next((known for known in documents if known.decides(path)), documents[-1])
    return f"{_prefix(document, path)}{path_text(path)} {problem}"


def _shown(value: object, plain: str) -> str:
    """Describe a value as a file has it; ``plain`` matches texts that only quotes make texts."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            quoted = re.fullmatch(plain, value, re.IGNORECASE) is not None
            return f"the text {value[:40]!r}" + ("; remove the quotes" if quoted else "")
        case list():
            return "a list"
        case dict():
            return "keys and values"
        case _:
            return repr(value)[:40]


def _in_our_words(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")
