"""Clients people use, behind one face, so that one story can be told by all of them.

A teller is one client. It connects, subscribes, publishes, receives, says good-bye, or vanishes
without a word; what it cannot show (mosquitto's command-line tools) is ``None``.
"""

import asyncio
import base64
import contextlib
import json
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode
from tests.support.broker import LOOPBACK, BrokerProcess

TELLER_WAIT_S = 30.0
"""How long a client may take for one thing; Node needs a second to start."""

NODE_SCRIPT = Path(__file__).parent.parent / "integration" / "node" / "client.js"


@dataclass(frozen=True, slots=True)
class Told:
    """A message as the client's user sees it."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Teller(ABC):
    """One client of some make."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        self._inbox: asyncio.Queue[Told] = asyncio.Queue()

    @abstractmethod
    async def connect(
        self, client_id: str, *, clean: bool = True, will: Told | None = None
    ) -> bool | None:
        """Connect and return session present."""

    @abstractmethod
    async def subscribe(self, topic_filter: str, qos: int) -> int | None:
        """Subscribe and return the granted QoS, once the subscription holds."""

    @abstractmethod
    async def publish(self, message: Told) -> None:
        """Publish and see the exchange through."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Say DISCONNECT and end."""

    @abstractmethod
    async def vanish(self) -> None:
        """End without DISCONNECT, if it has not ended."""

    async def receive(self) -> Told:
        """Return the next message."""
        async with asyncio.timeout(TELLER_WAIT_S):
            return await self._inbox.get()


def _cut(client: paho.Client) -> None:
    """End a client's connection without DISCONNECT, if there is one."""
    connection = client.socket()
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class PahoTeller(Teller):
    """paho-mqtt with its own thread."""

    async def connect(
        self, client_id: str, *, clean: bool = True, will: Told | None = None
    ) -> bool | None:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=clean,
            reconnect_on_failure=False,
        )
        self._client = client
        self._loop = asyncio.get_running_loop()
        connected: asyncio.Future[bool] = self._loop.create_future()
        self._granted: asyncio.Queue[int] = asyncio.Queue()

        def on_connect(_c: object, _u: object, flags: Any, code: ReasonCode, _p: object) -> None:
            assert not code.is_failure, code
            self._soon(connected.set_result, flags.session_present)

        def on_subscribe(_c: object, _u: object, _m: object, codes: Any, _p: object) -> None:
            self._soon(self._granted.put_nowait, codes[0].value)

        def on_message(_c: object, _u: object, message: paho.MQTTMessage) -> None:
            told = Told(message.topic, bytes(message.payload), message.qos, message.retain)
            self._soon(self._inbox.put_nowait, told)

        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_message = on_message
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        await asyncio.to_thread(client.connect, LOOPBACK, self._broker.tcp_port)
        client.loop_start()
        async with asyncio.timeout(TELLER_WAIT_S):
            return await connected

    def _soon(self, call: Any, *arguments: object) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)

    async def subscribe(self, topic_filter: str, qos: int) -> int | None:
        self._client.subscribe(topic_filter, qos)
        async with asyncio.timeout(TELLER_WAIT_S):
            return await self._granted.get()

    async def publish(self, message: Told) -> None:
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain)
        await asyncio.to_thread(info.wait_for_publish, TELLER_WAIT_S)
        assert info.is_published()

    async def disconnect(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def vanish(self) -> None:
        _cut(self._client)
        await asyncio.to_thread(self._client.loop_stop)


class AiomqttTeller(Teller):
    """aiomqtt, an asyncio face on paho."""

    async def connect(
        self, client_id: str, *, clean: bool = True, will: Told | None = None
    ) -> bool | None:
        last_word = will and aiomqtt.Will(will.topic, will.payload, will.qos, will.retain)
        self._client = aiomqtt.Client(
            LOOPBACK,
            self._broker.tcp_port,
            identifier=client_id,
            clean_session=clean,
            will=last_word or None,
            timeout=TELLER_WAIT_S,
        )
        await self._client.__aenter__()
        self._reading = asyncio.create_task(self._read())
        return None

    async def _read(self) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            async for message in self._client.messages:
                assert isinstance(message.payload, bytes)
                self._inbox.put_nowait(
                    Told(str(message.topic), message.payload, message.qos, message.retain)
                )

    async def subscribe(self, topic_filter: str, qos: int) -> int | None:
        (granted,) = await self._client.subscribe(topic_filter, qos)
        return granted if isinstance(granted, int) else granted.value

    async def publish(self, message: Told) -> None:
        await self._client.publish(message.topic, message.payload, message.qos, message.retain)

    async def disconnect(self) -> None:
        self._reading.cancel()
        await self._client.__aexit__(None, None, None)

    async def vanish(self) -> None:
        _cut(self._client._client)
        await asyncio.wait({self._reading}, timeout=TELLER_WAIT_S)
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)


