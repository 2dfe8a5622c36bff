"""A Kafka server that asks everybody who he is, and rights as the document gives them."""

import os
import shlex
import subprocess
from pathlib import Path

from tests.lake.document import SERVERS, blocks
from tests.support.kafka import KafkaServer
from tests.support.kafka_security import PASSWORD, Security
from tests.support.kafka_tools import VERSION, classes_file, java

SECTION = "Who may write the bus"
LOGIN = "SASL_PLAINTEXT"
"""The port where one logs in; who comes by PLAINTEXT may do everything."""

_USERS = ("edge", "projector", "mcp", "analyst")
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_BOUND_S = 120.0


def guarded_server() -> KafkaServer:
    """Return a server, not yet started, whose users may do nothing yet."""
    passwords = " ".join(f'user_{user}="{PASSWORD}"' for user in _USERS)
    return KafkaServer(
        security=Security(sasl=True, authorize=True),
        settings={
            f"listener.name.{LOGIN.lower()}.plain.sasl.jaas.config": f"{_PLAIN} {passwords};"
        },
    )


def give_rights(server: KafkaServer, folder: Path) -> None:
    """Run the document's commands, by Kafka's own tool.

    Args:
        server: It runs.
        folder: An empty one, for a program of the name that the commands have.
    """
    package = "kafka.admin" if VERSION.startswith("3.") else "org.apache.kafka.tools"
    quick = [f"-XX:SharedArchiveFile={classes_file(VERSION)}"]
    command = shlex.join(java(VERSION, f"{package}.AclCommand", options=quick))
    tool = folder / "kafka-acls"
    tool.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    for block in blocks(SECTION, "sh"):
        subprocess.run(
            ["bash", "-e", "-c", block.replace(SERVERS, server.address())],
            env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            timeout=_BOUND_S,
            check=True,
        )


def login(user: str) -> dict[str, str]:
    """Return the variables that make a process of the broker log in as a user."""
    return {"MONSTERMQ_KAFKA__SECURITY__USER": user, "MONSTERMQ_KAFKA__SECURITY__PASS": PASSWORD}
