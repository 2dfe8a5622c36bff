"""TLS contexts in real handshakes, over the loopback interface, on both event loops."""

import asyncio
import ssl
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from tests.support.certificates import CertificateAuthority, Identity

from monstermq_edge.network.tls import ReloadableTls, TlsSettings
from monstermq_shared.errors import StartupError

DEADLINE_S = 30

REFUSED = (ssl.SSLError, ConnectionError, EOFError)
"""What a client sees of a refused handshake, depending on who notices first."""


@dataclass
class World:
    """A server's identity and settings, an authority of clients, and what the server saw."""

    authority: CertificateAuthority
    server: Identity
    settings: TlsSettings
    served: list[str] = field(default_factory=list)

    def client_context(self, identity: Identity | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.cert_file))
        if identity is not None:
            context.load_cert_chain(identity.cert_file, identity.key_file)
        return context

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one line with the client's name, then close."""
        line = await reader.readline()
        certificate = writer.get_extra_info("peercert") or {}
        name = dict(pair for (pair,) in certificate.get("subject", ())).get("commonName", "nobody")
        self.served.append(name)
        writer.write(line)
        writer.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    authority = CertificateAuthority(tmp_path)
    server = authority.issue("server")
    settings = TlsSettings(
        server.cert_file, server.key_file, None, "", authority.cert_file, require_client_cert=False
    )
    return World(authority, server, settings)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=request.param)


def run(
    runner: asyncio.Runner,
    world: World,
    tls: ReloadableTls,
    story: Callable[[int], Awaitable[None]],
) -> None:
    """Run a story that gets the port of a server with that context."""

    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S):
            server = await asyncio.start_server(world.serve, "127.0.0.1", 0, ssl=tls.context)
            async with server:
                await story(server.sockets[0].getsockname()[1])

    with runner:
        runner.run(main())


def required(settings: TlsSettings) -> TlsSettings:
    return TlsSettings(
        settings.cert_file, settings.key_file, None, "", settings.client_ca_file, True
    )


async def exchange(port: int, context: ssl.SSLContext) -> str:
    """Connect, have a line echoed, and return the name on the server's certificate.

    Raises:
        ssl.SSLError, ConnectionError, EOFError: The handshake was refused.
    """
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    try:
        writer.write(b"hello\n")
        await reader.readuntil(b"hello\n")
        subject = writer.get_extra_info("peercert")["subject"]
        return str(dict(pair for (pair,) in subject)["commonName"])
    finally:
        writer.transport.abort()


def assert_refused(
    runner: asyncio.Runner, world: World, settings: TlsSettings, context: ssl.SSLContext
) -> BaseException:
    caught: list[BaseException] = []

    async def story(port: int) -> None:
        with pytest.raises(REFUSED) as refusal:
            await exchange(port, context)
        caught.append(refusal.value)

    run(runner, world, ReloadableTls(settings), story)
    assert world.served == [], "a refused client must not reach the application"
    return caught[0]


def assert_served(
    runner: asyncio.Runner, world: World, settings: TlsSettings, context: ssl.SSLContext
) -> None:
    async def story(port: int) -> None:
        assert await exchange(port, context) == "server"

    run(runner, world, ReloadableTls(settings), story)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_without_certificate_is_served_if_none_is_required(
    runner: asyncio.Runner, world: World, version: ssl.TLSVersion
) -> None:
    context = world.client_context()
    context.minimum_version = context.maximum_version = version
    assert_served(runner, world, world.settings, context)
    assert world.served == ["nobody"]


def test_a_client_with_a_certificate_is_served_and_known(
    runner: asyncio.Runner, world: World
) -> None:
    context = world.client_context(world.authority.issue("sensor"))
    assert_served(runner, world, required(world.settings), context)
    assert world.served == ["sensor"]


def test_a_client_without_certificate_is_refused_if_one_is_required(
    runner: asyncio.Runner, world: World
) -> None:
    assert_refused(runner, world, required(world.settings), world.client_context())


def test_an_expired_client_certificate_is_refused_even_if_none_is_required(
    runner: asyncio.Runner, world: World
) -> None:
    expired = world.authority.issue("expired", not_after=datetime.now(UTC) - timedelta(days=1))
    assert_refused(runner, world, world.settings, world.client_context(expired))


