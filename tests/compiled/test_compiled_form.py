"""The libraries are there, they are what runs, and each transport is served by them.

Only ``make test-compiled`` runs this."""

import asyncio
import importlib
import ssl
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import pytest
from tests.support.broker import LOOPBACK, RunningBroker, free_ports
from tests.support.certificates import CertificateAuthority
from tests.support.repository import ROOT

from monstermq_shared.operation.form import form

pytestmark = pytest.mark.integration

WAIT_S = 30

WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
    "wheel"
]


def compiled_modules() -> list[str]:
    """Return the names of all modules that the build hook compiles."""
    hook = importlib.import_module("hatch_build")  # imported so, mypy does not judge it
    sources = hook._sources(ROOT, WHEEL["hooks"]["custom"])
    roots = [Path(package).parent for package in WHEEL["packages"]]
    return [_name(Path(source), roots) for source in sources]


def _name(source: Path, roots: list[Path]) -> str:
    root = next(root for root in roots if source.is_relative_to(root))
    return ".".join(source.relative_to(root).with_suffix("").parts)


def test_the_libraries_are_as_new_as_their_sources() -> None:
    assert form() == "compiled"


@pytest.mark.parametrize("name", compiled_modules())
def test_what_is_imported_is_the_library(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert file.endswith(EXTENSION_SUFFIXES[0])


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where and how a client comes in."""

    port: int
    transport: Literal["tcp", "websockets"] = "tcp"
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A broker with all its transports."""

    broker: RunningBroker
    entrances: dict[str, Entrance]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One broker for all."""
    folder = tmp_path_factory.mktemp("served")
    authority = CertificateAuthority(folder)
    server = authority.issue("server")
    tcps, wss = free_ports(2)
    broker = RunningBroker(folder)
    tls = {"CertFile": str(server.cert_file), "KeyFile": str(server.key_file)}
    trusting = ssl.create_default_context(cafile=authority.cert_file)
    try:
        broker.start(f"{{TCPS: {tcps}, WSS: {wss}, TLS: {tls}}}")
        entrances = {
            "tcp": Entrance(broker.tcp_port),
            "tls": Entrance(tcps, tls=trusting),
            "websocket": Entrance(broker.ws_port, "websockets"),
            "websocket over tls": Entrance(wss, "websockets", trusting),
        }
        yield Served(broker, entrances)
    finally:
        broker.close()


def client(entrance: Entrance) -> aiomqtt.Client:
    """Return a client that is not yet connected."""
    more: dict[str, Any] = {"websocket_path": "/mqtt"} if entrance.transport != "tcp" else {}
    return aiomqtt.Client(
        LOOPBACK,
        entrance.port,
        protocol=aiomqtt.ProtocolVersion.V311,
        transport=entrance.transport,
        tls_context=entrance.tls,
        timeout=WAIT_S,
        **more,
    )


def test_the_broker_says_that_it_is_compiled(served: Served) -> None:
    assert "(compiled), configuration:" in served.broker.log_text()


@pytest.mark.parametrize("transport", ["tcp", "tls", "websocket", "websocket over tls"])
async def test_messages_of_every_qos_and_size_come_back(served: Served, transport: str) -> None:
    sent = [(qos, size) for qos in range(3) for size in (0, 100, 200_000)]
    async with client(served.entrances[transport]) as user:
        await user.subscribe("smoke", qos=2)
        for qos, size in sent:
            await user.publish("smoke", bytes(size), qos=qos)
        messages = aiter(user.messages)
        async with asyncio.timeout(WAIT_S):
            received = [await anext(messages) for _ in sent]
    assert sorted((message.qos, len(message.payload)) for message in received) == sent


@pytest.mark.parametrize("transport", ["tcp", "tls", "websocket", "websocket over tls"])
async def test_what_is_retained_is_there_for_the_next(served: Served, transport: str) -> None:
    topic = f"retained/{transport}"
    async with client(served.entrances[transport]) as first:
        await first.publish(topic, b"kept", qos=1, retain=True)
    async with client(served.entrances[transport]) as second:
        await second.subscribe(topic, qos=1)
        async with asyncio.timeout(WAIT_S):
            message = await anext(aiter(second.messages))
    assert (message.payload, message.retain) == (b"kept", True)
