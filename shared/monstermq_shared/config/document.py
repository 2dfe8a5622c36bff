"""YAML text as plain values, with where each of them was written. Accepts hostile text.

``yaml.SafeLoader`` parses; building the values is ours, because the stock constructor lets a later
duplicate key win in silence, forgets the lines, and expands aliases without a bound.
"""

from dataclasses import dataclass
from typing import TypeAlias

import yaml

from monstermq_shared.errors import ConfigError

FILE_SIZE_MAX = 1024 * 1024
"""Bytes of a configuration file."""
NODES_MAX = 20_000
"""Values in a document after its aliases are expanded."""
DEPTH_MAX = 20
"""Levels of nesting."""

_STANDARD_TAGS = "tag:yaml.org,2002:"

Path = tuple[str | int, ...]
"""The keys and list indexes that lead to a value."""

Value: TypeAlias = "dict[str, Value] | list[Value] | str | int | float | bool | None"
"""What YAML can say here."""


@dataclass(slots=True)
class Document:
    """Plain values, and where each was written ("config.yaml:3"), by path.

    A key without a value counts as absent, so that the children of a section can be commented out.
    """

    values: dict[str, Value]
    origins: dict[Path, str]

    def origin(self, path: Path) -> str:
        """Return where the value at ``path`` was written, or the section it belongs to."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, "")

    def decides(self, path: Path) -> bool:
        """Whether, merged over others, it says what is at ``path``.

        Mappings are merged, so their absent keys are the others' to say; anything else replaces
        what the others have, with all below it.
        """
        value: Value = self.values
        for key in path:
            if not isinstance(value, dict):
                return True
            if key not in value:
                return False
            value = value[str(key)]
        return True


def read_document(text: str, name: str) -> Document:
    """Read a YAML mapping; ``name`` stands before the line number in errors and origins.

    Raises:
        ConfigError: It is not YAML, not a mapping, repeats a key, or is larger than the bounds.
    """
    builder = _Builder(name)
    values = builder.read(text)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: must be keys and values, such as TCP: 1883")
    return Document(values, builder.origins)


def read_value(text: str, name: str) -> Value:
    """Read any YAML value, such as the text of an environment variable called ``name``.

    Raises:
        ConfigError: As for ``read_document``.
    """
    return _Builder(name).read(text)


class _Loader(yaml.SafeLoader):
    """A SafeLoader whose composer is bounded in depth, before its own recursion is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            # types-PyYAML leaves the parser's methods untyped.
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {DEPTH_MAX} levels deep", mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    """Turns the nodes of one document into values."""

    def __init__(self, name: str) -> None:
        self.origins: dict[Path, str] = {}
        self._name = name
        self._nodes = 0

    def read(self, text: str) -> Value:
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            return None if node is None else self._build(loader, node, ())
        except yaml.MarkedYAMLError as exc:
            line = exc.problem_mark.line + 1 if exc.problem_mark else 1
            raise ConfigError(f"{self._name}:{line}: {_explained(exc)}") from exc
        except yaml.reader.ReaderError as exc:
            line = text.count("\n", 0, exc.position) + 1
            problem = f"the character {text[exc.position]!r} is not allowed in YAML"
            raise ConfigError(f"{self._name}:{line}: {problem}") from exc

    def _build(self, loader: _Loader, node: yaml.Node, path: Path) -> Value:
        self._nodes += 1
        # An alias can stand for its own parent, or for a tree of aliases that doubles each level.
        if self._nodes > NODES_MAX or len(path) > DEPTH_MAX:
            raise self._refusal(node, f"expands to more than {NODES_MAX} values")
        self.origins[path] = f"{self._name}:{node.start_mark.line + 1}"
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, f"{_STANDARD_TAGS}map")
            return self._build_mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, f"{_STANDARD_TAGS}seq")
            return [
                self._build(loader, child, (*path, index)) for index, child in enumerate(node.value)
            ]
        return self._build_scalar(loader, node)

    def _build_mapping(
        self, loader: _Loader, node: yaml.MappingNode, path: Path
    ) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._refusal(key_node, "a key must be a name")
            key = key_node.value
            here = (*path, key)
            if here in self.origins:
                raise self._refusal(
                    key_node, f"{key} is already given at {self.origins[here]}; remove one of them"
                )
            value = self._build(loader, value_node, here)
            self.origins[here] = f"{self._name}:{key_node.start_mark.line + 1}"
            if value is not None:
                values[key] = value
        return values

    def _build_scalar(self, loader: _Loader, node: yaml.Node) -> Value:
        plain: str = loader.resolve(  # type: ignore[no-untyped-call]  # as above
            yaml.ScalarNode, node.value, (True, False)
        )
        quoted = isinstance(node, yaml.ScalarNode) and node.style
        tag = f"{_STANDARD_TAGS}str" if quoted else plain
        self._check_tag(node, tag)
        try:
            match tag.removeprefix(_STANDARD_TAGS):
                case "null":
                    return None
                case "bool" | "int" | "float":
                    number: bool | int | float = loader.construct_object(node)
                    return number
                case _:  # a date is text to us
                    return str(node.value)
        except (ValueError, OverflowError) as exc:
            raise self._refusal(node, "is not a number; put text in quotes") from exc

    def _check_tag(self, node: yaml.Node, implied: str) -> None:
        if node.tag != implied:
            raise self._refusal(node, f"the tag {node.tag[:80]} is not supported; remove it")

    def _refusal(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{self._name}:{node.start_mark.line + 1}: {problem}")


def _explained(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong in one line, with the fix where PyYAML's own words hide it."""
    problem = error.problem or error.context or "is not YAML"
    if "'\\t'" in problem:
        return "a tab cannot indent YAML; use spaces"
    return f"is not valid YAML: {problem}"
