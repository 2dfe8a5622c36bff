"""A client of Kafka outlasts the loss of a connection that it is just writing to."""

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from monstermq_shared.kafka import connection

WRITES: dict[str, Callable[[AIOKafkaConnection], object]] = {
    "a request": lambda conn: conn.send(MetadataRequest([])),
    "a login": lambda conn: conn._send_sasl_token(b"token"),
}


@pytest.fixture(autouse=True)
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client ask for no versions: the server of these tests answers nothing."""

    async def know(conn: AIOKafkaConnection) -> None:
        conn._versions = {MetadataRequest.API_KEY: (0, 0)}

    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", know)


async def write_to_lost_connection(write: Callable[[AIOKafkaConnection], object]) -> None:
    """Connect to a server, lose the connection, and write before the client is told."""
    ended = asyncio.Event()

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        ended.set()

    async with await asyncio.start_server(reset, "127.0.0.1", 0) as server:
        conn = AIOKafkaConnection("127.0.0.1", server.sockets[0].getsockname()[1])
        await conn.connect()
        try:
            while conn._reader.exception() is None:  # noqa: ASYNC110 - nobody else tells so soon
                await asyncio.sleep(0)
            assert conn.connected(), "nobody has told the client yet"
            write(conn)
        finally:
            conn.close()
            await ended.wait()


@pytest.mark.parametrize("what", WRITES)
def test_a_write_to_a_lost_connection_is_an_error_of_the_client(what: str) -> None:
    connection.tell_lost_writes()
    with pytest.raises(KafkaConnectionError, match=r"broken: .*closed"):
        uvloop.run(write_to_lost_connection(WRITES[what]))


@pytest.mark.parametrize("what", WRITES)
def test_without_it_a_fault_ends_what_the_client_does(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it does not, all this can go."""
    for name, method in connection._METHODS.items():
        monkeypatch.setattr(AIOKafkaConnection, name, method.__wrapped__)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="the handler is closed"):
        uvloop.run(write_to_lost_connection(WRITES[what]))
