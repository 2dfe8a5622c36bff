"""The release before kept sessions came to Kafka, to run beside this one.

The archive has the packages of the shared code, the edge and the projector as they were; whatever
else they need is what this release has installed.
"""

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.kafka_stack import EdgeProcess, ProjectorProcess, StackProcess

ARCHIVE = Path(__file__).with_name("release_without_kept_sessions.tar.xz")

PACKAGES = ("shared", "services/edge", "services/projector")


def unpack(directory: Path) -> str:
    """Unpack the release; return the search path of its packages."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(directory)
    return os.pathsep.join(str(directory / package) for package in PACKAGES)


class _Old(StackProcess):
    """A process of the old release."""

    search_path: str

    def launch(self, config_yaml: str | None = None, env: Mapping[str, str] | None = None) -> None:
        """See ``BrokerProcess.launch``."""
        super().launch(config_yaml, {**(env or {}), "PYTHONPATH": self.search_path})


class OldEdge(_Old, EdgeProcess):
    """An edge of the old release."""


class OldProjector(_Old, ProjectorProcess):
    """A projector of the old release."""
