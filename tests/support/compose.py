"""The Compose files and the Dockerfile of this repository, read as the container engine does."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from tests.support.repository import ROOT

COMPOSE = ROOT / "compose"
DOCKERFILE = COMPOSE / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments, continued lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    words = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    return [(name, argument.strip()) for name, argument in words]


def arguments(name: str) -> list[str]:
    """Return the arguments of the Dockerfile's instructions of a name, in order."""
    return [argument for instruction, argument in instructions() if instruction == name]


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: where on the host, and which of the container."""

    address: str
    host: int
    container: int


@dataclass(frozen=True, slots=True)
class Mount:
    """What stands at a path of the container: a volume's name, or a file of this repository."""

    source: str | Path
    target: PurePosixPath
    read_only: bool


class Service:
    """One service of a Compose file.

    Attributes:
        name: The host name under which the others reach it.
        values: What the file says of it.
        is_ours: Whether it is built from the Dockerfile here.
    """

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name = name
        self.values = values
        build = values.get("build")
        self.is_ours = build is not None
        if build is not None:
            context = COMPOSE / build["context"]
            assert (context / build["dockerfile"]).resolve() == DOCKERFILE

    @property
    def command(self) -> list[str]:
        """The command line of its process, if the image is ours."""
        assert self.is_ours
        entrypoint = self.values.get("entrypoint") or json.loads(arguments("ENTRYPOINT")[0])
        return [*entrypoint, *(self.values.get("command") or json.loads(arguments("CMD")[0]))]

    @property
    def prepares(self) -> bool:
        """Whether it makes something in a database and ends, so that others can start."""
        return self.is_ours and self.command[1] == "db"

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        return {name: str(value) for name, value in self.values.get("environment", {}).items()}

    @property
    def ports(self) -> list[Port]:
        """What it publishes; every port says on which address."""
        parts = [port.rsplit(":", 2) for port in self.values.get("ports", [])]
        return [Port(address, int(host), int(inside)) for address, host, inside in parts]

    @property
    def mounts(self) -> list[Mount]:
        """Its volumes and mounted files."""
        mounts = []
        for written in self.values.get("volumes", []):
            source, target, *options = written.split(":")
            where = (COMPOSE / source).resolve() if source.startswith(".") else source
            mounts.append(Mount(where, PurePosixPath(target), options == ["ro"]))
        return mounts

    @property
    def temporary(self) -> set[PurePosixPath]:
        """Where it writes what need not last."""
        return {PurePosixPath(path) for path in self.values.get("tmpfs", [])}

    @property
    def program(self) -> str:
        """The command that it runs, such as ``monstermq-edge``."""
        path = PurePosixPath(self.command[0])
        assert path.parent == PurePosixPath("/opt/monstermq/bin")
        return path.name

    def file(self, path: str) -> Path:
        """Return the file of this repository that it sees at a path: mounted, or in the image."""
        for mount in self.mounts:
            if mount.target == PurePosixPath(path):
                assert isinstance(mount.source, Path)
                return mount.source
        (copied,) = (c.split()[0] for c in arguments("COPY") if c.split()[-1] == path)
        return ROOT / copied


class Stack:
    """One Compose file.

    Attributes:
        path: Where it is.
        values: What it says.
        services: By name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.services = {
            name: Service(name, values) for name, values in self.values["services"].items()
        }

    @property
    def ours(self) -> list[Service]:
        """The services that run what is in this repository, for as long as the stack is up."""
        services = self.services.values()
        return [service for service in services if service.is_ours and not service.prepares]


def stacks() -> list[Stack]:
    """Return all Compose files."""
    return [Stack(path) for path in sorted(COMPOSE.glob("docker-compose*.y*ml"))]