def test_a_client_certificate_of_another_authority_is_refused(
    runner: asyncio.Runner, world: World, tmp_path: Path
) -> None:
    stranger = CertificateAuthority(tmp_path, "other").issue("stranger")
    assert_refused(runner, world, required(world.settings), world.client_context(stranger))


def test_tls_1_1_is_refused(runner: asyncio.Runner, world: World) -> None:
    assert_refused(runner, world, world.settings, tls_1_1_context(world))


def test_tls_1_1_is_refused_by_the_server_and_not_by_the_client(world: World) -> None:
    tls = ReloadableTls(world.settings)
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        handshake_in_memory(tls.context, tls_1_1_context(world), None)


def test_a_key_store_is_served_with_its_chain_in_order(
    runner: asyncio.Runner, world: World, tmp_path: Path
) -> None:
    between = CertificateAuthority(tmp_path, "between", issuer=world.authority)
    unrelated = CertificateAuthority(tmp_path, "unrelated").certificate
    identity = between.issue("server")
    store = identity.key_store(
        "secret", unrelated, world.authority.certificate, between.certificate
    )
    settings = TlsSettings(None, None, store, "secret", None, require_client_cert=False)
    context = world.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert_served(runner, world, settings, context)


def test_reload_serves_the_new_certificate_and_keeps_old_connections(
    runner: asyncio.Runner, world: World
) -> None:
    tls = ReloadableTls(world.settings)

    async def story(port: int) -> None:
        old_reader, old_writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=world.client_context(), server_hostname="localhost"
        )
        replace_server_files(world, world.authority.issue("renewed"))
        assert await exchange(port, world.client_context()) == "server"
        tls.reload()
        assert await exchange(port, world.client_context()) == "renewed"
        old_writer.write(b"still here\n")
        assert await old_reader.readline() == b"still here\n"
        old_writer.transport.abort()

    run(runner, world, tls, story)


def test_reload_trusts_the_new_client_authority_and_no_longer_the_old(
    runner: asyncio.Runner, world: World, tmp_path: Path
) -> None:
    tls = ReloadableTls(required(world.settings))
    old_context = world.client_context(world.authority.issue("old"))
    other = CertificateAuthority(tmp_path, "other")
    new_context = world.client_context(other.issue("new"))
    ca_file = world.settings.client_ca_file
    assert ca_file is not None

    async def story(port: int) -> None:
        await exchange(port, old_context)
        with pytest.raises(REFUSED):
            await exchange(port, new_context)
        ca_file.write_bytes(other.cert_file.read_bytes())
        tls.reload()
        await exchange(port, new_context)
        with pytest.raises(REFUSED):
            await exchange(port, old_context)

    run(runner, world, tls, story)
    assert world.served == ["old", "new"]


def test_reload_of_a_broken_file_says_so_and_keeps_the_old_certificate(
    runner: asyncio.Runner, world: World
) -> None:
    tls = ReloadableTls(world.settings)

    async def story(port: int) -> None:
        world.server.cert_file.write_bytes(b"broken")
        with pytest.raises(StartupError, match=r"TLS\.CertFile"):
            tls.reload()
        assert await exchange(port, world.client_context()) == "server"

    run(runner, world, tls, story)


def test_a_session_of_before_the_reload_is_not_resumed(world: World) -> None:
    tls = ReloadableTls(world.settings)
    client = world.client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    first = handshake_in_memory(tls.context, client, None)
    assert handshake_in_memory(tls.context, client, first.session).session_reused
    tls.reload()
    assert not handshake_in_memory(tls.context, client, first.session).session_reused


def handshake_in_memory(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLObject:
    """Do a handshake without sockets, as event loops do; return the client's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(
        to_client, to_server, server_hostname="localhost", session=session
    )
    pending = [client, server]
    while pending:
        side = pending.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pending.append(side)
    return client


def tls_1_1_context(world: World) -> ssl.SSLContext:
    context = world.client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or OpenSSL would not even offer it
    return context


def replace_server_files(world: World, identity: Identity) -> None:
    world.server.cert_file.write_bytes(identity.cert_file.read_bytes())
    world.server.key_file.write_bytes(identity.key_file.read_bytes())
