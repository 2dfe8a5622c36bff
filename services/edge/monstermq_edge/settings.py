"""From the configuration's sections to what each part of the edge is told."""

from pathlib import Path

from monstermq_edge.mqtt.decoder import DecoderLimits
from monstermq_edge.network.tls import TlsSettings
from monstermq_edge.network.websocket import TOLD_PATH, USUAL_PATHS, WebSocketSettings
from monstermq_edge.operation.page import Page
from monstermq_shared.config import KIB, BrokerConfig, Tls
from monstermq_shared.operation.web_origins import OriginPolicy, own_names

WEBSOCKET_SLACK = 64 * KIB
"""What a WebSocket message may hold beside the largest packet."""


def decoder_limits(config: BrokerConfig) -> DecoderLimits:
    """Bounds on what a client may send."""
    limits = config.limits
    size = config.max_message_size_kb * KIB
    return DecoderLimits(
        packet_size_max=size,
        connect_size_max=size,
        filters_max=limits.filters_per_subscribe,
        topic_levels_max=limits.topic_levels,
        topic_length_max=limits.topic_length_max,
    )


def websocket_settings(config: BrokerConfig) -> WebSocketSettings:
    """How WebSocket clients are met."""
    websocket = config.websocket
    names = own_names(config.bind_address, config.metrics.bind_address)
    return WebSocketSettings(
        paths=websocket_paths(config),
        origins=OriginPolicy(names, websocket.origins),
        # A WebSocket message may hold several packets.
        message_size_max=config.max_message_size_kb * KIB + WEBSOCKET_SLACK,
    )


def websocket_paths(config: BrokerConfig) -> tuple[str, ...]:
    """Return the paths WebSocket is served at."""
    path = config.websocket.path
    return USUAL_PATHS if path is None else (path,)


def told_path(config: BrokerConfig) -> str:
    """Return the path that clients are told of several."""
    return config.websocket.path or TOLD_PATH


def page(config: BrokerConfig) -> Page:
    """What the operation port shows to a browser."""
    return Page(ws=config.ws, wss=config.wss, path=told_path(config))


def tls_settings(tls: Tls) -> TlsSettings:
    """Where certificates are."""
    password = tls.key_store_password
    return TlsSettings(
        cert_file=_path(tls.cert_file),
        key_file=_path(tls.key_file),
        key_store=_path(tls.key_store),
        key_store_password="" if password is None else password.get_secret_value(),
        client_ca_file=_path(tls.client_ca_file),
        require_client_cert=tls.require_client_cert,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
