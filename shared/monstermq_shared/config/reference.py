"""The JSON Schema and the reference table of the configuration, generated from its models.

``python -m monstermq_shared.config.reference`` writes both (``scripts/write-schemas``).
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.json_schema import GenerateJsonSchema

from monstermq_shared.config.durations import format_duration
from monstermq_shared.config.kafka_names import CONSUMER, PRODUCER
from monstermq_shared.config.sections import BrokerConfig

SCHEMA_FILE = Path("schemas/settings.json")
REFERENCE_FILE = Path("docs/configuration.md")

_BEGIN = "<!-- keys: written by scripts/write-schemas -->\n"
_END = "<!-- end of keys -->\n"

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Writes defaults as a configuration file does, and no titles made from names."""

    def encode_default(self, dft: object) -> Any:  # noqa: ANN401 - pydantic's signature
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, SecretStr):
            return dft.get_secret_value()
        return super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - likewise
        return False


def settings_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a configuration file, for editors."""
    schema = _plain_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "MonsterMQ configuration"
    schema["properties"]["TPCS"] = {
        **schema["properties"]["TCPS"],
        "deprecated": True,
        "description": "An old misspelling of TCPS; write TCPS.",
    }
    return schema


def render_schema() -> str:
    """Return the text of ``schemas/settings.json``."""
    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"


def render_reference(document: str) -> str:
    """Return ``docs/configuration.md`` with its tables of keys replaced by the current ones.

    Raises:
        ValueError: The document has lost the comments between which they stand.
    """
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{REFERENCE_FILE} has no {_BEGIN.strip()} ... {_END.strip()}")
    return "".join((before, begin, "\n", "\n".join(_tables()), "\n", end, after))


def _plain_schema() -> Schema:
    schema = BrokerConfig.model_json_schema(by_alias=True, schema_generator=_Generator)
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"].values():
            # What a section is by default, its own keys say.
            if "$ref" in field:
                del field["default"]
    return schema


def _tables() -> Iterator[str]:
    """Yield the lines of one table for the top level, one for each section, and Kafka's names."""
    schema = _plain_schema()
    definitions: Schema = schema["$defs"]
    waiting = [("Top level", schema)]
    while waiting:
        title, section = waiting.pop(0)
        yield from (f"### {title}", "", "| key | type | default | meaning |", "|---|---|---|---|")
        for key, field in section["properties"].items():
            reference, suffix = _reference(field)
            kind = "section" if reference else _type_text(field)
            if reference:
                path = f"{key}{suffix}" if title == "Top level" else f"{title}.{key}{suffix}"
                waiting.append((path, definitions[reference]))
                kind = "list of sections" if suffix else kind
            required = key in section.get("required", ())
            default = "required" if required else _default_text(field, reference)
            meaning = " ".join(field["description"].split())
            yield f"| `{key}` | {kind} | {default} | {meaning} |"
        yield ""
    for names in (PRODUCER, CONSUMER):
        yield from (f"### {names.path}", "", "| name | value | meaning |", "|---|---|---|")
        for name, known in names.known.items():
            yield f"| `{name}` | {known.values.text} | {known.meaning} |"
        yield ""


def _reference(field: Schema) -> tuple[str | None, str]:
    """Return the definition a field is made of, and "[]" if it is a list of them."""
    suffix = "[]" if field.get("type") == "array" else ""
    target = field.get("items", {}) if suffix else field
    reference: str | None = target.get("$ref")
    return (reference.rpartition("/")[2] if reference else None), suffix


def _type_text(field: Schema) -> str:
    """Describe the type and range of a field in a table cell."""
    options: list[Schema] = field.get("anyOf") or field.get("oneOf") or []
    for option in options:
        if option.get("type") != "null":
            return _type_text(option)
    if "enum" in field:
        return ", ".join(f"`{name}`" for name in field["enum"])
    kind = str(field.get("type", "any"))
    if field.get("pattern", "").endswith("[smhdwMy]$"):
        return "duration"
    if kind == "array":
        return f"list of {_type_text(field['items'])}"
    names = {"string": "text", "boolean": "true or false", "object": "keys and values"}
    return names.get(kind, kind) + _range_text(field)


def _range_text(field: Schema) -> str:
    if "maximum" in field:
        return f" {field['minimum']} to {field['maximum']}"
    return f" from {field['minimum']}" if "minimum" in field else ""


def _default_text(field: Schema, reference: str | None) -> str:
    default = field.get("default")
    if reference or default is None:
        return ""
    if default in ([], {}):
        return "empty"
    text = default if isinstance(default, str) and default else json.dumps(default)
    return f"`{text}`"


def main() -> None:
    """Write the schema and the reference tables into the repository one stands in."""
    SCHEMA_FILE.write_text(render_schema(), encoding="utf-8")
    text = REFERENCE_FILE.read_text(encoding="utf-8")
    REFERENCE_FILE.write_text(render_reference(text), encoding="utf-8")


if __name__ == "__main__":
    main()
