"""One broker: everything is built here, started in order, and stopped in the opposite order."""

import asyncio
import contextlib
import logging
import re
import secrets
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import import_module

from monstermq_edge import settings
from monstermq_edge.companion import Companion, Companions, none
from monstermq_edge.engines.local.host import LocalHost
from monstermq_edge.engines.ports import Host
from monstermq_edge.faults import Faults
from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.mqtt.context import ConnectionContext
from monstermq_edge.network.hub import Hub, NetworkConnection
from monstermq_edge.network.listeners import Listeners, Port
from monstermq_edge.network.stream import StreamProtocol
from monstermq_edge.network.takeover import TakeoverLimit
from monstermq_edge.network.tls import ReloadableTls, certificate_warnings
from monstermq_edge.network.websocket_protocol import WebSocketProtocol
from monstermq_edge.network.wheel import TICK_S
from monstermq_edge.operation.metrics import build_registry
from monstermq_edge.operation.repeated import Repeated
from monstermq_edge.operation.status import Status
from monstermq_edge.operation.system_publisher import SystemPublisher
from monstermq_edge.operation.system_tree import SystemTree
from monstermq_shared.budget import Budget
from monstermq_shared.clock import SystemClock, WallHistory
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.config import KIB, BrokerConfig
from monstermq_shared.counters import Counters
from monstermq_shared.errors import MonsterError
from monstermq_shared.operation.binding import url_host
from monstermq_shared.operation.health import OperationServer, Place, Readiness
from monstermq_shared.operation.limited_log import LimitedLog
from monstermq_shared.sessions.ports import AttachRequest

logger = logging.getLogger(__name__)
clients_log = logging.getLogger("monstermq_edge.clients")

DRAIN_S = 10.0
"""How long a stop may take to commit what is acknowledged or will be."""

_CHOSEN = re.compile("""[:'"0-9]""")

CLOSE_S = 2.0
"""How long clients may take to accept what they are still sent at a stop."""


