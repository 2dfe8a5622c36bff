"""``make kafka``: a server for trying things, without login and without topics.

It serves 127.0.0.1:9092, or the port that ``KAFKA_PORT`` names, until Ctrl-C; then all its data is
deleted.
"""

import os
import signal
import sys

from tests.support.broker import LOOPBACK
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import VERSION, KafkaFailed

PORT = 9092
TOPIC = "monstermq-stream"
"""The bus topic of ``examples/config-kafka-bus.yaml``."""


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    port = int(os.environ.get("KAFKA_PORT", PORT))
    # SIGINT too, because a shell lets what it starts in the background ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    server = KafkaServer(port=port)
    try:
        server.start()
        print(_instructions(port), flush=True)
        server.wait()
    except KafkaFailed as exc:
        print(exc, "If the port is taken: make kafka KAFKA_PORT=9093", file=sys.stderr, sep="\n")
        return 1
    except KeyboardInterrupt:
        return 0
    else:
        print(f"the server ended by itself:\n{server.log}", file=sys.stderr)
        return 1
    finally:
        server.close()


def _instructions(port: int) -> str:
    address = f"{LOOPBACK}:{port}"
    elsewhere = "" if port == PORT else f"MONSTERMQ_KAFKA__SERVERS={address} "
    return "\n".join(
        [
            f"Kafka {VERSION} runs on {address}; Ctrl-C stops it and deletes its data.",
            "",
            f'  {elsewhere}make run ARGS="-config examples/config-kafka-bus.yaml"',
            f"  scripts/kafka-console-consumer --bootstrap-server {address} --topic {TOPIC} "
            "--from-beginning | jq .",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
