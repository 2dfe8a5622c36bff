"""Telling systemd how far the process is, by the protocol of ``sd_notify(3)``."""

import logging
import os
import socket

logger = logging.getLogger(__name__)

ADDRESS_VARIABLE = "NOTIFY_SOCKET"
"""The variable that says where the service manager listens."""

READY = "READY=1"
"""Everything listens and may be used."""

STOPPING = "STOPPING=1"
"""The process has begun to stop."""


def notify(state: str) -> bool:
    """Send ``state`` to the service manager that started us; return whether it was sent.

    Without one (``NOTIFY_SOCKET`` is not set) nothing happens. It never raises: a broker that
    serves its clients is not ended because nobody could be told.
    """
    address = os.environ.get(ADDRESS_VARIABLE, "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket has no file
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.connect(address)
            channel.send(state.encode())
    except (OSError, ValueError) as exc:
        logger.warning("the service manager could not be told %s: %s", state, exc)
        return False
    return True
