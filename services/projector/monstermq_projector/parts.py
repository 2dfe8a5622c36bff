"""What a projector consists of: for each database a process for its views, and the sessions."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.fields import ProjectorKind
from monstermq_shared.supervisor.child import Program
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.view_set import ViewSet


class Part(NamedTuple):
    """What one process does: so a database that is stuck stops only its own.

    Attributes:
        kind: Which log it follows.
        store_type: Whose database it writes to.
    """

    kind: ProjectorKind
    store_type: StoreType

    @property
    def name(self) -> str:
        """How log, group and /ready name it."""
        return f"{self.kind.value}-{self.store_type.value}".lower()


def parts_of(
    config: BrokerConfig, kinds: Collection[ProjectorKind], store_type: StoreType | None = None
) -> list[Part]:
    """Return the parts that a configuration asks for.

    Args:
        config: The configuration.
        kinds: Those that are wanted.
        store_type: Only those of this database; None: of all.
    """
    catalogue = Catalogue(config)
    parts = []
    if ProjectorKind.VIEWS in kinds:
        parts += [
            Part(ProjectorKind.VIEWS, each)
            for each in catalogue.store_types
            # The queues of kept sessions are made of the same log as views.
            if ViewSet.of(catalogue, each) or each is catalogue.session_store_type
        ]
    if ProjectorKind.SESSIONS in kinds:
        parts.append(Part(ProjectorKind.SESSIONS, catalogue.session_store_type))
    return [part for part in parts if store_type in {None, part.store_type}]


def program_of(part: Part, arguments: Sequence[str], instance: str | None) -> Program:
    """Return how a part is started as a process of its own.

    Args:
        part: The part.
        arguments: What every process of the command is given, such as ``-config FILE``.
        instance: See ``groups.instance_of``.
    """
    own = ["--kinds", part.kind.value, "--store", part.store_type.value]
    own += [] if instance is None else ["--instance", instance]
    return Program(
        name=f"projector-{part.name}", module="monstermq_projector", arguments=[*arguments, *own]
    )
