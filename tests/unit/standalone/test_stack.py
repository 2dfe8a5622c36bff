"""Which processes a configuration asks for on the Kafka bus."""

from pathlib import Path

import pytest

from monstermq.stack import programs_of
from monstermq_shared.config import load_config

BUS = (
    "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
    "Kafka: {Servers: k, Bus: {Enabled: true}}\n"
)


@pytest.mark.parametrize(
    ("text", "edges"),
    [("", ["edge"]), ("Edge: {Processes: 3}\n", ["edge-1", "edge-2", "edge-3"])],
)
def test_edges_come_after_the_projectors_as_many_as_are_asked_for(
    tmp_path: Path, text: str, edges: list[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BUS + text)
    programs = programs_of(load_config(path, {}), ["-config", str(path)])
    projectors = ["projector-views-postgres", "projector-sessions-postgres"]
    assert [program.name for program in programs] == [*projectors, *edges]
    assert all(program.arguments[:2] == ["-config", str(path)] for program in programs)
