"""A process under a supervisor that is not ready when it is asked for the first times."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from monstermq_shared.supervisor.supervised import Supervised

UNREADY = 2
"""How often it is asked before it is ready."""


class Handler(BaseHTTPRequestHandler):
    """Answers ``/ready``."""

    asked = 0

    def do_GET(self) -> None:
        Handler.asked += 1
        self.send_response(200 if Handler.asked > UNREADY else 503)
        self.end_headers()
        self.wfile.write(b'{"reasons":[],"warnings":["it took long"]}')


def main() -> None:
    """Answer on the supervisor's socket, until it is killed."""
    supervised = Supervised.parse(sys.argv[-1])
    assert supervised is not None
    server = HTTPServer(("", 0), Handler, bind_and_activate=False)
    server.socket = supervised.listener()
    server.serve_forever()


if __name__ == "__main__":
    main()