class ProcessTeller(Teller):
    """A client that is a process, and says in lines what it sees."""

    def __init__(self, broker: BrokerProcess) -> None:
        super().__init__(broker)
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def _start(self, *command: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            limit=4 << 20,
        )
        self._reading = asyncio.create_task(self._read_lines(self._process))

    async def _read_lines(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self._line(line.decode())

    @abstractmethod
    def _line(self, line: str) -> None:
        """Take a line of its output."""

    async def _end(self, number: signal.Signals) -> None:
        process, reading, self._process = self._process, self._reading, None
        if process is None or reading is None:
            return
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(TELLER_WAIT_S):
            # Not wait() first: a process that writes more than a pipe holds does not end.
            await reading
            await process.wait()

    async def vanish(self) -> None:
        await self._end(signal.SIGKILL)


class NodeTeller(ProcessTeller):
    """MQTT.js in Node, over TCP."""

    def _url(self) -> str:
        return f"mqtt://{LOOPBACK}:{self._broker.tcp_port}"

    async def connect(
        self, client_id: str, *, clean: bool = True, will: Told | None = None
    ) -> bool | None:
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await self._start("node", str(NODE_SCRIPT))
        last_word = will and {
            "topic": will.topic,
            "payload": base64.b64encode(will.payload).decode(),
            "qos": will.qos,
            "retain": will.retain,
        }
        answer = await self._ask(
            "connect", url=self._url(), clientId=client_id, clean=clean, will=last_word
        )
        return bool(answer["sessionPresent"])

    def _line(self, line: str) -> None:
        said = json.loads(line)
        message = said.get("message")
        if message is None:
            self._answers.put_nowait(said)
        else:
            payload = base64.b64decode(message["payload"])
            self._inbox.put_nowait(
                Told(message["topic"], payload, message["qos"], message["retain"])
            )

    async def _ask(self, command: str, **parameters: object) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **parameters}).encode() + b"\n")
        async with asyncio.timeout(TELLER_WAIT_S):
            answer = await self._answers.get()
        assert "done" in answer, answer
        done: dict[str, Any] = answer["done"]
        return done

    async def subscribe(self, topic_filter: str, qos: int) -> int | None:
        return int((await self._ask("subscribe", topic=topic_filter, qos=qos))["granted"])

    async def publish(self, message: Told) -> None:
        payload = base64.b64encode(message.payload).decode()
        await self._ask(
            "publish",
            topic=message.topic,
            payload=payload,
            qos=message.qos,
            retain=message.retain,
        )

    async def disconnect(self) -> None:
        await self._ask("disconnect")
        await self._end(signal.SIGKILL)


class NodeWebSocketTeller(NodeTeller):
    """MQTT.js over WebSocket, as in a browser."""

    def _url(self) -> str:
        return f"ws://{LOOPBACK}:{self._broker.ws_port}/mqtt"


class MosquittoTeller(ProcessTeller):
    """mosquitto_sub and mosquitto_pub; a subscription is a process."""

    async def connect(
        self, client_id: str, *, clean: bool = True, will: Told | None = None
    ) -> bool | None:
        self._granted: asyncio.Queue[int] = asyncio.Queue()
        self._options = ["-h", LOOPBACK, "-p", str(self._broker.tcp_port)]
        self._identity = ["-i", client_id] if clean else ["-i", client_id, "-c"]
        if will is not None:
            self._identity += ["--will-topic", will.topic, "--will-qos", str(will.qos)]
            self._identity += ["--will-payload", will.payload.decode()]
            self._identity += ["--will-retain"] if will.retain else []
        return None

    def _line(self, line: str) -> None:
        if line.startswith("{"):
            said = json.loads(line)
            payload = bytes.fromhex(said["payload"])
            self._inbox.put_nowait(Told(said["topic"], payload, said["qos"], bool(said["retain"])))
        elif line.startswith("Subscribed"):
            self._granted.put_nowait(int(line.rpartition(":")[2]))

    async def subscribe(self, topic_filter: str, qos: int) -> int | None:
        line = '{"topic":"%t","qos":%q,"retain":%r,"payload":"%x"}'
        command = ["stdbuf", "-oL", "mosquitto_sub", *self._options, *self._identity, "-d"]
        await self._start(*command, "-q", str(qos), "-t", topic_filter, "-F", line)
        async with asyncio.timeout(TELLER_WAIT_S):
            return await self._granted.get()

    async def publish(self, message: Told) -> None:
        command = ["mosquitto_pub", *self._options, "-t", message.topic, "-q", str(message.qos)]
        if message.retain:
            command.append("-r")
        command.append("-s" if message.payload else "-n")
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        async with asyncio.timeout(TELLER_WAIT_S):
            _, complaint = await process.communicate(message.payload)
        assert process.returncode == 0, complaint

    async def disconnect(self) -> None:
        # Its handler logs. A signal that comes while it logs, as it does after every packet of an
        # exchange, would have it wait for itself: so not while messages are coming.
        await self._end(signal.SIGTERM)


TELLERS: dict[str, type[Teller]] = {
    "paho-mqtt": PahoTeller,
    "aiomqtt": AiomqttTeller,
    "MQTT.js": NodeTeller,
    "MQTT.js over WebSocket": NodeWebSocketTeller,
    "mosquitto_pub and _sub": MosquittoTeller,
}
