"""What HTTP servers of ours have in common: a silent uvicorn, whose connections have a deadline."""

import asyncio
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState


def silent_config(
    app: ASGIApp, *, headers: Sequence[tuple[str, str]], idle_s: int, head_size_max: int
) -> Config:
    """Return a configuration, loaded: HTTP alone, and nothing that a peer sends is logged.

    Args:
        app: What answers.
        headers: What every answer has.
        idle_s: How long a connection may be idle between requests.
        head_size_max: A request line and headers of more bytes are answered with 400.
    """
    config = Config(
        app,
        http=H11Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=list(headers),
        timeout_keep_alive=idle_s,
        h11_max_incomplete_event_size=head_size_max,
    )
    config.load()
    return config


class HttpConnection(H11Protocol):
    """uvicorn's, with a deadline: it alone would wait for ever.

    Args:
        config: See ``silent_config``.
        state: Of the server.
    """

    def __init__(self, config: Config, state: ServerState) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def latest(self) -> RequestResponseCycle | None:
        """The request that is being answered or was answered last, None before the first."""
        # The base class begins without a cycle, although it declares one.
        return self.cycle

    def set_deadline(self, seconds: float, late: Callable[[], None]) -> None:
        """Call ``late`` after so long, instead of what was to be called before."""
        self._forget_deadline()
        self._deadline = self.loop.call_later(seconds, late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the deadline back."""
        self._forget_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse garbage, unless it came behind a request: that is answered once, or not at all."""
        if self.latest is None:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
