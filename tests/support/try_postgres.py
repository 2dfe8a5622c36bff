"""``make postgres``: a server for trying things, with the quick start's role and database.

It serves 127.0.0.1:5432, or the port that ``POSTGRES_PORT`` names, until Ctrl-C; then all its data
is deleted.
"""

import os
import signal
import sys

from tests.support.broker import LOOPBACK
from tests.support.postgres import PASSWORD, ROLE, PostgresFailed, PostgresServer

DATABASE = "monster"
PORT = 5432


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    port = int(os.environ.get("POSTGRES_PORT", PORT))
    # SIGINT too, because a shell lets what it starts in the background ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    server = PostgresServer(port=port)
    try:
        server.start()
        server.create_database(DATABASE)
        server.psql(f'ALTER ROLE "{ROLE}" CREATEROLE')  # monstermq db init makes a role that reads
        print(_instructions(port), flush=True)
        server.wait()
    except PostgresFailed as exc:
        print(
            exc, "If the port is taken: make postgres POSTGRES_PORT=5433", file=sys.stderr, sep="\n"
        )
        return 1
    except KeyboardInterrupt:
        return 0
    else:
        print(f"the server ended by itself:\n{server.log}", file=sys.stderr)
        return 1
    finally:
        server.close()


def _instructions(port: int) -> str:
    elsewhere = ""
    if port != PORT:
        url = f"jdbc:postgresql://{LOOPBACK}:{port}/{DATABASE}"
        elsewhere = f"MONSTERMQ_POSTGRES__URL={url} "
    return "\n".join(
        [
            f"PostgreSQL runs on {LOOPBACK}:{port}; Ctrl-C stops it and deletes its data.",
            "",
            f"  PGPASSWORD={PASSWORD} psql -h {LOOPBACK} -p {port} -U {ROLE} {DATABASE}",
            f'  {elsewhere}make run ARGS="-config examples/config-postgres.yaml"',
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
