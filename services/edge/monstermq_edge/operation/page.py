"""The page at ``/`` of the operation port: a browser that listens and publishes.

Its policy lets it run its own script and open WebSockets, and nothing else: no other script, no
form, no frame around it in which a click could be stolen.
"""

import base64
import hashlib
import html
import re
from importlib.resources import files

_PLACE = 'data-websocket=""'
_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src {connect}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page:
    """What is sent for ``/``.

    Attributes:
        body: The page, in UTF-8.
        headers: What goes with it.
    """

    def __init__(self, *, ws: int = 0, wss: int = 0, path: str = "/") -> None:
        """Write the page.

        Args:
            ws: The port of MQTT over WebSocket, 0 if it is closed.
            wss: The port of secure WebSocket, used if the other is closed.
            path: Where WebSocket is served.
        """
        scheme, port = ("ws", ws) if ws else ("wss", wss)
        # The host is the one the browser found this page at.
        url = html.escape(f"{scheme}://*:{port}{path}") if port else ""
        text = (files(__package__) / "page.html").read_text(encoding="utf-8")
        policy = _POLICY.format(
            script=_hash_of("script", text),
            style=_hash_of("style", text),
            connect=f"{scheme}:" if port else "'none'",
        )
        self.body = text.replace(_PLACE, f'data-websocket="{url}"', 1).encode()
        self.headers = {
            "content-type": "text/html; charset=utf-8",
            "content-security-policy": policy,
            "referrer-policy": "no-referrer",
        }


def _hash_of(element: str, text: str) -> str:
    """Return how a policy names the element's content (CSP 3, 2.3.1)."""
    found = re.search(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    assert found is not None
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
