"""What the commands of single services say to what only ``monstermq`` does."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from monstermq_edge import command as edge
from monstermq_projector import command as projector
from monstermq_shared.exit_codes import ExitCode


class Run(Protocol):
    """A command."""

    def __call__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> int: ...


@pytest.mark.parametrize("run", [edge.run, projector.run], ids=["edge", "projector"])
def test_who_checks_a_configuration_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["-config", "c.yaml", "--check"], {})
    assert status == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert "unknown argument --check; monstermq -config FILE --check looks at the config" in said
