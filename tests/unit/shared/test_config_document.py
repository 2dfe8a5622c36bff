"""YAML as values: where it stands in errors, and what hostile text cannot do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.config.document import NODES_MAX, read_document, read_value
from monstermq_shared.errors import ConfigError


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_document(text, "c.yaml")
    return str(caught.value)


def test_values_come_with_the_line_they_are_written_on() -> None:
    document = read_document("TCP: 1883\n\nSQLite:\n  Path: x\nList: [a,\n  b]\n", "c.yaml")
    assert document.values == {"TCP": 1883, "SQLite": {"Path": "x"}, "List": ["a", "b"]}
    assert document.origin(("TCP",)) == "c.yaml:1"
    assert document.origin(("SQLite", "Path")) == "c.yaml:4"
    assert document.origin(("List", 1)) == "c.yaml:6"
    assert document.origin(("SQLite", "Nothing")) == "c.yaml:3"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1884", 1884),
        ("0x10", 16),
        ("1_000", 1000),
        ("yes", True),
        ("OFF", False),
        ("2.5", 2.5),
        ("'1884'", "1884"),
        ('"yes"', "yes"),
        ("NONE", "NONE"),
        ("2026-01-15", "2026-01-15"),
        ("7d", "7d"),
        ("|\n a\n b", "a\nb"),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_are_what_yaml_says_and_dates_stay_text(text: str, value: object) -> None:
    assert read_value(text, "v") == value


@pytest.mark.parametrize("text", ["", "\n# only a comment\n", "---\n", "~", "{}"])
def test_an_empty_document_has_no_values(text: str) -> None:
    assert read_document(text, "c.yaml").values == {}


def test_a_key_without_a_value_counts_as_absent() -> None:
    assert read_document("Queue:\n#  MaxBytes: 5\nTCP: 1\n", "c.yaml").values == {"TCP": 1}


@pytest.mark.parametrize("text", ["- a\n", "5", "text"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert refusal(text) == "c.yaml: must be keys and values, such as TCP: 1883"


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    problem = "c.yaml:3: TCP is already given at c.yaml:1; remove one of them"
    assert refusal("TCP: 1883\nWS: 0\nTCP: 1884\n") == problem
    assert refusal("TCP:\nTCP: 1884\n").startswith("c.yaml:2: TCP is already given")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("SQLite:\n\tPath: x\n", 2, "a tab cannot indent YAML; use spaces"),
        ("TCP: 1\nWS: [1, 2\n", 3, "is not valid YAML"),
        ("TCP: 1\n'WS: 2\n", 3, "is not valid YAML"),
        ("a: b: c\n", 1, "is not valid YAML"),
        ("TCP: 1\n--- \nWS: 1\n", 2, "is not valid YAML"),
        ("TCP: *nowhere\n", 1, "is not valid YAML"),
        ("TCP: 1\nWS: \0\n", 2, "is not allowed in YAML"),
        ("TCP: !!python/object/apply:os.system ['id']\n", 1, "remove it"),
        ("TCP: !!set {a: 1}\n", 1, "remove it"),
        ("TCP: !!python/name:os.system\n", 1, "is not supported; remove it"),
        ("TCP: !!int 'x'\n", 1, "is not supported; remove it"),
        ("TCP: !!timestamp x\n", 1, "is not supported; remove it"),
        ("TCP: 0b_\n", 1, "is not a number; put text in quotes"),
        (f"TCP: {'9' * 5000}\n", 1, "is not a number; put text in quotes"),
        ("? [a, b]\n: 1\n", 1, "a key must be a name"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str, line: int, problem: str) -> None:
    message = refusal(text)
    assert message.startswith(f"c.yaml:{line}: ")
    assert problem in message


def test_a_tree_of_aliases_is_refused_before_it_is_expanded() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert f"expands to more than {NODES_MAX} values" in refusal("\n".join(levels))


def test_an_alias_to_its_own_parent_is_refused() -> None:
    assert "expands to more than" in refusal("a: &a\n  b: *a\n")
    assert "expands to more than" in refusal("a: &a [*a, *a]\n")


def test_a_merge_key_cannot_multiply_anything() -> None:
    document = read_document("a: &a {x: 1}\nb:\n  <<: *a\n", "c.yaml")
    assert document.values["b"] == {"<<": {"x": 1}}


@pytest.mark.parametrize("text", ["[" * 50_000, "a: " + "{a: " * 50_000, "- " * 50_000 + "a"])
def test_deep_nesting_is_refused_without_recursion(text: str) -> None:
    assert "nested more than 20 levels deep" in refusal(text)


YAMLISH = st.text(alphabet="ab1:-?,[]{}&*!|>'\"%#@ \n\t~.<\0\x85\ufeff", max_size=80)


@given(YAMLISH | st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_config_error(text: str) -> None:
    try:
        document = read_document(text, "c.yaml")
    except ConfigError:
        return
    assert isinstance(document.values, dict)
