"""A connection to Kafka that has just been lost is an error of the client's, on uvloop too.

aiokafka takes an ``OSError`` of a write for a broken connection. uvloop raises a ``RuntimeError``
(aio-libs/aiokafka#1038), which ends what aiokafka does in the background: whoever then waits for
its metadata waits for ever, and a consumer stops without a word.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

from monstermq_shared.lost_writes import is_lost_write

Send = Callable[..., Coroutine[Any, Any, Any]]
"""A method of a connection that writes at once; its result is the answer to come."""


def _told(send: Send) -> Send:
    @wraps(send)
    def send_or_tell(
        connection: AIOKafkaConnection,
        *args: Any,  # noqa: ANN401 - aiokafka's own
        **kwargs: Any,  # noqa: ANN401 - the same
    ) -> Coroutine[Any, Any, Any]:
        try:
            return send(connection, *args, **kwargs)
        except RuntimeError as exc:
            if not is_lost_write(exc):
                raise
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            at = f"{connection.host}:{connection.port}"
            raise KafkaConnectionError(f"Connection at {at} broken: {exc}") from exc

    return send_or_tell


_METHODS = {name: _told(getattr(AIOKafkaConnection, name)) for name in ("send", "_send_sasl_token")}


def tell_lost_writes() -> None:
    """From now on, let every aiokafka client of this process notice that a connection is lost.

    It has no other place for that than its own class. Once is enough; again does no harm.
    """
    for name, method in _METHODS.items():
        setattr(AIOKafkaConnection, name, method)
