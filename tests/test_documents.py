"""The documents: links and anchors, files they name, sections that code cites, figures."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from tests.bench.__main__ import SCENARIOS
from tests.bench.model import Attack
from tests.bench.report import document_lines
from tests.support.repository import ROOT, repository_files

DOCUMENTS = [path for path in repository_files() if path.suffix == ".md"]
CODE = [path for path in repository_files() if path.suffix in {".py", ".sql"}]

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`]*`")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:")
FILE = re.compile(r"`([\w./-]+\.(?:py|sql|json|md|toml|txt|service|svg))`")
TABLE = re.compile(r"<!-- bench:begin -->\n(.*?)<!-- bench:end -->", re.DOTALL)
PLAN = re.compile(r"\b[A-Z]\.\d+(?![\w.])|\bdesign[.]md\b")
RULE = re.compile(r"\b[REPSVK][1-9]\d?\b")
EXPLAINED = re.compile(r"^\*\*([REPSVK]\d{1,2})\b", re.MULTILINE)
CITATION = re.compile(r"ARCHITECTURE(?:\.md)?`{0,2} (\d+)(?:\.(\d+))?")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def anchors(document: Path) -> set[str]:
    """Return what a code host makes of the headings, repeated ones numbered."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        number = 0
        while (anchor := f"{words}-{number}" if number else words) in found:
            number += 1
        found.add(anchor)
    return found


def leads_nowhere(document: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    place = document.parent / path if path else document
    return not place.exists() or bool(anchor and anchor not in anchors(place.resolve()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_every_link_and_anchor_leads_somewhere(document: Path) -> None:
    text = INLINE_CODE.sub("", FENCED.sub("", document.read_text(encoding="utf-8")))
    targets = [target for target in LINK.findall(text) if not ELSEWHERE.match(target)]
    assert [target for target in targets if leads_nowhere(document, target)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_every_file_a_document_names_is_there(document: Path) -> None:
    named = FILE.findall(document.read_text(encoding="utf-8"))
    paths = [str(path) for path in repository_files()]
    missing = {file for file in named if not any(path.endswith(f"/{file}") for path in paths)}
    assert missing == set()


def test_the_index_names_every_document() -> None:
    folder = ROOT / "docs"
    linked = set(LINK.findall((folder / "README.md").read_text(encoding="utf-8")))
    assert {path.name for path in folder.glob("*.md")} - linked == {"README.md"}


# Commands

COMMANDS = re.compile(r"^```(?:console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"(?:^|[ (])\.venv/bin/([\w-]+)", re.MULTILINE)
SCRIPT = re.compile(r"(?:^|[ (])((?:scripts|examples)/[\w./-]+)", re.MULTILINE)
TARGET = re.compile(r"^(?:[A-Z_]+=\S+ )*make ([a-z-]+)", re.MULTILINE)
GIVEN_FILE = re.compile(r"(?:-config|-f) ((?:examples|compose)/[\w./-]+)")


def test_what_the_readme_says_to_type_is_there() -> None:
    """The commands themselves are run in tests/integration; here none names what is not there."""
    typed = "\n".join(COMMANDS.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    ours = {"monstermq", "monstermq-edge", "monstermq-projector"}
    assert ours <= set(PROGRAM.findall(typed)) <= {"python", *project["scripts"]}
    assert {"run", "kafka", "postgres"} <= set(TARGET.findall(typed)) <= set(phony[1].split())
    files = [*SCRIPT.findall(typed), *GIVEN_FILE.findall(typed)]
    assert "examples/config-kafka-bus.yaml" in files
    assert [name for name in files if not (ROOT / name).exists()] == []


# What code says of documents


def cited_places() -> set[tuple[str, str]]:
    """Return section and item of every citation; the item is empty for a whole section."""
    texts = (path.read_text(encoding="utf-8") for path in CODE)
    return {found for text in texts for found in CITATION.findall(text)}


def test_sections_and_items_that_code_cites_are_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    there: set[tuple[str, str]] = set()
    for section in text.split("\n## ")[1:]:
        number = section.partition(".")[0]
        there |= {
            (number, ""),
            *((number, item) for item in re.findall(r"^(\d+)\. ", section, re.MULTILINE)),
        }
    assert cited_places()
    assert cited_places() - there == set()


def rules(letter: str, last: int) -> set[str]:
    return {f"{letter}{number}" for number in range(1, last + 1)}


PROTOCOL = {
    "docs/bus-protocol.md": rules("R", 7) | rules("V", 2) | rules("K", 3),
    "docs/session-protocol.md": rules("E", 14) | rules("P", 8) | rules("S", 6),
}


@pytest.mark.parametrize("document", PROTOCOL)
def test_every_rule_of_the_protocol_is_stated_once_in_its_document(document: str) -> None:
    stated = EXPLAINED.findall((ROOT / document).read_text(encoding="utf-8"))
    assert sorted(stated) == sorted(PROTOCOL[document])


def test_every_rule_of_the_protocol_that_is_cited_is_stated() -> None:
    product = [path for path in CODE if path.relative_to(ROOT).parts[0] in {"shared", "services"}]
    texts = [path.read_text(encoding="utf-8") for path in (*product, *DOCUMENTS)]
    cited = {rule for text in texts for rule in RULE.findall(text)}
    assert len(cited) > 20
    assert cited - set().union(*PROTOCOL.values()) == set()


def test_nothing_cites_a_plan_that_is_not_in_the_repository() -> None:
    texts = {shown(path): path.read_text(encoding="utf-8") for path in (*CODE, *DOCUMENTS)}
    assert {name for name, text in texts.items() if PLAN.search(text)} == set()


# Figures


def table_of(name: str) -> list[str]:
    found = TABLE.search((ROOT / name).read_text(encoding="utf-8"))
    assert found is not None
    return found[1].splitlines()


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_table_of_figures_is_the_one_the_benchmark_writes() -> None:
    heading = list(document_lines([]))
    table = table_of("docs/performance.md")
    assert table[: len(heading)] == heading
    loads = [one for one in SCENARIOS if not isinstance(one, Attack)]
    known = {(metric.title, one.configuration) for one in loads for metric in one.metrics}
    rows = [cells(row) for row in table[len(heading) :]]
    assert rows
    assert {(row[0], row[-1]) for row in rows} - known == set()


def test_the_figures_of_the_readme_are_those_of_the_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (figures,) = (part for part in text.split("\n## ") if part.startswith("Figures\n"))
    rows = [cells(row) for row in figures.splitlines() if row.startswith("|")][2:]
    measured = [cells(row)[:-1] for row in table_of("docs/performance.md")]
    assert len(rows) == 6
    assert [row for row in rows if row not in measured] == []


@pytest.mark.parametrize("name", ["README.md", "docs/performance.md"])
def test_readers_are_not_told_what_an_acceptance_test_required(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r"\baim\b|MISSED|VOID|\brequired\b", text) == []
