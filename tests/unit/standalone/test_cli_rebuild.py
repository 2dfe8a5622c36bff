"""The command lines of ``rebuild`` and ``verify``, and what they are refused for."""

import io
from pathlib import Path

import pytest

from monstermq.cli import parse_arguments
from monstermq.invocations import Rebuild, Verify
from monstermq.log_parts import chosen, name_of
from monstermq.rebuilding import rebuild
from monstermq.verifying import verify
from monstermq_shared.config import load_config
from monstermq_shared.errors import ConfigError

KAFKA = """
Kafka: {Bus: {Enabled: true}}
SessionStoreType: POSTGRES
RetainedStoreType: POSTGRES
ArchiveGroups:
  - {Name: A, TopicFilter: ["#"], LastValType: MEMORY, ArchiveType: POSTGRES}
  - {Name: B, TopicFilter: ["#"], LastValType: POSTGRES, ArchiveType: KAFKA}
  - {Name: C, Enabled: false, TopicFilter: ["#"], LastValType: POSTGRES, ArchiveType: POSTGRES}
"""


def test_command_lines_are_read() -> None:
    assert parse_arguments(["verify"]) == Verify(config=None)
    assert parse_arguments(
        ["verify", "retained", "archive:MCP", "--json", "-limit", "5", "-config", "c.yaml"]
    ) == Verify(config=Path("c.yaml"), tables=("retained", "archive:MCP"), as_json=True, limit=5)
    assert parse_arguments(["rebuild", "lastval:MCP", "--anew"]) == Rebuild(
        config=None, table="lastval:MCP", anew=True
    )
    assert parse_arguments(["rebuild", "retained", "--discard", "-json"]) == Rebuild(
        config=None, table="retained", discard=True, as_json=True
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rebuild"], "TABLE"),
        (["rebuild", "retained", "archive:A"], "archive:A"),
        (["rebuild", "retained", "--anew", "--discard"], "exclude each other"),
        (["verify", "--limit", "-1"], "not a number from 0"),
        (["verify", "--jsn"], "did you mean"),
    ],
)
def test_wrong_command_lines_are_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_arguments(arguments)


def test_tables_are_those_in_postgres(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(KAFKA)
    config = load_config(path, {}).config
    assert [name_of(view) for view in chosen(config, [])] == ["retained", "lastval:B", "archive:A"]
    assert [name_of(view) for view in chosen(config, ["archive:A", "archive:A"])] == ["archive:A"]
    with pytest.raises(ConfigError, match="lastval:A is kept in MEMORY"):
        chosen(config, ["lastval:A"])
    with pytest.raises(ConfigError, match="archive:B is kept in KAFKA"):
        chosen(config, ["archive:B"])
    for unknown in ("archive:C", "archive", "\x1b[31m"):
        with pytest.raises(ConfigError, match="there is: retained, lastval:B, archive:A"):
            chosen(config, [unknown])


def test_the_internal_bus_keeps_no_log(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("SessionStoreType: SQLITE\n")
    with pytest.raises(ConfigError, match="the internal bus keeps none"):
        verify(Verify(config=path), {}, io.StringIO())
    with pytest.raises(ConfigError, match="the internal bus keeps none"):
        rebuild(Rebuild(config=path, table="retained"), {}, io.StringIO())