class Broker:
    """A running edge.

    Args:
        config: What it is to do.
        version: Its own.
        operation_listeners: Where the operation port is, if somebody else has opened it.
        companions: Makes what runs beside it.

    Attributes:
        failed: Set, with an error as its result, when the process must end.
        host: What stands behind the session port.
    """

    def __init__(
        self,
        config: BrokerConfig,
        version: str,
        *,
        operation_listeners: Sequence[socket.socket] = (),
        companions: Companions = none,
    ) -> None:
        self._config = config
        self._make_companions = companions
        self._companions: list[Companion] = []
        self._operation_listeners = operation_listeners
        self._version = version
        self._clock = SystemClock()
        self._history = WallHistory(self._clock)
        self.counters = Counters()
        self._budget = Budget()
        self.failed: asyncio.Future[MonsterError] = asyncio.get_running_loop().create_future()
        self._limited_log = LimitedLog(clients_log)
        self._tls: ReloadableTls | None = None
        self._operation: OperationServer | None = None
        self._faults = Faults(self.counters, self._clock)
        self._reloading = Repeated(self._reload, partial(self._faults.contained, "a reload"))
        self._background: list[asyncio.Task[None]] = []
        self._unready: str | None = "the broker is starting"
        self.host: Host = self._host()
        # What is to be ended, in the opposite order of its start.
        self._ending = contextlib.AsyncExitStack()

    def _host(self) -> Host:
        """Return the host of the bus that is configured."""
        if self._config.kafka.bus.enabled:
            # Its client is not needed, and may not be installed, where the bus is internal.
            kafka = import_module("monstermq_edge.engines.kafka.host")
            host: Host = kafka.KafkaHost(
                self._config,
                clock=self._clock,
                counters=self.counters,
                budget=self._budget,
                system_values=self._system_values,
                fail=self._fail,
            )
            return host
        return LocalHost(
            self._config,
            clock=self._clock,
            history=self._history,
            counters=self.counters,
            budget=self._budget,
            faults=self._faults,
            system_values=self._system_values,
            fail=self._fail,
        )

    async def start(self) -> None:
        """Open the database, restore the sessions, listen.

        Raises:
            StartupError, ConfigError, StoreError: It cannot; nothing is left open or running.
        """
        try:
            await self._start()
        except BaseException:
            await self._ending.aclose()
            raise
        self._unready = None

    async def _start(self) -> None:
        config = self._config
        ending = self._ending
        if config.tcps or config.wss:
            tls = settings.tls_settings(config.tls)
            self._tls = ReloadableTls(tls)
            for warning in certificate_warnings(tls, now=datetime.now(UTC)):
                logger.warning("%s", warning)
        await self.host.open()
        ending.push_async_callback(self.host.stop)
        self.hub = Hub(
            asyncio.get_running_loop(),
            self._clock,
            self.host,
            config.limits.connections,
            self._faults,
            self._budget,
        )
        self._context = self._connection_context()
        self.status = Status(self.host, self.hub, self._clock)
        self._system = self._system_publisher()
        self._listeners = Listeners(
            config.bind_address,
            self._ports(),
            handshake_s=config.limits.connect_timeout_s,
            shared=config.edge.processes > 1,
        )
        self.status.totals.walk_all()
        self._companions = self._make_companions(self.host, self.hub.touch)
        if config.kafka.ingress:
            # As with the host: where nobody asks for it, Kafka's client is not needed.
            ingress = import_module("monstermq_edge.ingress.companion")
            self._companions.append(ingress.Ingress(config, self.host.bus, self._clock))
        await self._start_operation()
        ending.push_async_callback(self._part_from_clients)
        self.host.start(self.hub.touch)
        ending.push_async_callback(self._end_background)
        self._start_background()
        await self.host.live()
        await self._start_companions()
        ending.push_async_callback(self._listeners.close)
        await self._listeners.open()

    def _system_publisher(self) -> SystemPublisher:
        now_s = self._clock.monotonic()
        tree = SystemTree(
            self.counters,
            self.status.gauges(),
            version=self._version,
            started_s=now_s,
            started_ms=self._clock.wall_ms(),
        )
        return SystemPublisher(
            self.host,
            tree,
            client=self.status.client,
            client_ids=self.host.client_ids,
            config=self._config.sys,
            now_s=now_s,
        )

    def _connection_context(self) -> ConnectionContext:
        limits = self._config.limits
        takeovers = TakeoverLimit(limits.takeovers_per_minute, self.host.port.is_connected)
        return ConnectionContext(
            port=self.host.port,
            counters=self.counters,
            budget=self._budget,
            decoder_limits=settings.decoder_limits(self._config),
            outbox_size_max=limits.outbox_kb * KIB,
            connect_timeout_s=limits.connect_timeout_s,
            keep_alive_max_s=limits.keep_alive_max_s,
            new_client_id=_new_client_id,
            admit=takeovers.admit,
            wake=self.hub.wake,
            wake_later=self.hub.wake_later,
            report=self._report,
            came=_log_came,
            went=_log_went,
        )

    def _start_background(self) -> None:
        self._background = [asyncio.create_task(self._tick(), name="ticks")]
        for task in self._background:
            task.add_done_callback(self._background_ended)

    def _ports(self) -> list[Port]:
        config = self._config
        tls = self._tls.context if self._tls is not None else None
        channel = settings.websocket_settings(config)

        def stream() -> StreamProtocol:
            return StreamProtocol(self.hub, self._context)

        def websocket() -> WebSocketProtocol:
            return WebSocketProtocol(self.hub, self._context, channel)

        path = settings.told_path(config)
        ports = [
            ("TCP", config.tcp, stream, None, "mqtt://{host}:{port}"),
            ("TCPS", config.tcps, stream, tls, "mqtts://{host}:{port}"),
            ("WS", config.ws, websocket, None, "ws://{host}:{port}" + path),
            ("WSS", config.wss, websocket, tls, "wss://{host}:{port}" + path),
        ]
        return [
            Port(key=key, number=number, protocol=protocol, tls=context, url=url)
            for key, number, protocol, context, url in ports
            if number
        ]

    async def _start_operation(self) -> None:
        metrics = self._config.metrics
        listeners = self._operation_listeners
        if (metrics.enabled and metrics.port) or listeners:
            registry = build_registry(self.counters, self.status.gauges(), version=self._version)
            for companion in self._companions:
                registry.register(companion.collector)
            self._operation = OperationServer(
                Place(host=metrics.bind_address, port=metrics.port, listeners=listeners),
                registry,
                lambda: Readiness(self.readiness(), self._concerns()),
                page=settings.page(self._config),
                counters=self.counters,
            )
            self._ending.push_async_callback(self._operation.stop)
            await self._operation.start()

    async def _start_companions(self) -> None:
        for companion in self._companions:
            self._ending.push_async_callback(companion.stop)
            await companion.start()

    # -- while it runs ---------------------------------------------------------------------------

    def urls(self) -> list[str]:
        """Return what clients can connect to, and where the operation port's page is."""
        urls = self._listeners.urls()
        # A supervisor answers for what is behind a port of its own.
        if self._operation is not None and not self._operation_listeners:
            host = url_host(self._config.metrics.bind_address)
            urls.append(f"http://{host}:{self._operation.port}/")
        return urls + [url for companion in self._companions for url in companion.urls()]

    def readiness(self) -> list[str]:
        """Return why clients should not be sent here now."""
        reasons = [] if self._unready is None else [self._unready]
        return reasons + self.host.readiness()

    def _concerns(self) -> list[str]:
        """Return what is wrong although MQTT clients may be sent here."""
        concerns = self.host.concerns()
        return concerns + [concern for each in self._companions for concern in each.concerns()]

    @property
    def reloads(self) -> bool:
        """Whether there is anything that ``reload`` reads again."""
        return bool(self._config.tcps or self._config.wss)

    def reload(self) -> None:
        """SIGHUP: read the certificates again, beside the loop."""
        if self._tls is None:
            logger.info("nothing to reload: no TLS port is open")
        else:
            self._reloading.ask()

    async def _reload(self) -> None:
        assert self._tls is not None
        try:
            await asyncio.to_thread(self._tls.reload)
        except MonsterError as exc:
            logger.error("certificates not reloaded, the old ones stay: %s", exc)  # noqa: TRY400
        else:
            logger.info("certificates reloaded")

    async def _tick(self) -> None:
        """Do what time causes, every ``TICK_S``."""
        second = 0
        while True:
            await asyncio.sleep(TICK_S)
            self.hub.wheel.tick()
            now = self._clock.monotonic()
            if int(now) != second:
                second = int(now)
                was_set = self._look_at_the_clock()
                self.host.tick(now, self._clock.wall_ms(), clock_was_set=was_set)
            self.status.totals.tick()
            self._system.tick(now)
            self.hub.touch()

    def _look_at_the_clock(self) -> bool:
        """Return whether the wall clock has been set."""
        step_s = self._history.look()
        if step_s:
            logger.warning("the clock was set by %+.0f s; sessions and retention go on", step_s)
            self.counters.clock_steps += 1
        return bool(step_s)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        """A fault of ours ends the process: without ticks no silent client is found."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("%s failed", task.get_name(), exc_info=error)
            self._fail(MonsterError(f"a fault in the broker ended its {task.get_name()}"))

    def _fail(self, exc: MonsterError) -> None:
        if not self.failed.done():
            self.failed.set_result(exc)

    def _system_values(self, topic_filter: str) -> list[tuple[str, bytes]]:
        return self._system.values(topic_filter)

    def _report(self, connection: Connection, why: str) -> None:
        self._limited_log.log(
            _kind(why),
            self._clock.monotonic(),
            logging.INFO,
            why,
            {"client": connection.client_id, "remote": connection.peer.remote_address},
        )

    # -- the end ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Accept nobody, read nothing more, answer what was read, publish the wills, close."""
        self._unready = "the broker is stopping"
        await self._listeners.close()
        for companion in self._companions:
            await companion.stop()
        await self._end_background()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self.hub.quiesce()
        clean = await self.host.drain(within_s=DRAIN_S)
        self._shut_down_clients()
        if not (await self.host.drain(within_s=DRAIN_S) and clean):
            logger.error("stopped before everything was committed: %s", self._why_not_committed())
        await self._ending.aclose()

    def _why_not_committed(self) -> str:
        if self.failed.done():
            return str(self.failed.result())
        return "; ".join(self.host.readiness()) or "it took too long"

    async def _end_background(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._reloading.end()

    def _shut_down_clients(self) -> None:
        """End all connections; those with a will first, so that the others still hear of it."""
        for protocol in sorted(self.hub.protocols, key=_has_no_will):
            protocol.shut_down()

    async def _part_from_clients(self) -> None:
        """Give clients, those of a failed start too, a moment to accept what they were sent."""
        self._shut_down_clients()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.hub.emptied()


def _kind(why: str) -> str:
    """Return what stands before anything that a peer can choose: a name, a number, a quotation."""
    return _CHOSEN.split(why, maxsplit=1)[0][:40]


def _log_came(connection: Connection, request: AttachRequest) -> None:
    if clients_log.isEnabledFor(logging.INFO):
        extra = {
            "client": request.client_id,
            "remote": connection.peer.remote_address,
            "protocol": request.information["ProtocolVersion"],
            "clean": request.clean,
            "keep_alive_s": request.information["KeepAliveTimeSeconds"],
        }
        clients_log.info("connected", extra=extra)


def _log_went(connection: Connection, reason: CloseReason) -> None:
    if clients_log.isEnabledFor(logging.INFO):
        extra = {"client": connection.client_id, "reason": reason.name.lower()}
        clients_log.info("disconnected", extra=extra)


def _has_no_will(protocol: NetworkConnection) -> bool:
    connection = protocol.connection
    session = None if connection is None else connection.session
    return session is None or session.will is None


def _new_client_id() -> str:
    return f"auto-{secrets.token_hex(12)}"
